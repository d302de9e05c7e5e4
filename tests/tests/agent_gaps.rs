//! What a pod notices while something of the network is taken away and put back: pings between pods of two
//! nodes two hundred times a second, and the longest gap between answers. Figures are printed, not judged.

use std::net::IpAddr;

use flatnet_tests::agent::{Agents, SOON, Traffic, Underlay};
use flatnet_tests::oracle::command;
use netns_fixtures::{NetNs, wait_until};
use serde_json::Value;

/// Pods of nodes 1, 2 and 3 with their IPv4 addresses.
struct World {
    agents: Agents,
    pods: Vec<(NetNs, IpAddr)>,
}

fn world(backend: &str, underlay: Underlay) -> World {
    let agents = Agents::start(backend, underlay);
    let add = |i: usize| {
        let ns = NetNs::new().expect("a pod");
        let result = agents.node(i).plugin("ADD", &format!("pod{i}"), &ns);
        (ns, first_address(&result))
    };
    let pods = (1..=3).map(add).collect();
    World { agents, pods }
}

fn first_address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"].as_str().expect("an address");
    text.split('/').next().expect("an address").parse().expect("an address")
}

impl World {
    fn traffic(&self, from: usize, to: usize) -> Traffic {
        let (ns, source) = &self.pods[from - 1];
        Traffic::start(ns, *source, self.pods[to - 1].1)
    }

    /// Runs `lines` on node 1 under traffic to node `to`, waits until it flows again, and tells the gap.
    fn disturb(&self, lines: &[&str], to: usize) -> String {
        let traffic = self.traffic(1, to);
        let node = self.agents.node(1);
        lines.iter().for_each(|line| drop(command(node.ns(), line)));
        let what = lines.join("; ");
        traffic.flows(&format!("{what}\n{}\n{}", node.ours(), node.log()));
        format!("{what}: {}", traffic.stop())
    }
}

#[test]
fn whatever_is_taken_from_the_tunnel_is_back_soon() {
    let world = world("type: vxlan", Underlay::V4);
    let ns = world.agents.node(1).ns().clone();
    let fdb = command(&ns, "bridge fdb show dev flat.1");
    let macs: Vec<String> = fdb.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    let all = |line: &dyn Fn(&String) -> String| macs.iter().map(line).collect::<Vec<_>>();
    let deleted = all(&|mac| format!("bridge fdb del {mac} dev flat.1"));
    let wrong = all(&|mac| format!("bridge fdb replace {mac} dev flat.1 dst 203.0.113.1"));
    let disturbances = [
        vec!["ip route del 10.244.3.0/24"],
        vec!["ip nexthop flush protocol 70"],
        vec!["ip neigh flush dev flat.1 nud permanent"],
        deleted.iter().map(String::as_str).collect(),
        wrong.iter().map(String::as_str).collect(),
        vec!["ip link del flat.1"],
        vec!["ip link set flat.1 down"],
        vec!["ip link set flat.1 down", "ip link set flat.1 name renamed0"],
        vec!["ip link set flat.1 address 02:00:00:00:00:99"],
        vec!["ip link set flat.1 mtu 1300"],
        vec!["ip link set flat.1 type vxlan id 1 local 203.0.113.77"],
        vec!["ip link set flat.1 type vxlan id 1 learning"],
        vec!["ip addr flush dev flat.1"],
        vec!["sysctl -w net.ipv4.ip_forward=0"],
        vec!["sysctl -w net/ipv4/conf/flat.1/forwarding=0"],
        vec!["sysctl -w net/ipv6/conf/flat.1/forwarding=0"],
        vec!["sysctl -w net/ipv4/conf/flat.1/rp_filter=1"],
        vec!["nft flush ruleset"],
    ];
    let whole = world.agents.node(1).ours();
    // A device that is made anew has other numbers.
    let names = |text: &str| text.lines().filter(|line| line.contains("10.244.")).count();
    for lines in &disturbances {
        println!("{}", world.disturb(lines, 3));
        let back = || (names(&world.agents.node(1).ours()) == names(&whole)).then_some(());
        wait_until(&lines.join("; "), SOON, back).unwrap();
    }
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/flat.1/forwarding", "1"),
        ("net/ipv6/conf/flat.1/forwarding", "1"),
        ("net/ipv4/conf/flat.1/rp_filter", "2"),
    ] {
        let kept = || (command(&ns, &format!("sysctl -n {key}")).trim() == value).then_some(());
        wait_until(key, SOON, kept).unwrap();
    }
    world.agents.node(1).wait_status("ready", |status| status["ready"] == true);
}

/// Routes to the node's own pods are the plugin's work, but the plugin is not there to heal them.
#[test]
fn a_pods_own_route_is_back_soon_and_goes_with_the_pod() {
    let world = world("type: vxlan", Underlay::V4);
    let node = world.agents.node(1);
    let (pod, ip) = &world.pods[0];
    // The agent has to have seen it once: any change of a link makes it look.
    let looks = || {
        let metrics = node.get("/metrics");
        let line =
            metrics.lines().find(|line| line.starts_with("flatnet_reconciles_total{result=\"settled\"}"));
        line.map(str::to_owned)
    };
    let before = looks();
    drop(command(node.ns(), "ip link set eth0 alias look"));
    wait_until("a look", SOON, || (looks() != before).then_some(())).unwrap();
    println!("{}", world.disturb(&[&format!("ip route del {ip}/32")], 3));
    println!("{}", world.disturb(&["ip -6 route flush proto 70 root fd00:10:244:1::/64"], 3));
    let routes = || command(node.ns(), "ip -6 route show proto 70");
    let back = || routes().contains("fd00:10:244:1::1 dev fn").then_some(());
    wait_until("IPv6 too", SOON, back).unwrap_or_else(|e| panic!("{e}\n{}\n{}", routes(), node.log()));
    drop(node.plugin("DEL", "pod1", pod));
    drop(command(node.ns(), "ip link set eth0 alias again"));
    node.wait_status("ready", |status| status["ready"] == true);
    assert!(!command(node.ns(), "ip route show").contains("dev fn"));
}

#[test]
fn direct_routes_are_back_soon() {
    let world = world("type: direct", Underlay::V4);
    for line in [
        "ip route del 10.244.2.0/24",
        "ip nexthop flush protocol 70",
        "sysctl -w net/ipv4/conf/eth0/forwarding=0",
        "sysctl -w net.ipv4.conf.all.forwarding=0",
    ] {
        println!("{}", world.disturb(&[line], 2));
    }
    println!("{}", world.disturb(&["ip link set eth0 down", "ip link set eth0 up"], 2));
}

/// A node gets another address: the store says so, and the tunnel moves while packets flow.
#[test]
fn a_nodes_address_changes_under_traffic() {
    let world = world("type: vxlan", Underlay::V4);
    let (node, old) = (world.agents.node(1), world.agents.node(1).node.v4().expect("IPv4"));
    // Otherwise the second address of a subnet goes with the first.
    drop(command(node.ns(), "sysctl -w net.ipv4.conf.eth0.promote_secondaries=1"));
    drop(command(node.ns(), "ip addr add 192.0.2.77/24 dev eth0"));
    let traffic = world.traffic(1, 3);
    let text = world.agents.cluster(&[1, 2, 3]).replace(&format!("\"{old}\""), "\"192.0.2.77\"");
    world.agents.write_cluster(&text);
    for i in 1..=3 {
        world.agents.node(i).wait_status("the new address", |status| {
            let all = [&status["uplink"]["address"], &status["peers"][0]["address"]];
            all.iter().any(|address| **address == "192.0.2.77")
        });
    }
    drop(command(node.ns(), &format!("ip addr del {old}/24 dev eth0")));
    traffic.flows("the old address is gone");
    println!("address changed: {}", traffic.stop());
    assert!(command(node.ns(), "ip -d link show flat.1").contains("local 192.0.2.77"));
    node.wait_status("ready", |status| status["ready"] == true);
}

/// The tunnel's and new pods' MTU follow the uplink's; running pods keep theirs.
#[test]
fn an_uplinks_mtu_is_followed() {
    let world = world("type: vxlan", Underlay::V4);
    let node = world.agents.node(1);
    let traffic = world.traffic(1, 3);
    drop(command(node.ns(), "ip link set eth0 mtu 1400"));
    node.wait_status("the new MTU", |status| status["pods"]["mtu"] == 1350);
    let shown = command(node.ns(), "ip link show flat.1");
    assert!(shown.contains("mtu 1350"), "{shown}");
    let pod = NetNs::new().unwrap();
    drop(node.plugin("ADD", "later", &pod));
    assert!(command(&pod, "ip link show eth0").contains("mtu 1350"));
    assert!(command(&world.pods[0].0, "ip link show eth0").contains("mtu 1450"));
    traffic.flows("the uplink is smaller");
    println!("MTU changed: {}", traffic.stop());
    // The running pod is told by the node what still fits, so its large packets pass in pieces.
    let large = netns_fixtures::probe::Ping::to(world.pods[2].1).unfragmented(1350);
    large.send(&world.pods[0].0, SOON).expect("a packet of the new size");
    drop(command(node.ns(), "ip link set eth0 mtu 1500"));
    node.wait_status("the old MTU", |status| status["pods"]["mtu"] == 1450);
    world.traffic(1, 3).flows("the uplink is larger");
}

#[test]
fn a_renamed_uplink_is_followed() {
    let world = world("type: vxlan", Underlay::V4);
    let node = world.agents.node(1);
    let traffic = world.traffic(1, 3);
    // Renaming keeps addresses and routes; the kernel asks for the link to be down only before 6.2.
    drop(command(node.ns(), "ip link set eth0 name wan0"));
    node.wait_status("the new name", |status| status["uplink"]["interface"] == "wan0");
    node.wait_status("ready", |status| status["ready"] == true);
    traffic.flows("the uplink has another name");
    println!("uplink renamed: {}", traffic.stop());
}

/// The node's address in the store decides, not whichever default route is better. Outer packets follow the
/// routing table like all others, so the other segment has a route of its own here.
#[test]
fn two_default_routes_do_not_confuse() {
    let mut world = world("type: vxlan", Underlay::V4);
    let other = NetNs::new().unwrap();
    let node = world.agents.node(1);
    let path = other.path();
    drop(command(node.ns(), &format!("ip link add wan1 type veth peer name far netns {}", path.display())));
    drop(command(node.ns(), "ip link set wan1 up"));
    drop(command(node.ns(), "ip addr add 203.0.113.2/24 dev wan1"));
    drop(command(&other, "ip link set far up"));
    drop(command(node.ns(), "ip route add 198.51.100.0/24 via 192.0.2.254"));
    drop(command(node.ns(), "ip route add default via 192.0.2.254 metric 100"));
    println!(
        "{}",
        world.disturb(
            &["ip route add default via 203.0.113.1 dev wan1 metric 50", "ip route del default metric 0"],
            3
        )
    );
    assert_eq!(world.agents.node(1).status()["uplink"]["interface"], "eth0");
    world.agents.node_mut(1).stop();
    world.agents.node_mut(1).start();
    world.agents.node(1).wait_ready();
    assert_eq!(world.agents.node(1).status()["uplink"]["interface"], "eth0");
    println!("{}", world.disturb(&["ip link set wan1 down"], 3));
}
