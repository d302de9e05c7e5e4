use proptest::prelude::*;

use super::super::offer::Travels;
use super::*;
use crate::link::Mac;

fn network(rest: &str) -> Network {
    let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}{rest}}}"#);
    Network::read(text.as_bytes()).unwrap()
}

fn offer(ip: &str, node: Option<&str>) -> Offer {
    Offer {
        v4: Some(ip.parse().unwrap()),
        v6: None,
        travels: Travels::Vxlan { vni: 1.try_into().unwrap(), v4: Some(Mac([2, 0, 0, 0, 0, 1])), v6: None },
        node: node.map(|name| name.parse().unwrap()),
    }
}

fn entry(key: &str, ip: &str, created: i64) -> Entry {
    Entry { key: key.parse().unwrap(), offer: Ok(offer(ip, None)), created }
}

fn me(previous: Option<&str>, pods: Pods) -> Me {
    Me { offer: offer("192.0.2.1", Some("n1")), previous: previous.map(|key| key.parse().unwrap()), pods }
}

fn stand(me: &Me, entries: &[Entry]) -> Standing {
    me.stand(&network(""), entries.iter(), 0)
}

fn free_key(key: &str) -> Standing {
    Standing::Free(key.parse().unwrap())
}

#[test]
fn the_first_subnet_of_an_empty_network_is_never_the_networks_own() {
    assert_eq!(stand(&me(None, Pods::None), &[]), free_key("10.5.1.0-24"));
    let last = me(None, Pods::None).stand(&network(""), [].iter(), 99);
    assert_eq!(last, free_key("10.5.100.0-24"), "one of the first hundred");
}

#[test]
fn the_lease_of_ones_address_comes_first_then_the_previous_subnet() {
    let mine = entry("10.5.9.0-24", "192.0.2.1", 5);
    let node = me(Some("10.5.7.0-24"), Pods::None);
    assert_eq!(
        stand(&node, std::slice::from_ref(&mine)),
        Standing::Outdated(mine.key),
        "flannel's has no name"
    );
    let named = Entry { offer: Ok(node.offer.clone()), ..mine };
    assert_eq!(stand(&node, std::slice::from_ref(&named)), Standing::Held(named.key));
    assert_eq!(stand(&node, &[entry("10.5.9.0-24", "192.0.2.2", 5)]), free_key("10.5.7.0-24"));
}

#[test]
fn a_node_whose_address_changed_knows_its_own() {
    let node = me(Some("10.5.7.0-24"), Pods::Some);
    let old =
        Entry { key: "10.5.7.0-24".parse().unwrap(), offer: Ok(offer("192.0.2.99", Some("n1"))), created: 5 };
    assert_eq!(stand(&node, std::slice::from_ref(&old)), Standing::Outdated(old.key));
    // A machine that was cloned with its name, but remembers nothing, is another node.
    assert!(matches!(stand(&me(None, Pods::None), &[old]), Standing::Free(_)));
}

#[test]
fn a_subnet_that_went_to_another_is_missed_only_by_pods() {
    let thief = entry("10.5.7.0-24", "192.0.2.9", 5);
    let lost = stand(&me(Some("10.5.7.0-24"), Pods::Some), std::slice::from_ref(&thief));
    assert!(matches!(&lost, Standing::Lost { why, .. } if why == "192.0.2.9 has 10.5.7.0-24"), "{lost:?}");
    assert_eq!(stand(&me(Some("10.5.7.0-24"), Pods::None), &[thief]), free_key("10.5.1.0-24"));
    let unreadable = Entry { offer: Offer::read(b""), ..entry("10.5.7.0-24", "192.0.2.9", 5) };
    let lost = stand(&me(Some("10.5.7.0-24"), Pods::Some), &[unreadable]);
    assert!(matches!(lost, Standing::Lost { .. }), "an unreadable value takes its subnet all the same");
}

#[test]
fn of_two_that_overlap_the_first_keeps_its_subnet() {
    let mut node = me(None, Pods::None);
    node.offer = offer("192.0.2.1", None);
    let mine = entry("10.5.7.0-24", "192.0.2.1", 6);
    let (before, after) = (entry("10.5.0.0-20", "192.0.2.2", 5), entry("10.5.0.0-20", "192.0.2.2", 7));
    assert_eq!(stand(&node, &[mine.clone(), after]), Standing::Held(mine.key));
    assert_eq!(stand(&node, &[mine.clone(), before.clone()]), Standing::Unusable(mine.key));
    node.pods = Pods::Some;
    assert!(matches!(stand(&node, &[mine, before]), Standing::Lost { .. }));
}

#[test]
fn a_network_that_changed_takes_subnets_back_when_no_pod_needs_them() {
    let mine = entry("10.6.7.0-24", "192.0.2.1", 6);
    assert_eq!(stand(&me(None, Pods::None), std::slice::from_ref(&mine)), Standing::Unusable(mine.key));
    assert!(matches!(stand(&me(None, Pods::Some), &[mine]), Standing::Lost { .. }));
    assert!(matches!(stand(&me(Some("10.6.7.0-24"), Pods::Some), &[]), Standing::Lost { .. }));
    assert_eq!(stand(&me(Some("10.6.7.0-24"), Pods::None), &[]), free_key("10.5.1.0-24"));
}

#[test]
fn a_full_network_is_full() {
    let entries: Vec<Entry> = (1..=255).map(|i| entry(&format!("10.5.{i}.0-24"), "192.0.2.2", i)).collect();
    assert_eq!(stand(&me(None, Pods::None), &entries), Standing::Full);
    assert_eq!(stand(&me(None, Pods::None), &entries[..254]), free_key("10.5.255.0-24"));
    assert_eq!(stand(&me(None, Pods::None), &[entry("10.0.0.0-8", "192.0.2.2", 1)]), Standing::Full);
}

#[test]
fn both_families_are_drawn() {
    let dual = network(r#","EnableIPv6":true,"IPv6Network":"fd00:5::/48""#);
    let taken = [entry("10.5.1.0-24&fd00:5:0:1::-64", "192.0.2.2", 1)];
    let standing = me(None, Pods::None).stand(&dual, taken.iter(), 0);
    assert_eq!(standing, free_key("10.5.2.0-24&fd00:5:0:2::-64"));
}

proptest! {
    /// What is drawn suits the network and overlaps nothing; nothing is drawn only where nothing is free.
    #[test]
    fn what_is_drawn_is_free(
        taken in prop::collection::vec((0u8..64, 22u8..=28), 0..40), random in any::<u64>(),
    ) {
        let text = r#"{"Network":"10.5.0.0/18","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
        let network = Network::read(text.as_bytes()).unwrap();
        let entries: Vec<Entry> = taken.iter().map(|(block, prefix)| {
            let net: ipnetwork::Ipv4Network = format!("10.5.{block}.0/{prefix}").parse().unwrap();
            entry(&format!("{}-{prefix}", net.network()), "192.0.2.2", 1)
        }).collect();
        let is_free = |i: u8| {
            let key: SubnetKey = format!("10.5.{i}.0-24").parse().unwrap();
            entries.iter().all(|entry| !entry.key.overlaps(key))
        };
        match me(None, Pods::None).stand(&network, entries.iter(), random) {
            Standing::Free(key) => {
                prop_assert!(network.suits(key));
                prop_assert!(entries.iter().all(|entry| !entry.key.overlaps(key)), "{}", key);
            }
            other => {
                prop_assert_eq!(other, Standing::Full);
                prop_assert!((1..64).all(|i| !is_free(i)));
            }
        }
    }

    /// Twenty nodes that take turns never share a subnet, whatever they draw.
    #[test]
    fn nodes_that_take_turns_never_share(draws in prop::collection::vec(any::<u64>(), 20)) {
        let network = network("");
        let mut entries: Vec<Entry> = Vec::new();
        for (i, random) in draws.into_iter().enumerate() {
            let mut node = me(None, Pods::None);
            node.offer = offer(&format!("192.0.2.{}", i + 1), None);
            let Standing::Free(key) = node.stand(&network, entries.iter(), random) else { panic!() };
            prop_assert!(entries.iter().all(|entry| !entry.key.overlaps(key)));
            entries.push(Entry { key, offer: Ok(node.offer.clone()), created: i64::try_from(i).unwrap() });
            prop_assert_eq!(node.stand(&network, entries.iter(), random), Standing::Held(key));
        }
    }
}
