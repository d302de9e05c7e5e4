use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::kernel::Kernel;
use crate::link::{SegmentSizes, UnderlayMtu, Vni};
use crate::overlay::cluster::{Cluster, RawCluster, RawNetwork, RawNode};
use crate::overlay::model::OverlayModel;
use crate::overlay::peer::{PeerProblem, Reach};
use crate::overlay::settings::{Backend, Settings, Uplink};
use crate::overlay::snapshot::Observe;

/// Node 0 is this one. A node is (number, on this node's segment, subnets of both families).
fn cluster(nodes: &[(u8, bool, bool)]) -> Cluster {
    let me = (0, true, true);
    let raw = std::iter::once(&me).chain(nodes).map(|(n, near, dual)| {
        let mut subnets = vec![format!("10.244.{n}.0/24")];
        subnets.extend(dual.then(|| format!("fd00:10:244:{n:x}::/64")));
        let address = if *near { format!("192.0.2.{}", n + 1) } else { format!("198.51.100.{}", n + 1) };
        RawNode { name: format!("n{n}"), address, subnets }
    });
    let network = RawNetwork { ipv4: Some("10.244.0.0/16".into()), ipv6: Some("fd00:10:244::/56".into()) };
    Cluster::check(&RawCluster { network, nodes: raw.collect() }).unwrap()
}

fn settings(backend: Backend, vni: u32) -> Settings {
    Settings {
        node: "n0".parse().unwrap(),
        backend,
        vni: Vni::try_from(vni).unwrap(),
        port: 8472,
        peers_only: true,
        uplink_segment_size: None,
    }
}

fn uplink() -> Uplink {
    Uplink {
        name: "eth0".parse().unwrap(),
        mtu: UnderlayMtu(1500),
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
        local: "192.0.2.1".parse().unwrap(),
        segments: SegmentSizes::default(),
        segment_size: 196_608,
    }
}

fn kernel() -> OverlayModel {
    OverlayModel::with_uplink(&uplink().name, 1500, &uplink().addresses)
}

fn desired(backend: Backend, vni: u32, nodes: &[(u8, bool, bool)]) -> Desired {
    Desired::build(&settings(backend, vni), &uplink(), &cluster(nodes)).unwrap()
}

/// Makes `kernel` what it should be, in one go and without any refusal.
fn settle(kernel: &mut OverlayModel, want: &Desired) -> Vec<Step> {
    kernel.interrupted.clear();
    let steps = diff(want, &kernel.snapshot().unwrap());
    for (step, result) in steps.iter().zip(kernel.apply(&steps)) {
        result.unwrap_or_else(|e| panic!("{step}: {e}"));
    }
    assert_eq!(diff(want, &kernel.snapshot().unwrap()), Vec::new());
    steps
}

fn text(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[test]
fn routes_come_last_and_dual_stack_shares_the_forwarding_entry() {
    let want = desired(Backend::Vxlan, 1, &[(2, true, true)]);
    let steps = text(&settle(&mut kernel(), &want));
    assert_eq!(
        steps,
        [
            "add 192.0.2.3 in set vxlan-peers4 of table inet flatnet",
            "drop vxlan 1 of strangers on port 8472",
            "create vxlan flat.1 id 1 on eth0",
            "add address 10.244.0.0/32 to flat.1 on node",
            "add address fd00:10:244::/128 to flat.1 on node",
            "set sysctl net/ipv4/conf/flat.1/rp_filter=2 on node",
            "set sysctl net/ipv6/conf/flat.1/accept_ra=0 on node",
            "set sysctl net/ipv4/conf/flat.1/forwarding=1 on node",
            "set sysctl net/ipv6/conf/flat.1/forwarding=1 on node",
            "set flat.1 on node up",
            "set sysctl net/ipv4/ip_forward=1 on node",
            "set sysctl net/ipv6/conf/eth0/accept_ra=2 on node",
            "set sysctl net/ipv6/conf/all/forwarding=1 on node",
            "set sysctl net/ipv4/conf/eth0/forwarding=1 on node",
            "set sysctl net/ipv6/conf/eth0/forwarding=1 on node",
            &format!("add fdb {} to 192.0.2.3 on flat.1 on node", Mac::of_vtep(&"n2".parse().unwrap())),
            &format!(
                "add neighbour 10.244.2.0 at {} to flat.1 on node",
                Mac::of_vtep(&"n2".parse().unwrap())
            ),
            &steps[17],
            "add nexthop 1174405120 via 10.244.2.0 dev flat.1",
            &steps[19],
            "add route 10.244.2.0/24 nhid 1174405120 on node",
            "add route fd00:10:244:2::/64 nhid 1174405121 on node",
            "add route unreachable 10.244.0.0/24 on node",
            "add route unreachable fd00:10:244::/64 on node",
        ]
    );
    assert!(steps[17].starts_with("add neighbour fe80::"), "{}", steps[17]);
    assert!(steps[19].starts_with("add nexthop 1174405121 via fe80::"), "{}", steps[19]);
}

#[test]
fn auto_goes_direct_where_it_can_and_needs_no_tunnel_without_distant_nodes() {
    let want = desired(Backend::Auto, 1, &[(2, true, false), (3, false, false)]);
    let reach: Vec<Reach> = want.peers.iter().map(|peer| peer.reach).collect();
    assert_eq!(reach, [Reach::Direct, Reach::Vxlan]);
    assert_eq!(want.pod_mtu.get(), 1450);
    let near = desired(Backend::Auto, 1, &[(2, true, false)]);
    assert_eq!((want.segment_size, near.segment_size), (65536, 196_608), "VXLAN takes no more");
    assert_eq!((near.tunnel, near.pod_mtu.get()), (None, 1450));
}

#[test]
fn auto_tunnels_ipv6_pods_where_the_gateway_is_ipv4() {
    let want = desired(Backend::Auto, 1, &[(2, true, true)]);
    assert_eq!(want.peers[0].reach, Reach::Mixed);
    settle(&mut kernel(), &want);
}

#[test]
fn direct_names_each_node_it_cannot_reach_and_serves_the_others() {
    let want = desired(Backend::Direct, 1, &[(2, true, true), (3, false, false), (4, true, false)]);
    assert_eq!(want.pod_mtu.get(), 1500);
    assert!(matches!(want.peers[0].problem, Some(PeerProblem::Ipv6ThroughIpv4 { .. })));
    assert!(matches!(want.peers[1].problem, Some(PeerProblem::NotOnLink { .. })));
    assert_eq!(want.peers[2].problem, None);
    assert_eq!(want.routes.len(), 2);
    settle(&mut kernel(), &want);
}

#[test]
fn moving_between_backends_never_leaves_a_node_without_a_route() {
    let nodes = [(2, true, true), (3, false, false), (4, true, false)];
    let mut kernel = kernel();
    for backend in [Backend::Vxlan, Backend::Auto, Backend::Vxlan] {
        settle(&mut kernel, &desired(backend, 1, &nodes));
        assert_eq!(kernel.interrupted, BTreeSet::new(), "to {backend}");
    }
    settle(&mut kernel, &desired(Backend::Vxlan, 2, &nodes));
    assert_eq!(kernel.interrupted, BTreeSet::new(), "to another VNI");
}

#[test]
fn someone_elses_route_is_a_conflict_and_stays() {
    let mut kernel = kernel();
    kernel.foreign_routes.insert(("10.244.2.0/24".parse().unwrap(), None));
    let want = desired(Backend::Vxlan, 1, &[(2, true, false), (3, true, false)]);
    let steps = diff(&want, &kernel.snapshot().unwrap());
    let refused: Vec<String> =
        kernel.apply(&steps).into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    assert_eq!(refused, ["add route 10.244.2.0/24 nhid 1174405120 on node: file exists"]);
    assert_eq!(kernel.routes.len(), 3, "the other node and the own subnets of two families");
    assert!(!text(&steps).iter().any(|s| s.contains("delete")));
}

#[test]
fn the_numbers_of_others_are_not_taken() {
    let mut kernel = kernel();
    kernel.foreign_nexthops.insert(FIRST_NEXTHOP);
    settle(&mut kernel, &desired(Backend::Vxlan, 1, &[(2, true, false)]));
    assert_eq!(kernel.nexthops.keys().copied().collect::<Vec<_>>(), [FIRST_NEXTHOP + 1]);
}

#[test]
fn a_moved_node_keeps_its_route_and_nexthop() {
    let mut kernel = kernel();
    settle(&mut kernel, &desired(Backend::Vxlan, 1, &[(2, true, false)]));
    let steps = text(&settle(&mut kernel, &desired(Backend::Vxlan, 1, &[(2, false, false)])));
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(steps[0].starts_with("add 198.51.100.3 in set vxlan-peers4"), "{steps:?}");
    assert!(steps[1].ends_with("to 198.51.100.3 on flat.1 on node"), "{steps:?}");
    assert!(steps[2].starts_with("delete 192.0.2.3 in set vxlan-peers4"), "{steps:?}");
}

#[test]
fn several_destinations_of_one_mac_become_one() {
    let mut kernel = kernel();
    let want = desired(Backend::Vxlan, 1, &[(2, true, false)]);
    settle(&mut kernel, &want);
    let (link, mut entry) = kernel.fdb.pop_first().unwrap();
    for last in [7, 8] {
        entry.node = [203, 0, 113, last].into();
        kernel.fdb.insert((link.clone(), entry));
    }
    settle(&mut kernel, &want);
    assert_eq!(kernel.fdb.len(), 1);
}

#[derive(Debug, Clone)]
enum Disturbance {
    Link,
    Down,
    Mac,
    Mtu,
    Port,
    Nexthop(prop::sample::Index),
    Route(prop::sample::Index),
    Neighbours,
    Fdb,
    Sysctl,
    Leftovers,
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    use Disturbance as D;
    prop_oneof![
        Just(D::Link),
        Just(D::Down),
        Just(D::Mac),
        Just(D::Mtu),
        Just(D::Port),
        any::<prop::sample::Index>().prop_map(D::Nexthop),
        any::<prop::sample::Index>().prop_map(D::Route),
        Just(D::Neighbours),
        Just(D::Fdb),
        Just(D::Sysctl),
        Just(D::Leftovers),
    ]
}

fn disturb(kernel: &mut OverlayModel, what: &Disturbance) {
    let device = kernel.links.keys().find(|name| is_tunnel_if(name.as_str())).cloned();
    if let Some(link) = device.as_ref().and_then(|name| kernel.links.get_mut(name)) {
        match what {
            Disturbance::Mac => link.mac = Some(Mac([2, 0, 0, 0, 0, 9])),
            Disturbance::Mtu => link.mtu = 1000,
            Disturbance::Port => link.vxlan.as_mut().unwrap().port = 4789,
            Disturbance::Down => {
                link.up = false;
                let ids: Vec<u32> = kernel
                    .nexthops
                    .values()
                    .filter(|n| Some(&n.link) == device.as_ref())
                    .map(|n| n.id)
                    .collect();
                ids.into_iter().for_each(|id| kernel.delete_nexthop(id));
            }
            _ => {}
        }
    }
    match what {
        Disturbance::Link => device.iter().for_each(|name| kernel.delete_link(name)),
        Disturbance::Nexthop(index) if !kernel.nexthops.is_empty() => {
            let ids: Vec<u32> = kernel.nexthops.keys().copied().collect();
            kernel.delete_nexthop(*index.get(&ids));
        }
        Disturbance::Route(index) if !kernel.routes.is_empty() => {
            let keys: Vec<_> = kernel.routes.keys().copied().collect();
            kernel.routes.remove(index.get(&keys));
        }
        Disturbance::Neighbours => kernel.neighbours.clear(),
        Disturbance::Fdb => kernel.fdb.clear(),
        Disturbance::Sysctl => kernel.sysctls.values_mut().for_each(|value| "0".clone_into(value)),
        Disturbance::Leftovers => {
            let want = desired(Backend::Vxlan, 9, &[(60, true, true)]);
            let steps = diff(&want, &kernel.snapshot().unwrap());
            kernel.apply(&steps);
        }
        _ => {}
    }
}

fn backend() -> impl Strategy<Value = Backend> {
    prop_oneof![Just(Backend::Vxlan), Just(Backend::Direct), Just(Backend::Auto)]
}

type World = (Backend, u32, Vec<(u8, bool, bool)>);

fn world() -> impl Strategy<Value = World> {
    let nodes = prop::collection::btree_map(1u8..20, any::<(bool, bool)>(), 0..8);
    (backend(), 1u32..3, nodes).prop_map(|(b, vni, nodes)| {
        (b, vni, nodes.into_iter().map(|(n, (near, dual))| (n, near, dual)).collect())
    })
}

proptest! {
    /// From any state, whatever was disturbed, one diff leads to the wanted state, and the next is empty.
    #[test]
    fn one_diff_settles(from in world(), to in world(), what in prop::collection::vec(disturbance(), 0..3)) {
        let mut kernel = kernel();
        settle(&mut kernel, &desired(from.0, from.1, &from.2));
        for what in &what {
            disturb(&mut kernel, what);
        }
        settle(&mut kernel, &desired(to.0, to.1, &to.2));
    }

    /// Undisturbed, no node that stays loses its route, whatever backend or VNI it moves to.
    #[test]
    fn nodes_that_stay_are_never_without_a_route(from in world(), to in world()) {
        let mut kernel = kernel();
        let before = desired(from.0, from.1, &from.2);
        settle(&mut kernel, &before);
        let after = desired(to.0, to.1, &to.2);
        settle(&mut kernel, &after);
        let routed = |want: &Desired| want.routes.iter().map(|route| route.dst).collect::<BTreeSet<_>>();
        let stays: BTreeSet<_> = routed(&before).intersection(&routed(&after)).copied().collect();
        prop_assert!(kernel.interrupted.is_disjoint(&stays), "{:?}", kernel.interrupted);
        prop_assert_eq!(kernel.deaf_to, BTreeSet::new(), "whom we send to, we hear");
    }

    /// With nobody else in the cluster, only this node's own subnets remain.
    #[test]
    fn what_is_not_wanted_goes(from in world()) {
        let mut kernel = kernel();
        settle(&mut kernel, &desired(from.0, from.1, &from.2));
        settle(&mut kernel, &desired(from.0, from.1, &[]));
        prop_assert_eq!(kernel.routes.len(), 2);
        prop_assert!(kernel.nexthops.is_empty() && kernel.fdb.is_empty() && kernel.neighbours.is_empty());
        prop_assert_eq!(kernel.links.len(), 1);
        prop_assert!(kernel.filter.is_empty() && kernel.senders.is_empty());
    }
}
