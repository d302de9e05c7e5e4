//! A pod sends as itself only, does not reach the node's loopback, and may spoil its neighbours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use flatnet_tests::host_ports::{World, cannot_connect, connect, mapping};
use flatnet_tests::oracle::command;
use netns_fixtures::probe::{TcpServer, ping};
use netns_fixtures::{Capture, NetNs, Transport};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(5);

/// Sends one datagram from `source` to `port` of `to`.
fn send(ns: &NetNs, source: IpAddr, to: IpAddr, port: u16) {
    let sent =
        ns.run(|| UdpSocket::bind((source, 0)).and_then(|s| s.send_to(b"x", SocketAddr::new(to, port))));
    sent.unwrap().unwrap();
}

/// The sources of datagrams to `port` that `capture` saw, once the one of `honest` is there.
fn sources(capture: &Capture, honest: IpAddr, port: u16) -> Vec<IpAddr> {
    let to_port = |transport: Transport| matches!(transport, Transport::Udp { dport, .. } if dport == port);
    capture
        .wait_for("the honest packet", WITHIN, |p| p.outer.src == honest && to_port(p.outer.transport))
        .unwrap();
    capture.packets().iter().filter(|p| to_port(p.outer.transport)).map(|p| p.outer.src).collect()
}

fn spoof(world: &World, guarded: bool) {
    let (liar, victim) = (world.add("liar", &json!([])), world.add("victim", &json!([])));
    let third = world.add("third", &json!([]));
    if !guarded {
        drop(command(&world.node.ns, "nft flush chain inet flatnet guard"));
    }
    for v4 in [true, false] {
        let capture = Capture::start(&victim.ns, Some("eth0")).unwrap();
        let strange: IpAddr = if v4 { "10.99.0.1".parse().unwrap() } else { "fd00:99::1".parse().unwrap() };
        for source in [third.ip(v4), strange, world.ip(v4)] {
            let length = if v4 { 32 } else { 128 };
            let nodad = if v4 { "" } else { " nodad" };
            drop(command(&liar.ns, &format!("ip addr add {source}/{length} dev lo{nodad}")));
            send(&liar.ns, source, victim.ip(v4), 5000);
        }
        send(&liar.ns, liar.ip(v4), victim.ip(v4), 5000);
        let seen = sources(&capture, liar.ip(v4), 5000);
        if guarded {
            assert_eq!(seen, [liar.ip(v4)], "a packet with another's address arrived");
        } else {
            assert!(seen.len() > 1, "without the guard they arrive, or this test shows nothing: {seen:?}");
        }
    }
}

#[test]
fn nobody_sends_as_somebody_else() {
    spoof(&World::new(), true);
}

/// The larger of the node's and the link's `rp_filter` counts, and 2 lets more through than 1.
#[test]
fn nobody_sends_as_somebody_else_where_the_nodes_rp_filter_is_loose() {
    let world = World::new();
    drop(command(&world.node.ns, "sysctl -qw net.ipv4.conf.all.rp_filter=2"));
    spoof(&world, true);
}

#[test]
fn without_the_guard_a_loose_node_lets_everything_through() {
    let world = World::new();
    drop(command(&world.node.ns, "sysctl -qw net.ipv4.conf.all.rp_filter=2"));
    spoof(&world, false);
}

#[test]
fn spoofed_packets_never_leave_the_node() {
    let world = World::new();
    let liar = world.add("liar", &json!([]));
    let wire = world.fabric.capture(&world.uplink).unwrap();
    for v4 in [true, false] {
        let (source, length) = if v4 { ("203.0.113.9", 32) } else { ("2001:db8:99::9", 128) };
        let nodad = if v4 { "" } else { " nodad" };
        drop(command(&liar.ns, &format!("ip addr add {source}/{length} dev lo{nodad}")));
        let outside = if v4 { world.outside.v4() } else { world.outside.v6() }.unwrap();
        send(&liar.ns, source.parse().unwrap(), outside, 5000);
        send(&liar.ns, liar.ip(v4), outside, 5000);
        // What leaves the cluster honestly takes the node's address.
        assert_eq!(sources(&wire, world.ip(v4), 5000), [world.ip(v4)]);
        wire.clear();
    }
}

/// `route_localnet` on the host end would open the node's loopback to the pod (CVE-2020-8558).
#[test]
fn a_pod_with_host_ports_does_not_reach_the_nodes_loopback() {
    let world = World::new();
    let pod = world.add("web", &json!([mapping("tcp", 8080, 80)]));
    let plain = world.add("plain", &json!([]));
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let server = TcpServer::start(&world.node.ns, SocketAddr::new(loopback, 10250)).unwrap();
    let port = server.address().port();
    for ns in [&pod.ns, &plain.ns] {
        drop(command(ns, "ip addr del 127.0.0.1/8 dev lo"));
        drop(command(ns, "sysctl -qw net.ipv4.conf.eth0.route_localnet=1"));
        drop(command(ns, "ip route add 127.0.0.1/32 via 169.254.1.1 dev eth0"));
        let inside = Capture::start(&world.node.ns, None).unwrap();
        assert!(cannot_connect(ns, loopback, port));
        assert!(inside.stop().iter().any(|p| p.outer.dst == loopback), "it was sent");
    }
    drop(command(&world.node.ns, "nft flush chain inet flatnet guard"));
    assert!(connect(&pod.ns, loopback, port).is_ok(), "it is the guard that stops it");
    assert!(cannot_connect(&plain.ns, loopback, port), "without host ports the link takes no such packet");
}

#[test]
fn a_pod_that_loses_its_neighbours_keeps_working() {
    let world = World::new();
    let (pod, other) = (world.add("a", &json!([])), world.add("b", &json!([])));
    let reach = |when: &str| {
        for v4 in [true, false] {
            for to in [other.ip(v4), world.ip(v4)] {
                assert!(ping(&pod.ns, to, WITHIN).is_ok(), "{when}: {to}");
            }
            assert!(ping(&other.ns, pod.ip(v4), WITHIN).is_ok(), "{when}: to the pod");
        }
    };
    reach("at first");
    drop(command(&pod.ns, "ip neigh flush all nud all"));
    drop(command(&pod.ns, "ip -6 neigh flush all nud all"));
    reach("after a flush");
    drop(command(&pod.ns, "ip neigh del 169.254.1.1 dev eth0"));
    drop(command(&pod.ns, "ip -6 neigh del fe80::1 dev eth0"));
    reach("without the gateway's entry");
}
