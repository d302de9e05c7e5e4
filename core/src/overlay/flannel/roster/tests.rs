use proptest::prelude::*;

use super::super::claim::Pods;
use super::*;

fn network(rest: &str) -> Network {
    let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}{rest}}}"#);
    Network::read(text.as_bytes()).unwrap()
}

fn settings(backend: Backend) -> Settings {
    Settings {
        node: "n1".parse().unwrap(),
        backend,
        vni: 1.try_into().unwrap(),
        port: 8472,
        peers_only: true,
        uplink_segment_size: None,
    }
}

fn offer(ip: &str, last: u8) -> Offer {
    Offer {
        v4: Some(ip.parse().unwrap()),
        v6: None,
        travels: Travels::Vxlan {
            vni: 1.try_into().unwrap(),
            v4: Some(Mac([2, 0, 0, 0, 0, last])),
            v6: None,
        },
        node: None,
    }
}

fn entry(key: &str, ip: &str, created: i64, mac: u8) -> Entry {
    Entry { key: key.parse().unwrap(), offer: Ok(offer(ip, mac)), created }
}

fn roster_with(backend: Backend, entries: &[Entry]) -> Roster {
    let offer = Offer { node: Some("n1".parse().unwrap()), ..offer("192.0.2.1", 1) };
    let me = Me { offer, previous: None, pods: Pods::None };
    let key = "10.5.1.0-24".parse().unwrap();
    Roster::of((&network(""), &settings(backend)), (&me, key), (entries.iter(), [].iter())).unwrap()
}

fn roster(entries: &[Entry]) -> Roster {
    roster_with(Backend::Vxlan, entries)
}

/// Names of the members, and what is said of the others.
fn told(roster: &Roster) -> (Vec<String>, Vec<String>) {
    let names = roster.cluster.nodes.iter().map(|node| node.name.to_string()).collect();
    (names, roster.rejected.iter().map(ToString::to_string).collect())
}

#[test]
fn a_flannel_node_is_a_member_with_the_mac_it_published() {
    let roster = roster(&[entry("10.5.1.0-24", "192.0.2.1", 1, 1), entry("10.5.2.0-24", "192.0.2.2", 2, 2)]);
    assert_eq!(told(&roster), (vec!["n1".to_owned(), "10.5.2.0-24".to_owned()], vec![]));
    let peer = &roster.cluster.nodes[1];
    assert_eq!((peer.vtep, peer.address.to_string()), (Mac([2, 0, 0, 0, 0, 2]), "192.0.2.2".to_owned()));
    assert_eq!(roster.cluster.nodes[0].vtep, Mac::of_vtep(&"n1".parse().unwrap()));
}

#[test]
fn what_makes_no_sense_costs_nobody_else_their_place() {
    let name = |node: &str, entry: Entry| {
        let offer = Offer { node: Some(node.parse().unwrap()), ..entry.offer.unwrap() };
        Entry { offer: Ok(offer), ..entry }
    };
    let other = |travels: Travels, entry: Entry| Entry {
        offer: Ok(Offer { travels, ..entry.offer.unwrap() }),
        ..entry
    };
    let vni = Travels::Vxlan { vni: 9.try_into().unwrap(), v4: Some(Mac([2, 0, 0, 0, 0, 10])), v6: None };
    let broken = Entry { offer: Offer::read(b"{"), ..entry("10.5.30.0-24", "192.0.2.30", 30, 30) };
    assert!(broken.offer.is_err());
    let entries = [
        name("n2", entry("10.5.2.0-24", "192.0.2.2", 20, 2)),
        name("n2", entry("10.5.3.0-24", "192.0.2.3", 21, 3)),
        entry("10.5.1.128-25", "192.0.2.4", 1, 4),
        entry("10.5.2.0-25", "192.0.2.5", 25, 5),
        entry("10.5.0.0-20", "192.0.2.6", 26, 6),
        entry("10.5.40.0-24", "192.0.2.40", 3, 40),
        entry("10.5.41.0-24", "192.0.2.40", 4, 40),
        entry("10.5.42.0-24", "192.0.2.1", 4, 42),
        entry("10.6.1.0-24", "192.0.2.7", 5, 7),
        entry("10.5.50.0-24", "127.0.0.1", 5, 50),
        entry("10.5.51.0-24", "10.5.51.1", 5, 51),
        entry("10.5.52.0-24", "192.0.2.52", 27, 2),
        other(vni, entry("10.5.53.0-24", "192.0.2.53", 5, 53)),
        other(Travels::HostGw, entry("10.5.54.0-24", "192.0.2.54", 5, 54)),
        other(Travels::Other("wireguard".to_owned()), entry("10.5.55.0-24", "192.0.2.55", 5, 55)),
        broken,
    ];
    let (names, rejected) = told(&roster(&entries));
    assert_eq!(names, ["n1", "n2", "10.5.3.0-24", "10.5.41.0-24"]);
    for part in [
        "entry 10.5.1.128-25 is left out: subnet 10.5.1.128/25 overlaps 10.5.1.0/24 of n1",
        "entry 10.5.2.0-25 is left out: subnet 10.5.2.0/25 overlaps 10.5.2.0/24 of n2",
        "entry 10.5.0.0-20 is left out: subnet 10.5.0.0/20 overlaps 10.5.1.0/24 of n1",
        "entry 10.5.40.0-24 is left out: the node at 192.0.2.40 has 10.5.41.0-24 by now",
        "entry 10.5.42.0-24 is left out: this node has left it behind",
        "entry 10.6.1.0-24 is left out: subnet 10.6.1.0/24 lies outside",
        "entry 10.5.50.0-24 is left out: address 127.0.0.1",
        "entry 10.5.51.0-24 is left out: address 10.5.51.1 lies inside",
        "entry 10.5.52.0-24 is left out: it has the VtepMAC 02:00:00:00:00:02 of n2",
        "entry 10.5.53.0-24 is left out: it is in VXLAN 9, this node in 1",
        "entry 10.5.54.0-24 is left out: its backend is host-gw",
        "entry 10.5.55.0-24 is left out: its backend is \"wireguard\"",
        "entry 10.5.30.0-24 is left out: the value is not a JSON object",
    ] {
        assert!(rejected.iter().any(|text| text.contains(part)), "{part}\n{rejected:#?}");
    }
    assert_eq!(rejected.len(), 13);
}

#[test]
fn a_host_gw_node_is_reached_where_packets_may_travel_as_they_are() {
    let other = entry("10.5.2.0-24", "192.0.2.2", 2, 2);
    let other = Entry { offer: Ok(Offer { travels: Travels::HostGw, ..other.offer.unwrap() }), ..other };
    for (backend, members) in [(Backend::Direct, 2), (Backend::Auto, 2), (Backend::Vxlan, 1)] {
        let roster = roster_with(backend, std::slice::from_ref(&other));
        assert_eq!(roster.cluster.nodes.len(), members, "{backend}");
    }
}

#[test]
fn who_vanished_stays_until_somebody_has_the_place() {
    let me = Me { offer: offer("192.0.2.1", 1), previous: None, pods: Pods::None };
    let key = "10.5.1.0-24".parse().unwrap();
    let gone = [entry("10.5.2.0-24", "192.0.2.2", 2, 2)];
    let members = |entries: &[Entry]| {
        let leaving = gone.iter();
        let settings = settings(Backend::Vxlan);
        let roster = Roster::of((&network(""), &settings), (&me, key), (entries.iter(), leaving)).unwrap();
        assert_eq!(roster.rejected, vec![]);
        told(&roster).0
    };
    assert_eq!(members(&[]), ["n1", "10.5.2.0-24"]);
    assert_eq!(members(&[entry("10.5.2.0-23", "192.0.2.9", 9, 9)]), ["n1", "10.5.2.0-23"]);
    assert_eq!(members(&[entry("10.5.3.0-24", "192.0.2.2", 9, 2)]), ["n1", "10.5.3.0-24"]);
}

#[test]
fn six_alone_has_a_name() {
    let network = network(r#","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:5::/48""#);
    let six = |ip: &str, last| Offer {
        v4: None,
        v6: Some(ip.parse().unwrap()),
        travels: Travels::Vxlan {
            vni: 1.try_into().unwrap(),
            v4: None,
            v6: Some(Mac([2, 0, 0, 0, 0, last])),
        },
        node: None,
    };
    let me = Me { offer: six("2001:db8::1", 1), previous: None, pods: Pods::None };
    let key = "0.0.0.0-0&fd00:5:0:1::-64".parse().unwrap();
    let other = "0.0.0.0-0&fd00:5:0:2::-64".parse().unwrap();
    let entries = [Entry { key: other, offer: Ok(six("2001:db8::2", 2)), created: 1 }];
    let roster =
        Roster::of((&network, &settings(Backend::Vxlan)), (&me, key), (entries.iter(), [].iter())).unwrap();
    assert_eq!(told(&roster).0, ["n1", "0.0.0.0-0_fd00_5_0_2__-64"]);
}

#[test]
fn a_large_network_is_a_large_cluster() {
    let entries: Vec<Entry> = (0..20_000u32)
        .map(|i| {
            let (net, ip) = ((0x0a40_0000 | i << 6), 0xc612_0000 + i);
            let [a, b, c, d] = net.to_be_bytes();
            let mac = i.to_be_bytes();
            let mut offer = offer(&std::net::Ipv4Addr::from(ip).to_string(), 0);
            offer.travels = Travels::Vxlan {
                vni: 1.try_into().unwrap(),
                v4: Some(Mac([2, 1, mac[0], mac[1], mac[2], mac[3]])),
                v6: None,
            };
            Entry { key: format!("{a}.{b}.{c}.{d}-26").parse().unwrap(), offer: Ok(offer), created: 1 }
        })
        .collect();
    let text = r#"{"Network":"10.0.0.0/8","SubnetLen":26,"Backend":{"Type":"vxlan"}}"#;
    let network = Network::read(text.as_bytes()).unwrap();
    let me = Me { offer: offer("192.0.2.1", 1), previous: None, pods: Pods::None };
    let key = "10.0.1.0-26".parse().unwrap();
    let roster =
        Roster::of((&network, &settings(Backend::Vxlan)), (&me, key), (entries.iter(), [].iter())).unwrap();
    assert_eq!((roster.cluster.nodes.len(), roster.rejected), (20_001, vec![]));
}

#[test]
fn a_node_like_others_joins_alone() {
    let entries = [("10.5.2.0-24", 2), ("10.5.4.0-24", 4), ("10.5.3.0-24", 3)]
        .map(|(key, n)| entry(key, &format!("192.0.2.{n}"), i64::from(n), n));
    let entries = [entries[0].clone(), entries[2].clone(), entries[1].clone()];
    let me = Me { offer: offer("192.0.2.1", 1), previous: None, pods: Pods::None };
    let (network, settings) = (network(""), settings(Backend::Vxlan));
    let joined = roster(&entries[..2]).join((&network, &settings), &me, &[&entries[2]], entries.iter());
    assert_eq!(joined, Some(roster(&entries)));
    // One that is older than what is there may have come first.
    let joined = roster(&entries[1..]).join((&network, &settings), &me, &[&entries[0]], entries.iter());
    assert_eq!(joined, None);
}

proptest! {
    /// Whoever joins one by one makes the same cluster as all at once.
    #[test]
    fn joining_is_as_having_been_there(
        raw in prop::collection::vec((0u8..12, 22u8..26, 1u8..20, 0u8..20, any::<bool>()), 1..12),
        many in 1usize..4,
    ) {
        let mut entries: Vec<Entry> = Vec::new();
        for (i, (block, prefix, ip, mac, named)) in (1i64..).zip(raw) {
            let net: ipnetwork::Ipv4Network = format!("10.5.{block}.0/{prefix}").parse().unwrap();
            let mut new = entry(&format!("{}-{prefix}", net.network()), &format!("192.0.2.{ip}"), i, mac);
            if named && let Ok(offer) = &mut new.offer {
                offer.node = Some(format!("n{}", ip / 2).parse().unwrap());
            }
            if entries.iter().all(|entry| entry.key != new.key) {
                entries.push(new);
            }
        }
        let (network, settings) = (network(""), settings(Backend::Vxlan));
        let offer = Offer { node: Some("n1".parse().unwrap()), ..offer("192.0.2.1", 1) };
        let me = Me { offer, previous: None, pods: Pods::None };
        let mut known = roster(&[]);
        let mut count = 0;
        while count < entries.len() {
            let next = (count + many).min(entries.len());
            let new: Vec<&Entry> = entries[count..next].iter().collect();
            let joined = known.join((&network, &settings), &me, &new, entries[..next].iter());
            known = roster(&entries[..next]);
            prop_assert_eq!(joined.as_ref().unwrap_or(&known), &known);
            count = next;
        }
    }

    /// Whatever is in the store: this node keeps its subnet, no two members share an address, and every
    /// entry is a member or named.
    #[test]
    fn members_never_clash(raw in prop::collection::vec((0u8..12, 20u8..28, 1u8..12, 0i64..6, 0u8..12), 0..30)) {
        let entries: Vec<Entry> = raw.iter().map(|(block, prefix, ip, created, mac)| {
            let net: ipnetwork::Ipv4Network = format!("10.5.{block}.0/{prefix}").parse().unwrap();
            entry(&format!("{}-{prefix}", net.network()), &format!("192.0.2.{ip}"), *created, *mac)
        }).collect();
        let mut keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
        keys.sort();
        keys.dedup();
        prop_assume!(keys.len() == entries.len());
        let roster = roster(&entries);
        let nodes = &roster.cluster.nodes;
        prop_assert_eq!(nodes.iter().filter(|node| node.name.as_str() == "n1").count(), 1);
        for (i, a) in nodes.iter().enumerate() {
            for b in &nodes[..i] {
                prop_assert!(a.address != b.address && a.name != b.name && a.vtep != b.vtep);
                let (a, b) = (a.subnets[0], b.subnets[0]);
                prop_assert!(!a.contains(b.ip()) && !b.contains(a.ip()), "{a} {b}");
            }
        }
        let own = entries.iter().filter(|entry| {
            entry.key.to_string() == "10.5.1.0-24" && entry.offer.as_ref().unwrap().address() == Some([192, 0, 2, 1].into())
        }).count();
        prop_assert_eq!(nodes.len() - 1 + roster.rejected.len() + own, entries.len());
    }
}
