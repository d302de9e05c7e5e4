//! Three agents make one flat network, whatever the backend and the underlay, and the wire shows how.

use std::net::IpAddr;

use flatnet_tests::agent::{Agents, SOON, Underlay, pod};
use flatnet_tests::oracle;
use netns_fixtures::Packet;

/// Pings from node `a`'s pod to node `b`'s and answers with the echo as seen on `a`'s cable.
fn on_the_wire(agents: &Agents, a: usize, b: usize, family: Underlay) -> Packet {
    let capture = agents.fabric.capture(&agents.node(a).node).expect("capture");
    agents.ping(a, b, family).expect("an answer");
    let (src, dst) = (pod(a, family), pod(b, family));
    let ours = |packet: &Packet| packet.innermost().src == src && packet.innermost().dst == dst;
    capture.wait_for("the echo on the wire", SOON, ours).expect("the echo on the wire")
}

/// Whether the packet travels in VXLAN between exactly these nodes.
fn is_tunnelled(packet: &Packet, from: Option<IpAddr>, to: Option<IpAddr>) -> bool {
    match &packet.vxlan {
        Some(vxlan) => {
            assert_eq!((Some(packet.outer.src), Some(packet.outer.dst)), (from, to));
            assert_eq!(vxlan.vni, 1);
            true
        }
        None => false,
    }
}

#[test]
fn vxlan_carries_everything_between_all_nodes() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    agents.all_reach_all();
    for (a, b) in [(1, 2), (1, 3)] {
        for family in [Underlay::V4, Underlay::V6] {
            let packet = on_the_wire(&agents, a, b, family);
            let (from, to) = (agents.node(a).node.v4(), agents.node(b).node.v4());
            assert!(is_tunnelled(&packet, from, to), "n{a} to n{b}, {family:?}: {packet:?}");
        }
    }
    assert_eq!(agents.node(1).status()["pods"]["mtu"], 1450);
}

#[test]
fn vxlan_over_ipv6_carries_both_families() {
    let agents = Agents::start("type: vxlan", Underlay::V6);
    agents.all_reach_all();
    let packet = on_the_wire(&agents, 1, 3, Underlay::V4);
    assert!(is_tunnelled(&packet, agents.node(1).node.v6(), agents.node(3).node.v6()), "{packet:?}");
    assert!(oracle::links(agents.node(1).ns()).contains(&"flat6.1".to_owned()));
    assert_eq!(agents.node(1).status()["pods"]["mtu"], 1430);
}

/// Over IPv4, IPv6 pods are tunnelled even to neighbours: an IPv6 route takes no IPv4 gateway.
#[test]
fn auto_tunnels_where_and_only_where_it_must() {
    let agents = Agents::start("type: auto", Underlay::V4);
    agents.all_reach_all();
    let cases =
        [(2, Underlay::V4, false), (2, Underlay::V6, true), (3, Underlay::V4, true), (3, Underlay::V6, true)];
    for (b, family, tunnelled) in cases {
        let packet = on_the_wire(&agents, 1, b, family);
        let (from, to) = (agents.node(1).node.v4(), agents.node(b).node.v4());
        assert_eq!(is_tunnelled(&packet, from, to), tunnelled, "n1 to n{b}, {family:?}: {packet:?}");
    }
    let paths: Vec<String> = oracle::names(agents.node(1).status()["peers"].as_array().unwrap(), "path");
    assert_eq!(paths, ["direct+vxlan", "vxlan"]);
}

/// An IPv6 gateway serves both families, so over IPv6 neighbours need no tunnel at all.
#[test]
fn auto_over_ipv6_sends_both_families_to_neighbours_as_they_are() {
    let agents = Agents::start("type: auto", Underlay::V6);
    agents.all_reach_all();
    for family in [Underlay::V4, Underlay::V6] {
        let packet = on_the_wire(&agents, 1, 2, family);
        assert!(!is_tunnelled(&packet, None, None), "{family:?}: {packet:?}");
    }
}

#[test]
fn direct_serves_neighbours_and_names_the_node_it_cannot_reach() {
    let agents = Agents::start("type: direct", Underlay::V6);
    for family in [Underlay::V4, Underlay::V6] {
        let packet = on_the_wire(&agents, 1, 2, family);
        assert!(packet.vxlan.is_none(), "{family:?}: {packet:?}");
    }
    let node = agents.node(1);
    assert!(!oracle::links(node.ns()).iter().any(|link| link.starts_with("flat")));
    let status = node.status();
    assert_eq!(status["pods"]["mtu"], 1500);
    let n3 = &status["peers"][1];
    assert_eq!((n3["name"].as_str(), n3["path"].as_str()), (Some("n3"), Some("none")));
    assert!(n3["problem"].as_str().unwrap().contains("use backend auto or vxlan"), "{n3}");
    assert!(node.log().contains("peer n3"), "{}", node.log());
}

#[test]
fn the_largest_packet_of_a_pod_passes_unfragmented() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let whole = netns_fixtures::probe::Ping::to(pod(3, Underlay::V4))
        .from(pod(1, Underlay::V4))
        .unfragmented(1450)
        .send(&agents.node(1).node.ns, SOON);
    assert!(whole.is_ok(), "{whole:?}");
}

/// The node snapshot is what the plugin reads: exactly the documented form.
#[test]
fn the_node_snapshot_is_written_in_the_documented_form() {
    let agents = Agents::start("type: auto", Underlay::V4);
    let text = std::fs::read_to_string(agents.node(2).state.join("node.json")).unwrap();
    assert_eq!(
        text,
        "{\"version\":1,\"node\":\"n2\",\"subnets\":[\"10.244.2.0/24\",\"fd00:10:244:2::/64\"],\
         \"clusterNetworks\":[\"10.244.0.0/16\",\"fd00:10:244::/56\"],\
         \"mtu\":1450,\"segmentSize\":65536,\"masquerade\":true}"
    );
}

/// A packet to a pod that does not exist is refused, not sent round in circles between the nodes.
#[test]
fn absent_pods_are_unreachable() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let answer = oracle::command(agents.node(2).ns(), "ip route show 10.244.2.0/24");
    assert!(answer.starts_with("unreachable 10.244.2.0/24"), "{answer}");
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let mut agents = Agents::prepare("type: auto", Underlay::V4);
    agents.node_mut(1).start();
    agents.node(1).wait_status("waiting", |status| status["store"]["error"].is_string());
    assert!(agents.node(1).get("/healthz").starts_with("HTTP/1.1 200"));
    let waiting = agents.node(1).get("/readyz");
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("No such file"), "{waiting}");
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    agents.node(1).wait_ready();
    assert!(agents.node(1).get("/readyz").starts_with("HTTP/1.1 200"));
    let metrics = agents.node(1).get("/metrics");
    for line in [
        "flatnet_objects{kind=\"routes\"} 6",
        "flatnet_objects{kind=\"senders\"} 2",
        "flatnet_segment_size_bytes 65536",
        "flatnet_pod_mtu_bytes 1450",
        "flatnet_store_loaded_timestamp_seconds 1",
        "flatnet_reconcile_timestamp_seconds 1",
        "flatnet_peers_with_problem 0",
        "flatnet_ready 1",
        "flatnet_store_nodes 3",
        "flatnet_peers{path=\"direct+vxlan\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("flatnet_heals_total"), "{metrics}");
    drop(oracle::command(agents.node(1).ns(), "ip link del flat.1"));
    let healed =
        || agents.node(1).get("/metrics").contains("flatnet_heals_total{kind=\"devices\"} 1").then_some(());
    if let Err(error) = netns_fixtures::wait_until("the heal is counted", SOON, healed) {
        panic!("{error}\n{}\n{}", agents.node(1).get("/metrics"), agents.node(1).log());
    }
}
