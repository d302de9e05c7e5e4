//! The segment size: as large as every link takes that packets leave the node through, at both ends of every
//! pod's link, also of pods that run already.

use std::net::IpAddr;

use flatnet_tests::agent::{AgentNode, Agents, SOON, Underlay};
use flatnet_tests::oracle::command;
use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{NetNs, wait_until};
use serde_json::Value;

const BIG: u32 = 196_608;

/// The sizes of a pod's end and of the node's end.
fn ends(node: &AgentNode, pod: &NetNs, result: &Value) -> [[u32; 4]; 2] {
    let host = result["interfaces"].as_array().expect("a list").iter().find(|i| i["sandbox"].is_null());
    let host = host.and_then(|i| i["name"].as_str()).expect("the node's end");
    [
        pod.segment_sizes("eth0").expect("the pod's end"),
        node.ns().segment_sizes(host).expect("the node's end"),
    ]
}

fn wait_ends(node: &AgentNode, pod: &NetNs, result: &Value, size: u32) {
    let both = || (ends(node, pod, result) == [[size; 4]; 2]).then_some(());
    let seen = wait_until(&format!("segments of {size}"), SOON, both);
    assert!(seen.is_ok(), "{:?}\n{}", ends(node, pod, result), node.log());
}

/// The kernel announces no change of these sizes, so the agent sees one when it looks the next time: within
/// 30 s, or after any change of a link that is announced.
fn set_uplink(node: &AgentNode, size: u32) {
    node.ns().set_segment_sizes("eth0", size).expect("set the sizes");
    drop(command(node.ns(), &format!("ip link set eth0 alias segments-{size}")));
}

fn published(node: &AgentNode) -> Value {
    let text = std::fs::read_to_string(node.state.join("node.json")).expect("a node snapshot");
    serde_json::from_str::<Value>(&text).expect("JSON")["segmentSize"].clone()
}

fn talk(client: &NetNs, server: &NetNs, result: &Value) {
    let address: IpAddr = result["ips"][0]["address"]
        .as_str()
        .and_then(|ip| ip.split('/').next())
        .expect("an address")
        .parse()
        .expect("an address");
    let server = TcpServer::start(server, (address, 80).into()).expect("a server");
    let seen = tcp_probe(client, None, server.address(), SOON).expect("TCP");
    assert!(seen.is_untranslated());
}

#[test]
fn pods_follow_what_the_uplink_takes_while_they_run() {
    let agents = Agents::start("type: direct", Underlay::V6);
    let node = agents.node(1);
    let (old, far) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let first = node.plugin("ADD", "old", &old);
    let there = agents.node(2).plugin("ADD", "far", &far);
    assert_eq!((published(node), ends(node, &old, &first)), (65536.into(), [[65536; 4]; 2]));
    set_uplink(node, BIG);
    wait_ends(node, &old, &first, BIG);
    assert_eq!(published(node), BIG);
    let new = NetNs::new().unwrap();
    let second = node.plugin("ADD", "new", &new);
    assert_eq!(ends(node, &new, &second), [[BIG; 4]; 2]);
    talk(&new, &old, &first);
    talk(&new, &far, &there);
    set_uplink(node, 65536);
    wait_ends(node, &old, &first, 65536);
    wait_ends(node, &new, &second, 65536);
    assert_eq!(published(node), 65536);
    talk(&old, &far, &there);
}

/// A node that joins behind a router needs VXLAN, which takes no more than 64 KiB.
#[test]
fn a_peer_that_needs_the_tunnel_brings_it_down() {
    let mut agents = Agents::prepare("type: auto", Underlay::V6);
    agents.write_cluster(&agents.cluster(&[1, 2]));
    agents.node_mut(1).start();
    let node = agents.node(1);
    node.wait_ready();
    set_uplink(node, BIG);
    let pod = NetNs::new().unwrap();
    let result = node.plugin("ADD", "pod", &pod);
    wait_ends(node, &pod, &result, BIG);
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    wait_ends(node, &pod, &result, 65536);
    agents.write_cluster(&agents.cluster(&[1, 2]));
    wait_ends(node, &pod, &result, BIG);
}

/// The operator says how far the uplink may be raised; unasked it stays as it is.
#[test]
fn the_uplink_is_raised_only_when_told_to() {
    let mut agents = Agents::prepare("type: direct", Underlay::V6);
    agents.write_cluster(&agents.cluster(&[1, 2]));
    agents.node(2).configure_more(&format!("uplinkSegmentSize: {BIG}"));
    for i in 1..=2 {
        agents.node_mut(i).start();
        agents.node(i).wait_ready();
    }
    agents.node(2).wait_status("raised", |status| status["pods"]["segmentSize"] == BIG);
    assert_eq!(agents.node(2).ns().segment_sizes("eth0").unwrap(), [BIG; 4]);
    assert_eq!(agents.node(1).ns().segment_sizes("eth0").unwrap(), [65536; 4]);
    assert_eq!(agents.node(1).status()["pods"]["segmentSize"], 65536);
}

/// An end that somebody else changed: the agent puts it right, and CHECK says so while it is not.
#[test]
fn check_compares_both_ends() {
    let mut agents = Agents::start("type: direct", Underlay::V6);
    let pod = NetNs::new().unwrap();
    let result = agents.node(1).plugin("ADD", "pod", &pod);
    agents.node_mut(1).stop();
    let node = agents.node(1);
    let check = |wrong: &str| {
        let answer = node.try_plugin("CHECK", "pod", &pod, Some(&result));
        let text = answer.as_ref().err().map_or("", |text| text);
        assert!(text.contains(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {answer:?}");
    };
    check("");
    pod.set_segment_sizes("eth0", 32768).unwrap();
    check("gso_max_size of eth0 on pod: expected 65536, found 32768");
    pod.set_segment_sizes("eth0", 65536).unwrap();
    let host = result["interfaces"].as_array().unwrap().iter().find(|i| i["sandbox"].is_null()).unwrap();
    node.ns().set_segment_sizes(host["name"].as_str().unwrap(), BIG).unwrap();
    check("on node: expected 65536, found 196608");
    agents.node_mut(1).start();
    wait_ends(agents.node(1), &pod, &result, 65536);
}
