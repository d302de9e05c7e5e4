//! The agent collects what nobody uses any more, puts the node's side of pods right, and never touches what
//! is being made or lives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use flatnet_tests::agent::{AgentNode, Agents, SOON, Underlay};
use flatnet_tests::oracle::{self, command};
use netns_fixtures::{NetNs, probe, wait_until};
use serde_json::{Value, json};

/// Agents that collect all the time. What they are given goes inside the braces of `backend`.
fn agents(grace: u64) -> Agents {
    Agents::start(&format!("type: direct }}\ngc: {{ interval: 0.02, grace: {grace}"), Underlay::V4)
}

fn records(node: &AgentNode) -> usize {
    let entries = std::fs::read_dir(node.state.join("attachments"));
    entries.map_or(0, |entries| {
        entries.filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count()
    })
}

fn used(node: &AgentNode) -> usize {
    let Ok(entries) = std::fs::read_dir(node.state.join("addresses")) else { return 0 };
    entries
        .map(|e| std::fs::read(e.unwrap().path()).unwrap())
        .map(|file| file[64..].chunks(16).filter(|slot| slot[..8] != [0; 8]).count())
        .sum()
}

fn metric(node: &AgentNode, name: &str) -> u64 {
    let text = node.get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

fn collected(node: &AgentNode, kind: &str) -> u64 {
    metric(node, &format!("flatnet_collected_total{{kind=\"{kind}\"}}"))
}

fn addresses(result: &Value) -> Vec<IpAddr> {
    flatnet_tests::plugin::addresses(result)
}

fn wait(node: &AgentNode, what: &str, look: impl Fn() -> bool) {
    let seen = wait_until(what, SOON, || look().then_some(()));
    assert!(seen.is_ok(), "{what}: {:#}\n{}", node.status(), node.log());
}

/// Rounds go on: something that must not happen had its chance.
fn rounds_pass(node: &AgentNode) {
    let (ns, mark) = (node.ns(), "fnaaaaaaaaaaaaa");
    drop(command(ns, &format!("ip link add {mark} type bridge")));
    wait(node, "a round", || !oracle::links(ns).contains(&mark.to_owned()));
}

#[test]
fn the_dead_are_collected_counted_and_shown() {
    let agents = agents(0);
    let node = agents.node(1);
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new().unwrap()).collect();
    let kept = NetNs::new().unwrap();
    for (i, pod) in pods.iter().enumerate() {
        drop(node.plugin("ADD", &format!("dead{i}"), pod));
    }
    let result = node.plugin("ADD", "kept", &kept);
    drop(pods);
    wait(node, "one record", || records(node) == 1);
    node.wait_status("three collected", |status| status["collected"]["attachments"] == 3);
    assert_eq!(used(node), 2);
    wait(node, "metrics", || metric(node, "flatnet_pool_addresses_used{subnet=\"10.244.1.0/24\"}") == 1);
    assert_eq!(collected(node, "attachments"), 3);
    assert_eq!(metric(node, "flatnet_pool_addresses{subnet=\"10.244.1.0/24\"}"), 254);
    assert_eq!(metric(node, "flatnet_attachments"), 1);
    let shown = String::from_utf8(node.run("status").stdout).unwrap();
    assert!(shown.contains("collected 3 attachments"), "{shown}");
    assert!(node.log().contains("collected an attachment whose pod is gone"), "{}", node.log());
    for ip in addresses(&result) {
        probe::ping(node.ns(), ip, SOON).unwrap();
    }
}

#[test]
fn what_nobody_owns_is_collected_and_a_living_pod_without_record_is_not() {
    let agents = agents(0);
    let node = agents.node(1);
    let (lost, living) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    drop(node.plugin("ADD", "lost", &lost));
    let result = node.plugin("ADD", "living", &living);
    // One loses its interface, and both their records.
    drop(command(&lost, "ip link del eth0"));
    std::fs::remove_dir_all(node.state.join("attachments")).unwrap();
    node.wait_status("two addresses", |status| status["collected"]["addresses"] == 2);
    rounds_pass(node);
    assert_eq!(used(node), 2, "the living one's");
    wait(node, "one without a record", || metric(node, "flatnet_unrecorded_interfaces") == 1);
    assert_eq!(node.log().matches("interface without a record").count(), 1, "{}", node.log());
    for ip in addresses(&result) {
        probe::ping(node.ns(), ip, SOON).unwrap();
    }
    // A late pod gets another address.
    let late = NetNs::new().unwrap();
    let late_result = node.plugin("ADD", "late", &late);
    assert!(addresses(&late_result).iter().all(|ip| !addresses(&result).contains(ip)));
    wait(node, "the bridge is counted", || collected(node, "interfaces") == 1);
}

#[test]
fn nothing_is_collected_before_its_grace() {
    let agents = agents(3600);
    let node = agents.node(1);
    let pod = NetNs::new().unwrap();
    drop(node.plugin("ADD", "c1", &pod));
    drop(command(node.ns(), "ip link add fnaaaaaaaaaaaaa type bridge"));
    drop(pod);
    wait(node, "the pair's end", || {
        oracle::links(node.ns()).iter().filter(|l| l.starts_with("fn")).count() == 1
    });
    let pod = NetNs::new().unwrap();
    drop(node.plugin("ADD", "c2", &pod));
    // The repair shows that rounds have passed since.
    let host =
        oracle::links(node.ns()).into_iter().find(|l| l.starts_with("fn") && l != "fnaaaaaaaaaaaaa").unwrap();
    drop(command(node.ns(), &format!("ip link set {host} mtu 1400")));
    node.wait_status("a repair", |status| status["collected"]["repaired"] == 1);
    assert_eq!(records(node), 2);
    assert!(oracle::links(node.ns()).contains(&"fnaaaaaaaaaaaaa".to_owned()));
}

#[test]
fn the_nodes_side_of_a_pod_is_put_right() {
    let agents = agents(0);
    let node = agents.node(1);
    let pod = NetNs::new().unwrap();
    let limits = json!({ "bandwidth": { "ingressRate": 1_000_000_000, "egressRate": 1_000_000_000 } });
    let result = node.plugin_with("ADD", "c1", &pod, &limits);
    let host = oracle::links(node.ns()).into_iter().find(|link| link.starts_with("fn")).unwrap();
    for damage in [
        format!("tc qdisc del dev {host} root"),
        format!("ip link del {}", host.replacen("fn", "fi", 1)),
        format!("ip route flush dev {host}"),
        format!("ip -6 route flush dev {host}"),
        format!("ip neigh flush dev {host} nud permanent"),
        format!("ip link set {host} down"),
        format!("ip link set {host} address 02:99:00:00:00:01"),
        format!("sysctl -qw net.ipv4.conf.{host}.rp_filter=0"),
    ] {
        let before = metric(node, "flatnet_repaired_total");
        drop(command(node.ns(), &damage));
        // Routes are the reconciler's.
        let counted = || damage.contains("route") || metric(node, "flatnet_repaired_total") > before;
        wait(node, &damage, counted);
        for ip in addresses(&result) {
            wait(node, &damage, || probe::ping(node.ns(), ip, SOON).is_ok());
        }
    }
    wait(node, "strict", || {
        command(node.ns(), &format!("sysctl -n net.ipv4.conf.{host}.rp_filter")).trim() == "1"
    });
}

/// A pod's shaper does not go with its namespace.
#[test]
fn nothing_is_left_of_a_dead_pod_with_limits_and_host_ports() {
    let agents = agents(0);
    let node = agents.node(1);
    let before = oracle::everything(node.ns());
    let pod = NetNs::new().unwrap();
    let runtime = json!({
        "bandwidth": { "ingressRate": 1_000_000, "egressRate": 1_000_000 },
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
    });
    drop(node.plugin_with("ADD", "c1", &pod, &runtime));
    drop(pod);
    let left = || oracle::everything(node.ns()).difference(&before).cloned().collect::<Vec<_>>();
    wait(node, "all gone", || left().is_empty() && !command(node.ns(), "nft list ruleset").contains("8080"));
}

/// Rounds are a minute apart here; what happens to a pod's interface is looked at all the same.
#[test]
fn damage_is_noticed_between_two_rounds() {
    let agents = Agents::start("type: direct", Underlay::V4);
    let node = agents.node(1);
    let pod = NetNs::new().unwrap();
    let result = node.plugin("ADD", "c1", &pod);
    let host = oracle::links(node.ns()).into_iter().find(|link| link.starts_with("fn")).unwrap();
    for damage in [format!("ip link set {host} mtu 1300"), format!("ip neigh flush dev {host} nud permanent")]
    {
        let before = metric(node, "flatnet_repaired_total");
        drop(command(node.ns(), &damage));
        wait(node, &damage, || metric(node, "flatnet_repaired_total") > before);
        for ip in addresses(&result) {
            probe::ping(node.ns(), ip, SOON).unwrap();
        }
    }
}

/// Many ADDs and DELs beside a collector that has no patience at all.
#[test]
fn churn_loses_nothing_and_nobody() {
    let agents = agents(0);
    let node = agents.node(1);
    let before = (oracle::everything(node.ns()), used(node));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for round in 0..20 {
                    let (pod, container) = (NetNs::new().unwrap(), format!("c{worker}-{round}"));
                    let result = node.plugin("ADD", &container, &pod);
                    for ip in addresses(&result) {
                        probe::ping(node.ns(), ip, SOON).unwrap_or_else(|e| panic!("{container} {ip}: {e}"));
                    }
                    drop(node.plugin("DEL", &container, &pod));
                }
            });
        }
    });
    rounds_pass(node);
    assert_eq!((records(node), used(node)), (0, 0));
    assert_eq!((collected(node, "attachments"), collected(node, "addresses")), (0, 0), "{}", node.log());
    assert_eq!(metric(node, "flatnet_repaired_total"), 0, "{}", node.log());
    oracle::assert_same(&before.0, &oracle::everything(node.ns()), "node");
    assert!(!node.log().contains("collecting:"), "{}", node.log());
}
