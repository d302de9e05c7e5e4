use super::*;
use proptest::prelude::*;

fn node(name: &str, address: &str, subnets: &[&str]) -> RawNode {
    let subnets = subnets.iter().map(|s| (*s).to_owned()).collect();
    RawNode { name: name.to_owned(), address: address.to_owned(), subnets }
}

fn raw(nodes: Vec<RawNode>) -> RawCluster {
    let network =
        RawNetwork { ipv4: Some("10.244.0.0/16".to_owned()), ipv6: Some("fd00:10:244::/56".to_owned()) };
    RawCluster { network, nodes }
}

fn errors(nodes: Vec<RawNode>) -> String {
    Cluster::check(&raw(nodes)).unwrap_err().to_string()
}

#[test]
fn a_cluster_that_holds_together_is_taken() {
    let cluster = Cluster::check(&raw(vec![
        node("n1", "192.0.2.1", &["10.244.1.0/24", "fd00:10:244:1::/64"]),
        node("n2", "2001:db8::2", &["10.244.2.0/24"]),
    ]))
    .unwrap();
    assert_eq!(cluster.networks.len(), 2);
    assert_eq!(cluster.member(&"n2".parse().unwrap()).unwrap().address.to_string(), "2001:db8::2");
}

#[test]
fn overlap_names_both_nodes_and_both_subnets() {
    let e = errors(vec![
        node("n1", "192.0.2.1", &["10.244.0.0/20"]),
        node("n2", "192.0.2.2", &["10.244.16.0/24"]),
        node("n3", "192.0.2.3", &["10.244.2.0/24"]),
        node("n4", "192.0.2.4", &["10.244.3.0/24"]),
    ]);
    assert_eq!(
        e,
        "subnet 10.244.0.0/20 of node n1 overlaps subnet 10.244.2.0/24 of node n3; \
         subnet 10.244.0.0/20 of node n1 overlaps subnet 10.244.3.0/24 of node n4"
    );
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let e = errors(vec![
        node("n1", "192.0.2.1", &["10.244.1.7/24"]),
        node("n1", "192.0.2.9", &["10.244.9.0/24"]),
        node("../x", "192.0.2.2", &["10.244.2.0/24"]),
        node("n4", "localhost", &["10.244.3.0/31"]),
        node("n5", "192.0.2.9", &["192.168.0.0/24", "10.244.0.0/8", "fd01::/64"]),
        node("n6", "10.244.77.1", &[]),
        node("n7", "192.0.2.1", &["10.244.4.0"]),
    ]);
    for part in [
        "node n1: subnet \"10.244.1.7/24\" has host bits; the network is 10.244.1.0/24",
        "node n1 is listed twice",
        "nodes[2]: node name \"../x\" must start",
        "node n4: address \"localhost\" is not an IP address",
        "node n4: subnet \"10.244.3.0/31\" is too small for pods",
        "node n5: subnet \"192.168.0.0/24\" lies outside the pods' network 10.244.0.0/16",
        "node n5: subnet \"10.244.0.0/8\" has host bits",
        "node n5: subnet \"fd01::/64\" lies outside the pods' network fd00:10:244::/56",
        "node n6: address \"10.244.77.1\" lies inside the pods' network",
        "node n6: subnet \"\" is missing",
        "nodes n1 and n7 have the same address 192.0.2.1",
        "node n7: subnet \"10.244.4.0\" is not a network",
    ] {
        assert!(e.contains(part), "{part}\n{e}");
    }
}

#[test]
fn nothing_is_not_a_cluster() {
    let e = Cluster::check(&RawCluster { network: RawNetwork::default(), nodes: Vec::new() });
    assert_eq!(
        e.unwrap_err().to_string(),
        "network: neither ipv4 nor ipv6 is given; nodes: the list is empty; a cluster has at least one node"
    );
}

proptest! {
    /// The sweep finds an overlap exactly where comparing all pairs finds one.
    #[test]
    fn overlaps_are_found(subnets in prop::collection::vec((0u16..64, 20u8..28), 1..12)) {
        let nodes: Vec<Member> = subnets.iter().enumerate().map(|(i, (block, prefix))| {
            let [a, b] = (block << 8).to_be_bytes();
            let subnet = IpNetwork::new([10, 244, a, b].into(), *prefix).unwrap();
            let name: NodeName = format!("n{i}").parse().unwrap();
            Member {
                vtep: Mac::of_vtep(&name), name, address: [192, 0, 2, 1].into(),
                subnets: vec![IpNetwork::new(subnet.network(), *prefix).unwrap()],
            }
        }).collect();
        let mut found = Vec::new();
        find_overlaps(&nodes, &mut found);
        let shares = |a: IpNetwork, b: IpNetwork| a.contains(b.ip()) || b.contains(a.ip());
        let any = nodes.iter().enumerate().any(|(i, a)| {
            nodes[..i].iter().any(|b| shares(a.subnets[0], b.subnets[0]))
        });
        prop_assert_eq!(any, !found.is_empty());
    }
}

proptest! {
    /// Replacing a part says what checking the whole says.
    #[test]
    fn a_part_that_is_replaced_is_checked_as_in_the_whole(
        count in 1u8..6,
        range in (0usize..6, 0usize..6),
        new in prop::collection::vec((0u8..9, 1u8..9, 0u8..9, prop_oneof![Just(24), Just(23), Just(8)]), 0..3),
    ) {
        let make = |(name, address, subnet, prefix): (u8, u8, u8, u8)| {
            let subnet = format!("10.244.{subnet}.0/{prefix}");
            node(&format!("n{name}"), &format!("192.0.2.{address}"), &[&subnet])
        };
        let mut nodes: Vec<RawNode> = (1..=count).map(|i| make((i, i, i, 24))).collect();
        let cluster = Cluster::check(&raw(nodes.clone())).unwrap();
        let (start, end) = (range.0.min(range.1).min(nodes.len()), range.0.max(range.1).min(nodes.len()));
        let new: Vec<RawNode> = new.into_iter().map(make).collect();
        let spliced = cluster.splice(start..end, &new);
        nodes.splice(start..end, new);
        prop_assert_eq!(spliced, Cluster::check(&raw(nodes)).ok());
    }
}

#[test]
fn many_new_nodes_are_checked_with_all() {
    let cluster = Cluster::check(&raw(vec![node("n1", "192.0.2.1", &["10.244.1.0/24"])])).unwrap();
    let new =
        |i: usize| node(&format!("x{i}"), &format!("192.0.3.{i}"), &[&format!("10.244.{}.0/24", 100 + i)]);
    let new: Vec<RawNode> = (0..=SPLICED).map(new).collect();
    assert!(cluster.splice(1..1, &new[1..]).is_some() && cluster.splice(1..1, &new).is_none());
    assert!(cluster.splice(0..2, &[]).is_none() && cluster.splice(2..2, &[]).is_none(), "no such nodes");
}
