//! Host ports: who reaches the pod through which address of the node, and who does not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use flatnet_tests::host_ports::{NEVER, World, cannot_connect, connect, mapping, mapping_on};
use flatnet_tests::oracle::command;
use netns_fixtures::NetNs;
use netns_fixtures::probe::{TcpServer, UdpServer, udp_probe};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(5);

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

#[test]
fn from_everywhere_and_the_pod_sees_who_it_is() {
    let world = World::new();
    let pod = world.add("web", &json!([mapping("tcp", 8080, 80), mapping("udp", 8053, 53)]));
    let other = world.add("other", &json!([]));
    let _tcp = pod.serve(80);
    for v4 in [true, false] {
        let node = world.ip(v4);
        let _udp = UdpServer::start(&pod.ns, at(pod.ip(v4), 53)).unwrap();
        // From outside, from the node itself, from another pod: with their own addresses.
        for client in [&world.outside.ns, &world.node.ns, &other.ns] {
            let seen = connect(client, node, 8080).unwrap();
            assert!(seen.is_untranslated(), "{seen:?}");
            let seen = udp_probe(client, None, at(node, 8053), WITHIN).unwrap();
            assert!(seen.is_untranslated(), "{seen:?}");
        }
        // From the pod itself: past the node, and not from its own address.
        let seen = connect(&pod.ns, node, 8080).unwrap();
        assert_eq!(seen.local.ip(), pod.ip(v4));
        assert_eq!(seen.seen_by_peer.ip(), node, "hairpin");
    }
}

#[test]
fn the_nodes_loopback_leads_to_the_pod_too() {
    let world = World::new();
    let pod = world.add("web", &json!([mapping("tcp", 8080, 80), mapping_on("127.0.0.1", "tcp", 8081, 80)]));
    let _server = pod.serve(80);
    let loopback = "127.0.0.1".parse().unwrap();
    for port in [8080, 8081] {
        let seen = connect(&world.node.ns, loopback, port).unwrap();
        assert_eq!((seen.local.ip(), seen.seen_by_peer.ip()), (loopback, world.ip(true)));
    }
    // IPv6 has no way back to ::1: refused at once, and what listens there is left alone.
    let v6_loopback = "::1".parse().unwrap();
    assert!(cannot_connect(&world.node.ns, v6_loopback, 8080));
    let own = TcpServer::start(&world.node.ns, at(v6_loopback, 8080)).unwrap();
    assert!(connect(&world.node.ns, v6_loopback, own.address().port()).is_ok());
}

#[test]
fn a_port_of_one_address_is_on_that_address_only() {
    let world = World::new();
    drop(command(&world.node.ns, "ip addr add 203.0.113.7/32 dev lo"));
    let here: [IpAddr; 2] = [world.ip(true), world.ip(false)];
    let ports: Vec<_> = here.iter().map(|ip| mapping_on(&ip.to_string(), "tcp", 8080, 80)).collect();
    let local = mapping_on("127.0.0.1", "tcp", 8081, 80);
    let pod = world.add("web", &json!([ports[0], ports[1], local]));
    let _server = pod.serve(80);
    for ip in here {
        assert!(connect(&world.outside.ns, ip, 8080).unwrap().is_untranslated());
        assert!(cannot_connect(&world.outside.ns, ip, 8081), "only on loopback");
    }
    let elsewhere = "203.0.113.7".parse().unwrap();
    assert!(connect(&world.node.ns, here[0], 8080).is_ok());
    assert!(cannot_connect(&world.node.ns, elsewhere, 8080));
    // The families apart.
    let four = world.add("four", &json!([mapping_on("0.0.0.0", "tcp", 9000, 80)]));
    let six = world.add("six", &json!([mapping_on("::", "tcp", 9000, 80)]));
    let _servers = (four.serve(80), six.serve(80));
    assert_eq!(world.elements().iter().filter(|line| line.contains("tcp . 9000")).count(), 2);
    for ip in here {
        assert!(connect(&world.outside.ns, ip, 9000).is_ok());
    }
}

/// Somebody on the node's own wire sends to its loopback address.
#[test]
fn a_port_of_the_loopback_address_is_not_reached_from_outside() {
    let mut world = World::new();
    let pod = world.add("web", &json!([mapping_on("127.0.0.1", "tcp", 8081, 80), mapping("tcp", 8080, 80)]));
    let _server = pod.serve(80);
    let near = world.fabric.node("near", "a").unwrap();
    speak_loopback(&near.ns, &format!("via {} dev eth0", world.ip(true)), "eth0");
    let loopback = "127.0.0.1".parse().unwrap();
    let wire = world.fabric.capture(&world.uplink).unwrap();
    let inside = netns_fixtures::Capture::start(&pod.ns, Some("eth0")).unwrap();
    for port in [8080, 8081] {
        assert!(cannot_connect(&near.ns, loopback, port));
    }
    assert!(wire.stop().iter().any(|packet| packet.outer.dst == loopback), "it was sent");
    assert!(!inside.stop().iter().any(|packet| packet.outer.dst == pod.ip(true)), "and went no further");
}

/// Makes `ns` send packets for 127.0.0.1 out of `interface`.
fn speak_loopback(ns: &NetNs, route: &str, interface: &str) {
    drop(command(ns, "ip addr del 127.0.0.1/8 dev lo"));
    drop(command(ns, &format!("sysctl -qw net.ipv4.conf.{interface}.route_localnet=1")));
    drop(command(ns, &format!("ip route add 127.0.0.1/32 {route}")));
}

#[test]
fn a_foreign_address_with_the_same_port_is_not_ours() {
    let world = World::new();
    let dns = world.add("dns", &json!([mapping("udp", 53, 53), mapping("tcp", 53, 53)]));
    let other = world.add("other", &json!([]));
    for v4 in [true, false] {
        let outside = if v4 { world.outside.v4() } else { world.outside.v6() }.unwrap();
        let _here = UdpServer::start(&dns.ns, at(dns.ip(v4), 53)).unwrap();
        let _there = UdpServer::start(&world.outside.ns, at(outside, 53)).unwrap();
        for client in [&other.ns, &world.node.ns] {
            let seen = udp_probe(client, None, at(outside, 53), WITHIN).unwrap();
            // The one outside sees the node; the pod would have seen the client.
            assert_eq!(seen.seen_by_peer.ip(), world.ip(v4));
        }
        assert!(cannot_connect(&other.ns, outside, 53), "nobody listens to TCP there");
    }
}

#[test]
fn sctp_ports_are_elements_too() {
    let world = World::new();
    let pod = world.add("sctp", &json!([mapping("sctp", 3868, 3868)]));
    let lines = world.elements();
    assert_eq!(lines.iter().filter(|line| line.contains("sctp . 3868")).count(), 2, "{lines:?}");
    assert_eq!(world.check(&pod, &json!([mapping("sctp", 3868, 3868)])).json, json!(null));
    world.del(&pod);
    assert_eq!(world.elements(), [""; 0]);
}

#[test]
fn a_pod_without_the_family_cannot_have_the_port() {
    let world = World::new();
    let ns = NetNs::new().unwrap();
    let mut conf = world.conf(&json!([mapping_on("2001:db8:1::1", "tcp", 8080, 80)]));
    conf["subnets"] = json!(["10.22.0.0/24"]);
    let answer = world.node.run(&world.node.call("ADD", "c", &ns.path(), &conf));
    assert_eq!(answer.json["code"], 7, "{}", answer.json);
    assert!(answer.json["msg"].as_str().unwrap().contains("2001:db8:1::1"), "{}", answer.json);
    assert_eq!((world.node.records().len(), world.node.used_addresses()), (0, 0));
}

/// A client that never stops sending to the port reaches the next pod, whatever the kernel remembers of
/// the one before and of the time between.
#[test]
fn a_lasting_udp_flow_moves_to_the_next_pod() {
    let world = World::new();
    let ports = json!([mapping("udp", 8053, 53)]);
    for v4 in [true, false] {
        let to = at(world.ip(v4), 8053);
        let any: IpAddr = if v4 { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
        let socket = world.outside.ns.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let answered = |within: Duration| {
            let end = Instant::now() + within;
            while Instant::now() < end {
                // Errors are the node saying that nobody is there.
                let _ = socket.send(b"x");
                if socket.recv(&mut [0; 128]).is_ok() {
                    return true;
                }
            }
            false
        };
        let first = world.add("first", &ports);
        let server = UdpServer::start(&first.ns, at(first.ip(v4), 53)).unwrap();
        assert!(answered(WITHIN));
        drop(server);
        world.del(&first);
        assert!(!answered(NEVER), "nobody is there");
        let next = world.add("next", &ports);
        assert_ne!(next.ip(v4), first.ip(v4));
        let _server = UdpServer::start(&next.ns, at(next.ip(v4), 53)).unwrap();
        assert!(answered(WITHIN), "the flow did not move");
        world.del(&next);
    }
}

#[test]
fn connections_of_a_pod_are_forgotten_with_it_and_no_others() {
    let world = World::new();
    let pod = world.add("web", &json!([mapping("udp", 8053, 53)]));
    let beside = world.add("beside", &json!([mapping("udp", 8054, 53)]));
    let tracked = |ip: IpAddr| {
        let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
        let all = command(&world.node.ns, &format!("conntrack -L -f {family}"));
        all.lines().filter(|line| line.split_whitespace().any(|w| w.ends_with(&format!("={ip}")))).count()
    };
    for v4 in [true, false] {
        for (pod, port) in [(&pod, 8053), (&beside, 8054)] {
            let _server = UdpServer::start(&pod.ns, at(pod.ip(v4), 53)).unwrap();
            udp_probe(&world.outside.ns, None, at(world.ip(v4), port), WITHIN).unwrap();
            // And one that the pod itself began.
            let node = UdpServer::start(&world.node.ns, at(world.ip(v4), 7000 + port)).unwrap();
            udp_probe(&pod.ns, None, node.address(), WITHIN).unwrap();
        }
    }
    let before: Vec<usize> = pod.ips.iter().chain(&beside.ips).map(|ip| tracked(*ip)).collect();
    assert_eq!(before, [2, 2, 2, 2]);
    world.del(&pod);
    let after: Vec<usize> = pod.ips.iter().chain(&beside.ips).map(|ip| tracked(*ip)).collect();
    assert_eq!(after, [0, 0, 2, 2]);
}
