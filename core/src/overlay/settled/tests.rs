use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;
use crate::kernel::Kernel;
use crate::link::{UnderlayMtu, Vni};
use crate::overlay::cluster::{RawCluster, RawNetwork, RawNode};
use crate::overlay::diff::diff;
use crate::overlay::model::OverlayModel;
use crate::overlay::settings::Backend;
use crate::overlay::snapshot::Observe;

/// A node: on this node's segment, its address of IPv6, its pods' families (IPv4, IPv6, both).
type Node = (bool, bool, u8);

/// The nodes by the number of their subnets, and how far their names are away from that: another distance
/// gives every subnet to another node.
type Nodes = (Vec<(u8, Node)>, u8);

fn raw(name: String, n: u8, (near, v6, families): Node) -> RawNode {
    let address = match (near, v6) {
        (true, false) => format!("192.0.2.{}", n + 1),
        (false, false) => format!("198.51.100.{}", n + 1),
        (true, true) => format!("2001:db8::{:x}", u16::from(n) + 1),
        (false, true) => format!("2001:db8:1::{:x}", u16::from(n) + 1),
    };
    let (v4, v6) = (format!("10.244.{n}.0/24"), format!("fd00:10:244:{n:x}::/64"));
    let subnets = match families {
        0 => vec![v4],
        1 => vec![v6],
        _ => vec![v4, v6],
    };
    RawNode { name, address, subnets }
}

fn cluster((nodes, distance): &Nodes, v6: bool) -> Arc<Cluster> {
    let me = raw("me".into(), 0, (true, v6, 2));
    let others = nodes.iter().map(|(n, node)| raw(format!("n{}", (n + distance) % 20), *n, *node));
    let network = RawNetwork { ipv4: Some("10.244.0.0/16".into()), ipv6: Some("fd00:10:244::/56".into()) };
    let nodes = std::iter::once(me).chain(others).collect();
    Arc::new(Cluster::check(&RawCluster { network, nodes }).unwrap())
}

fn settings(backend: Backend) -> Settings {
    Settings {
        node: "me".parse().unwrap(),
        backend,
        vni: Vni::try_from(1).unwrap(),
        port: 8472,
        peers_only: true,
        uplink_segment_size: None,
    }
}

fn uplink(v6: bool) -> Uplink {
    Uplink {
        name: "eth0".parse().unwrap(),
        mtu: UnderlayMtu(1500),
        addresses: ["192.0.2.1/24", "2001:db8::1/64"].map(|a| a.parse().unwrap()).to_vec(),
        local: if v6 { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap(),
        segments: SegmentSizes::default(),
        segment_size: 196_608,
    }
}

/// A look that is followed by no refusal.
fn look(kernel: &mut OverlayModel, settings: &Settings, uplink: &Uplink, cluster: &Arc<Cluster>) -> Settled {
    let want = Desired::build(settings, uplink, cluster).unwrap();
    let have = kernel.snapshot().unwrap();
    let Plan { steps, nexthops } = plan(&want, &have);
    apply(kernel, &steps);
    let numbers = Numbers::of(&want, &nexthops, have.nexthop_ids);
    Settled::new(settings.clone(), uplink.clone(), Arc::clone(cluster), numbers)
}

fn apply(kernel: &mut OverlayModel, steps: &[Step]) {
    kernel.interrupted.clear();
    for (step, result) in steps.iter().zip(kernel.apply(steps)) {
        result.unwrap_or_else(|e| panic!("{step}: {e}"));
    }
}

fn kernel(v6: bool) -> OverlayModel {
    let uplink = uplink(v6);
    let mut kernel = OverlayModel::with_uplink(&uplink.name, 1500, &uplink.addresses);
    // Somebody else's, in the middle of ours.
    kernel.foreign_nexthops.insert(0x4600_0002);
    kernel
}

fn backend() -> impl Strategy<Value = Backend> {
    prop_oneof![Just(Backend::Vxlan), Just(Backend::Direct), Just(Backend::Auto)]
}

fn nodes() -> impl Strategy<Value = Nodes> {
    let nodes = prop::collection::btree_map(1u8..20, (any::<bool>(), any::<bool>(), 0u8..3), 0..8);
    (nodes, 0u8..2).prop_map(|(nodes, distance)| (nodes.into_iter().collect(), distance))
}

proptest! {
    /// However clusters follow each other: wherever the short way is taken, it leaves nothing for a look to do,
    /// and takes no route from a node that stays. It is taken unless the tunnel comes or goes.
    #[test]
    fn a_look_finds_nothing_to_do_after_the_short_way(
        backend in backend(),
        v6 in any::<bool>(),
        all in prop::collection::vec(nodes(), 2..5),
    ) {
        let (settings, uplink, mut kernel) = (settings(backend), uplink(v6), kernel(v6));
        let all: Vec<Arc<Cluster>> = all.iter().map(|nodes| cluster(nodes, v6)).collect();
        let mut settled = look(&mut kernel, &settings, &uplink, &all[0]);
        for pair in all.windows(2) {
            let [old, new] = [0, 1].map(|i| Desired::build(&settings, &uplink, &pair[i]).unwrap());
            let next = settled.towards(&settings, &pair[1]);
            prop_assert_eq!(next.is_some(), old.tunnel.is_some() == new.tunnel.is_some());
            let Some((change, next)) = next else {
                settled = look(&mut kernel, &settings, &uplink, &pair[1]);
                continue;
            };
            settled = next;
            apply(&mut kernel, &change.steps);
            prop_assert_eq!(diff(&new, &kernel.snapshot().unwrap()), Vec::new());
            let routed = |want: &Desired| want.routes.iter().map(|route| route.dst).collect::<BTreeSet<_>>();
            let stay: BTreeSet<IpNetwork> = routed(&old).intersection(&routed(&new)).copied().collect();
            prop_assert!(kernel.interrupted.is_disjoint(&stay), "{:?}", kernel.interrupted);
            prop_assert_eq!(&kernel.deaf_to, &BTreeSet::new(), "whom we send to, we hear");
            // What is written down of it makes the new cluster of the old one.
            let names = |nodes: &[Member]| nodes.iter().map(|node| node.name.clone()).collect::<BTreeSet<_>>();
            let mut kept = pair[0].nodes.clone();
            kept.retain(|node| !change.gone.contains(&node.name) && !names(&change.put).contains(&node.name));
            kept.extend(change.put);
            let sorted = |mut nodes: Vec<Member>| { nodes.sort_by(|a, b| a.name.cmp(&b.name)); nodes };
            prop_assert_eq!(sorted(kept), sorted(pair[1].nodes.clone()));
        }
    }
}

const FAR: Node = (false, false, 0);

fn far(count: u8) -> Arc<Cluster> {
    cluster(&((1..=count).map(|n| (n, FAR)).collect(), 0), false)
}

#[test]
fn one_more_node_costs_as_many_steps_as_it_has_objects() {
    let (settings, uplink, mut kernel) = (settings(Backend::Vxlan), uplink(false), kernel(false));
    let settled = look(&mut kernel, &settings, &uplink, &far(9));
    let (change, settled) = settled.towards(&settings, &far(10)).unwrap();
    let words = |step: &Step| step.to_string().split(' ').nth(1).unwrap_or_default().to_owned();
    let kinds: Vec<String> = change.steps.iter().map(words).collect();
    assert_eq!(kinds, ["198.51.100.11", "fdb", "neighbour", "nexthop", "route"]);
    assert_eq!((change.put.len(), change.gone.len()), (1, 0));
    let (change, _) = settled.towards(&settings, &far(8)).unwrap();
    assert_eq!(
        (change.steps.len(), change.put.len(), change.gone.len()),
        (9, 0, 2),
        "the senders are one step"
    );
}

/// What concerns more than single nodes takes a look, and so do very many of them.
#[test]
fn what_takes_a_look_is_told() {
    let (settings, uplink, mut kernel) = (settings(Backend::Vxlan), uplink(false), kernel(false));
    let settled = look(&mut kernel, &settings, &uplink, &far(9));
    let towards =
        |cluster: &Cluster| settled.clone().towards(&settings, &Arc::new(cluster.clone())).is_some();
    let base = far(10);
    assert!(towards(&base));
    let mut other = Cluster::clone(&base);
    other.networks.pop();
    assert!(!towards(&other), "another network");
    let mut other = Cluster::clone(&base);
    other.nodes[0].subnets.pop();
    assert!(!towards(&other), "this node has other subnets");
    assert!(!towards(&far(0)), "the tunnel goes");
    let mut other = Cluster::clone(&base);
    let name = |i: usize| format!("x{i}").parse().unwrap();
    other.nodes.extend((0..MOST).map(|i| Member { name: name(i), ..base.nodes[1].clone() }));
    assert!(!towards(&other), "very many nodes");
    let elsewhere = Settings { port: 4789, ..settings.clone() };
    assert!(settled.towards(&elsewhere, &base).is_none(), "other settings");
}
