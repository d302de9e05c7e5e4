//! Masquerade: what leaves the cluster takes the node's address, what stays in it never does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flatnet_tests::agent::{Agents, Underlay};
use flatnet_tests::oracle::command;
use flatnet_tests::plugin::{PluginNode, addresses};
use netns_fixtures::probe::{TcpServer, UdpServer, tcp_probe, udp_probe};
use netns_fixtures::{Fabric, NetNs, Node, wait_until};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(2);

/// A node with the plugin on one segment, and somebody outside on the other, who knows no pod.
struct World {
    fabric: Fabric,
    node: PluginNode,
    uplink: Node,
    outside: Node,
}

fn world() -> World {
    netns_fixtures::gate::require();
    let mut fabric = Fabric::two_segments().expect("a fabric");
    let uplink = fabric.node("n1", "a").expect("a node");
    let outside = fabric.node("far", "b").expect("a node");
    World { node: PluginNode::on(uplink.ns.clone()), uplink, outside, fabric }
}

fn pod() -> NetNs {
    NetNs::new().expect("make a pod's namespace")
}

impl World {
    fn conf(&self) -> Value {
        let mut conf = self.node.conf("1.1.0");
        conf["masquerade"] = json!(true);
        conf
    }

    fn add(&self, container: &str, pod: &NetNs, conf: &Value) -> Value {
        let answer = self.node.run(&self.node.call("ADD", container, &pod.path(), conf));
        assert!(answer.ok, "{}", answer.json);
        answer.json
    }
}

/// The address that a TCP and a UDP server at `to` in `server` see a client in `client` come from.
fn seen_from(client: &NetNs, server: &NetNs, to: IpAddr) -> [IpAddr; 2] {
    let at = SocketAddr::new(to, 0);
    let tcp = TcpServer::start(server, at).expect("a TCP server");
    let udp = UdpServer::start(server, at).expect("a UDP server");
    let by_tcp = tcp_probe(client, None, tcp.address(), WITHIN).expect("TCP");
    let by_udp = udp_probe(client, None, udp.address(), WITHIN).expect("UDP");
    [by_tcp.seen_by_peer.ip(), by_udp.seen_by_peer.ip()]
}

#[test]
fn what_leaves_the_cluster_takes_the_nodes_address() {
    let world = world();
    let pods = [pod(), pod()];
    let results = [world.add("a", &pods[0], &world.conf()), world.add("b", &pods[1], &world.conf())];
    let outside = [world.outside.v4(), world.outside.v6()].map(|ip| ip.expect("both families"));
    let node = [world.uplink.v4(), world.uplink.v6()].map(|ip| ip.expect("both families"));
    for family in 0..2 {
        assert_eq!(seen_from(&pods[0], &world.outside.ns, outside[family]), [node[family]; 2]);
        let (own, peer) = (addresses(&results[0])[family], addresses(&results[1])[family]);
        assert_eq!(seen_from(&pods[0], &pods[1], peer), [own; 2], "between pods");
        assert_eq!(seen_from(&pods[0], &world.node.ns, node[family]), [own; 2], "to the node itself");
    }
}

/// The specification's own name for it.
#[test]
fn k9_ip_masq_means_masquerade() {
    let world = world();
    let mut conf = world.conf();
    conf.as_object_mut().unwrap().remove("masquerade");
    conf["ipMasq"] = json!(true);
    let client = pod();
    drop(world.add("a", &client, &conf));
    let (outside, node) = (world.outside.v4().expect("IPv4"), world.uplink.v4().expect("IPv4"));
    assert_eq!(seen_from(&client, &world.outside.ns, outside), [node; 2]);
}

/// The same network, told that the outside belongs to the cluster: its own addresses all the way.
#[test]
fn what_stays_in_the_cluster_keeps_its_address() {
    let world = world();
    let mut conf = world.conf();
    let nets = ["10.22.0.0/16", "198.51.100.0/24", "fd00:22::/64", "2001:db8:2::/64"];
    conf["clusterNetworks"] = json!(nets);
    let client = pod();
    let result = world.add("a", &client, &conf);
    let router = world.uplink.v4().expect("IPv4");
    // The outside and the router learn the way back; nothing else is changed.
    drop(command(&world.outside.ns, "ip route add 10.22.0.0/24 via 198.51.100.254"));
    let back = format!("ip route add 10.22.0.0/24 via {router}");
    drop(command(&world.fabric.router, &back));
    let outside = world.outside.v4().expect("IPv4");
    assert_eq!(seen_from(&client, &world.outside.ns, outside), [addresses(&result)[0]; 2]);
}

#[test]
fn c11_check_notices_a_flushed_chain_and_the_next_add_heals_it() {
    let world = world();
    let (first, second) = (pod(), pod());
    let mut conf = world.conf();
    conf["prevResult"] = world.add("a", &first, &conf);
    let check = || world.node.run(&world.node.call("CHECK", "a", &first.path(), &conf));
    assert!(check().ok, "{}", check().json);
    let spoils = [
        ("nft flush chain inet flatnet masquerade-flatnet", "masquerade-flatnet"),
        ("nft flush chain inet flatnet guard", "guard"),
        ("nft flush ruleset", "guard"),
    ];
    for (spoil, chain) in spoils {
        drop(command(&world.node.ns, spoil));
        let answer = check();
        let msg = answer.json["msg"].as_str().unwrap_or_default();
        assert!(!answer.ok && msg.contains(chain), "{spoil}: {}", answer.json);
        drop(world.add("b", &second, &world.conf()));
        assert!(check().ok, "{spoil}: {}", check().json);
        assert!(world.node.del("b", &second.path()).ok);
    }
}

#[test]
fn many_at_once_make_one_chain_and_touch_no_other_table() {
    let world = world();
    drop(command(&world.node.ns, "nft add table inet other"));
    let pods: Vec<NetNs> = (0..50).map(|_| pod()).collect();
    std::thread::scope(|scope| {
        for (i, pod) in pods.iter().enumerate() {
            let world = &world;
            scope.spawn(move || world.add(&format!("c{i}"), pod, &world.conf()));
        }
    });
    let ruleset = command(&world.node.ns, "nft list ruleset");
    assert_eq!(ruleset.matches("masquerade fully-random").count(), 2, "{ruleset}");
    assert!(ruleset.contains("table inet other"), "{ruleset}");
}

/// Two networks of one node, each told of itself alone: their pods still see each other's own addresses.
#[test]
fn networks_of_one_node_do_not_masquerade_each_others_pods() {
    let world = world();
    let pods = [pod(), pod()];
    let first = world.add("a", &pods[0], &world.conf());
    let mut other = world.conf();
    other["name"] = json!("other");
    other["subnets"] = json!(["10.23.0.0/24"]);
    let second = world.add("b", &pods[1], &other);
    assert_eq!(seen_from(&pods[0], &pods[1], addresses(&second)[0]), [addresses(&first)[0]; 2]);
    assert_eq!(seen_from(&pods[1], &pods[0], addresses(&first)[0]), [addresses(&second)[0]; 2]);
}

#[test]
fn without_the_key_there_is_only_the_guard() {
    let world = world();
    let pod = pod();
    drop(world.node.add("a", &pod));
    let ruleset = command(&world.node.ns, "nft list ruleset");
    assert_eq!(ruleset.matches("chain ").count(), 1, "{ruleset}");
    assert!(ruleset.contains("chain guard"), "{ruleset}");
}

/// The comments still say what was there.
#[test]
fn a_rule_that_was_changed_under_its_comment_is_put_back() {
    let world = world();
    let pods = [pod(), pod()];
    drop(world.add("a", &pods[0], &world.conf()));
    let ns = &world.node.ns;
    let whole = command(ns, "nft list ruleset");
    let listed: Value =
        serde_json::from_str(&command(ns, "nft -j list chain inet flatnet masquerade-flatnet"))
            .expect("JSON");
    let mut rules = listed["nftables"].as_array().expect("a list").iter().filter_map(|o| o.get("rule"));
    let last = rules.next_back().expect("a rule").clone();
    let (handle, comment) = (&last["handle"], last["comment"].as_str().expect("a comment"));
    // The witness takes words, so the comment goes in by a file.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let edit = format!(
        "replace rule inet flatnet masquerade-flatnet handle {handle} ip6 saddr fd00:99::/64 masquerade fully-random comment \"{comment}\"\n"
    );
    std::fs::write(file.path(), edit).expect("write");
    drop(command(ns, &format!("nft -f {}", file.path().display())));
    assert_ne!(command(ns, "nft list ruleset"), whole, "the rule was changed");
    drop(world.add("b", &pods[1], &world.conf()));
    assert_eq!(command(ns, "nft list ruleset"), whole);
}

#[test]
fn the_agent_keeps_its_chain_and_cleanup_removes_it() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    let ns = agents.node(1).ns().clone();
    let rules = || command(&ns, "nft list ruleset");
    let whole = rules();
    assert!(whole.contains("chain masquerade {") && whole.contains("masquerade"), "{whole}");
    drop(command(&ns, "nft flush ruleset"));
    wait_until("the chain is back", Duration::from_secs(1), || (rules() == whole).then_some(())).unwrap();
    agents.node_mut(1).stop();
    assert_eq!(rules(), whole, "stopping leaves the data path");
    assert!(agents.node(1).run("cleanup").status.success());
    assert_eq!(rules(), "");
}
