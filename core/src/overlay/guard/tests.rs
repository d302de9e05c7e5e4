use proptest::prelude::*;

use super::*;
use crate::overlay::cluster::{RawCluster, RawNetwork, RawNode};

const ME: u8 = 0;

/// Node 0 is this one and always listed; `renumbered` nodes have the subnet of the node before them.
fn cluster(peers: &[u8]) -> Arc<Cluster> {
    named(&peers.iter().map(|n| (format!("n{n}"), *n)).collect::<Vec<_>>())
}

fn named(peers: &[(String, u8)]) -> Arc<Cluster> {
    let me = (format!("n{ME}"), ME);
    let nodes = std::iter::once(&me).chain(peers).map(|(name, n)| RawNode {
        name: name.clone(),
        address: format!("192.0.2.{}", n + 1),
        subnets: vec![format!("10.244.{n}.0/24")],
    });
    let network = RawNetwork { ipv4: Some("10.244.0.0/16".to_owned()), ipv6: None };
    Arc::new(Cluster::check(&RawCluster { network, nodes: nodes.collect() }).unwrap())
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn guard(rule: Rule) -> Guard {
    Guard::new(rule, format!("n{ME}").parse().unwrap(), None)
}

fn size(verdict: &Verdict) -> usize {
    verdict.cluster.nodes.len() - 1
}

fn forty() -> Arc<Cluster> {
    cluster(&(1..=40).collect::<Vec<_>>())
}

#[test]
fn most_peers_stay_until_their_loss_is_confirmed_by_time() {
    let mut guard = guard(Rule::default());
    assert_eq!(size(&guard.admit(&forty(), Health::Good, seconds(0))), 40);
    let two = cluster(&[1, 2]);
    let verdict = guard.admit(&two, Health::Good, seconds(100));
    assert_eq!(size(&verdict), 40);
    assert_eq!(verdict.held.unwrap().to_string(), "store lists 2 of 40 peers; keeping 38");
    assert_eq!(verdict.held.unwrap().until, seconds(130));
    // Read again, also as another value: that is no confirmation, time is.
    let again = guard.admit(&cluster(&[1, 2]), Health::Good, seconds(129));
    assert_eq!((size(&again), again.held.unwrap().until), (40, seconds(130)));
    assert!(Arc::ptr_eq(&again.cluster, &verdict.cluster), "nothing changed");
    let confirmed = guard.admit(&two, Health::Good, seconds(130));
    assert_eq!((size(&confirmed), confirmed.held), (2, None));
}

#[test]
fn a_store_that_cannot_be_read_confirms_nothing() {
    let mut guard = guard(Rule::default());
    guard.admit(&forty(), Health::Good, seconds(0));
    let two = cluster(&[1, 2]);
    guard.admit(&two, Health::Good, seconds(1));
    assert_eq!(size(&guard.admit(&two, Health::Bad, seconds(500))), 40);
    assert_eq!(size(&guard.admit(&two, Health::Good, seconds(501))), 2);
}

#[test]
fn who_comes_back_was_never_away_and_the_next_loss_counts_anew() {
    let mut guard = guard(Rule::default());
    guard.admit(&forty(), Health::Good, seconds(0));
    guard.admit(&cluster(&[1]), Health::Good, seconds(1));
    assert_eq!(guard.admit(&forty(), Health::Good, seconds(20)).held, None);
    let lost = guard.admit(&cluster(&[1]), Health::Good, seconds(40));
    assert_eq!((size(&lost), lost.held.unwrap().until), (40, seconds(70)));
}

#[test]
fn joiners_and_changes_are_taken_at_once() {
    let mut guard = guard(Rule::default());
    guard.admit(&forty(), Health::Good, seconds(0));
    // 1 is renumbered, 50 joins, 2 was replaced by a node of another name with its address and subnet.
    let peers = [("n1".to_owned(), 60), ("n50".to_owned(), 50), ("other".to_owned(), 2)];
    let verdict = guard.admit(&named(&peers), Health::Good, seconds(1));
    let find = |name: &str| verdict.cluster.member(&name.parse().unwrap());
    assert_eq!(find("n1").unwrap().address.to_string(), "192.0.2.61");
    assert!(find("n50").is_some() && find("other").is_some());
    assert!(find("n2").is_none(), "its place is taken");
    assert!(find("n3").is_some() && verdict.held.is_some());
}

#[test]
fn small_losses_go_at_once_but_add_up() {
    let mut guard = guard(Rule::default());
    guard.admit(&forty(), Health::Good, seconds(0));
    let down_to = |n: u8| cluster(&(1..=n).collect::<Vec<_>>());
    for (n, seen) in [(35, 35), (28, 28), (20, 20), (19, 20), (5, 20)] {
        assert_eq!(size(&guard.admit(&down_to(n), Health::Good, seconds(1))), seen, "{n}");
    }
    // Three at most are always believed.
    let mut guard = super::tests::guard(Rule::default());
    guard.admit(&cluster(&[1, 2, 3]), Health::Good, seconds(0));
    assert_eq!(size(&guard.admit(&cluster(&[]), Health::Good, seconds(1))), 0);
}

#[test]
fn an_earlier_runs_peers_count() {
    let me = format!("n{ME}").parse().unwrap();
    let mut guard = Guard::new(Rule::default(), me, Some(forty()));
    assert_eq!(size(&guard.admit(&cluster(&[7]), Health::Good, seconds(0))), 40);
}

fn walk() -> impl Strategy<Value = Vec<(Vec<u8>, u64, bool)>> {
    let list = prop::collection::btree_set(1u8..24, 0..24).prop_map(|set| set.into_iter().collect());
    prop::collection::vec((list, 0u64..20, any::<bool>()), 1..30)
}

proptest! {
    /// Whatever a store does: everything listed is in use; nobody unknown is; within one confirmation time
    /// no more go unconfirmed than the rule allows; and what it says for long enough holds.
    #[test]
    fn no_store_takes_most_peers_away_at_once(walk in walk(), share in 0u8..=100) {
        let rule = Rule { max_share: share, confirm: seconds(30) };
        let mut guard = guard(rule);
        let all: Vec<u8> = (1..24).collect();
        let mut before = guard.admit(&cluster(&all), Health::Good, seconds(0)).cluster;
        // When each node was last listed, and when unconfirmed ones went.
        let mut listed_at: BTreeMap<u8, u64> = all.iter().map(|n| (*n, 0)).collect();
        let (mut now, mut gone) = (0, Vec::<(u64, u8)>::new());
        let name = |n: u8| format!("n{n}").parse::<NodeName>().unwrap();
        for (list, pause, good) in &walk {
            now += pause;
            let health = if *good { Health::Good } else { Health::Bad };
            let after = guard.admit(&cluster(list), health, seconds(now)).cluster;
            prop_assert!(list.iter().all(|n| after.member(&name(*n)).is_some()));
            for n in &all {
                let (had, has) = (before.member(&name(*n)).is_some(), after.member(&name(*n)).is_some());
                prop_assert!(has <= had || list.contains(n), "{n} came from nowhere");
                if had && !has && now - listed_at[n] < 30 {
                    gone.push((now, *n));
                }
            }
            gone.retain(|(at, n)| now - at < 30 && !list.contains(n));
            list.iter().for_each(|n| { listed_at.insert(*n, now); });
            let most = ALWAYS_BELIEVED.max((before.nodes.len() - 1 + gone.len()) * usize::from(share) / 100);
            prop_assert!(gone.len() <= most, "{gone:?} of {}", before.nodes.len() - 1);
            before = after;
        }
        let (list, ..) = walk.last().unwrap();
        guard.admit(&cluster(list), Health::Good, seconds(now));
        let settled = guard.admit(&cluster(list), Health::Good, seconds(now + 31));
        prop_assert_eq!(settled.cluster.nodes.len() - 1, list.len());
        prop_assert_eq!(settled.held, None);
    }
}
