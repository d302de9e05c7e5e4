//! VXLAN counts only from the cluster's nodes. The stranger here is a machine on the fabric that sends what
//! a node would send.

use std::net::{IpAddr, SocketAddr};

use flatnet_tests::agent::{AgentNode, Agents, SOON, Underlay, pod};
use flatnet_tests::oracle::{self, command};
use netns_fixtures::{Capture, Mac, NetNs, Node, Packet, VxlanFrame, wait_until};

const PORT: u16 = 8472;

fn mac(ns: &NetNs, link: &str) -> Mac {
    let shown = oracle::ip(ns, &format!("link show dev {link}"));
    let text = shown[0]["address"].as_str().expect("an address");
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    Mac(bytes.try_into().expect("six bytes"))
}

/// What the stranger sends: a packet from node 2's pod to node 1's, and which one it is by its source.
fn frame(node: &AgentNode, device: &str, vni: u32, last: u8) -> VxlanFrame {
    VxlanFrame {
        vni,
        dst_mac: mac(node.ns(), device),
        src: [10, 244, 2, last].into(),
        dst: pod(1, Underlay::V4),
    }
}

fn address(node: &Node, underlay: Underlay) -> IpAddr {
    match underlay {
        Underlay::V4 => node.v4(),
        Underlay::V6 => node.v6(),
    }
    .expect("both families")
}

/// Packets that the filter's rules have dropped, as nft counts them.
fn dropped(node: &AgentNode) -> u32 {
    let rules = command(node.ns(), "nft list chain inet flatnet vxlan-from-peers");
    let counts =
        rules.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    counts.sum()
}

fn wait_dropped(node: &AgentNode, count: u32) {
    let seen = wait_until("dropped packets", SOON, || (dropped(node) >= count).then_some(()));
    assert!(seen.is_ok(), "{}", command(node.ns(), "nft list ruleset"));
}

fn is_from(last: u8) -> impl Fn(&Packet) -> bool {
    move |packet| packet.outer.src == IpAddr::from([10, 244, 2, last])
}

#[test]
fn a_strangers_vxlan_is_dropped_before_it_is_unpacked() {
    for (underlay, device) in [(Underlay::V4, "flat.1"), (Underlay::V6, "flat6.1")] {
        let mut agents = Agents::start("type: vxlan", underlay);
        let stranger = agents.fabric.node("stranger", "a").expect("a node");
        let to = SocketAddr::new(address(&agents.node(1).node, underlay), PORT);
        let node = agents.node(1);
        let inside = Capture::start(node.ns(), Some(device)).expect("capture");
        frame(node, device, 1, 66).send(&stranger.ns, None, to).expect("send");
        wait_dropped(node, 1);
        agents.all_reach_all();
        let seen = inside.stop();
        assert!(!seen.iter().any(is_from(66)), "{underlay:?}: {seen:#?}");
        assert!(!seen.is_empty(), "the peers' packets are seen there");
        // The negative control: told to hear everybody, the node hears the stranger.
        agents.node_mut(1).stop();
        agents.node(1).configure(1, "type: vxlan, peersOnly: false");
        agents.node_mut(1).start();
        agents.node(1).wait_ready();
        let node = agents.node(1);
        assert!(!command(node.ns(), "nft list ruleset").contains("vxlan"));
        let inside = Capture::start(node.ns(), Some(device)).expect("capture");
        frame(node, device, 1, 67).send(&stranger.ns, None, to).expect("send");
        inside.wait_for("the stranger", SOON, is_from(67)).expect("heard");
    }
}

/// The stranger that the store comes to list is heard from then on, and no longer once it is left out.
#[test]
fn who_joins_is_heard_and_who_leaves_is_not() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    let joiner = agents.fabric.node("joiner", "a").expect("a node");
    let node = agents.node(1);
    let to = SocketAddr::new(address(&node.node, Underlay::V4), PORT);
    let ip = address(&joiner, Underlay::V4);
    let inside = Capture::start(node.ns(), Some("flat.1")).expect("capture");
    let line = format!("  - {{ name: n9, address: {ip}, subnets: [10.244.9.0/24] }}\n");
    agents.write_cluster(&(agents.cluster(&[1, 2, 3]) + &line));
    node.wait_status("it joined", |status| status["peers"].as_array().is_some_and(|all| all.len() == 3));
    frame(node, "flat.1", 1, 70).send(&joiner.ns, None, to).expect("send");
    inside.wait_for("the joiner", SOON, is_from(70)).expect("heard");
    assert_eq!(dropped(node), 0);
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    node.wait_status("it left", |status| status["peers"].as_array().is_some_and(|all| all.len() == 2));
    frame(node, "flat.1", 1, 71).send(&joiner.ns, None, to).expect("send");
    wait_dropped(node, 1);
    assert!(!inside.stop().iter().any(is_from(71)));
}

/// Somebody else's VXLAN device with the same port hears everybody, as before.
#[test]
fn other_devices_on_the_same_port_are_not_concerned() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    let stranger = agents.fabric.node("stranger", "a").expect("a node");
    let node = agents.node(1);
    drop(command(node.ns(), "ip link add other type vxlan id 42 dstport 8472 dev eth0"));
    drop(command(node.ns(), "ip link set other up"));
    let to = SocketAddr::new(address(&node.node, Underlay::V4), PORT);
    let inside = Capture::start(node.ns(), Some("other")).expect("capture");
    frame(node, "other", 42, 72).send(&stranger.ns, None, to).expect("send");
    inside.wait_for("the stranger, on the other device", SOON, is_from(72)).expect("heard");
    assert_eq!(dropped(node), 0);
}

/// A pod is no node, neither under its own address nor under one that is a node's: chain `guard` drops that
/// one before the filter sees it.
#[test]
fn a_pod_of_the_node_is_never_heard() {
    let agents = Agents::start("type: vxlan", Underlay::V6);
    let node = agents.node(1);
    let ns = NetNs::new().expect("a pod");
    drop(node.plugin("ADD", "pod1", &ns));
    let peer = address(&agents.node(2).node, Underlay::V6);
    drop(command(&ns, &format!("ip addr add {peer}/128 dev eth0 nodad")));
    let to = SocketAddr::new(address(&node.node, Underlay::V6), PORT);
    let inside = Capture::start(node.ns(), Some("flat6.1")).expect("capture");
    let arriving = Capture::start(node.ns(), None).expect("capture");
    frame(node, "flat6.1", 1, 73).send(&ns, Some(peer), to).expect("send");
    let is_false = |packet: &Packet| packet.outer.src == peer && packet.outer.dst == to.ip();
    arriving.wait_for("the pod's frame under a node's address", SOON, is_false).expect("it arrives");
    drop(command(&ns, &format!("ip addr del {peer}/128 dev eth0")));
    frame(node, "flat6.1", 1, 74).send(&ns, None, to).expect("send");
    wait_dropped(node, 1);
    let seen = inside.stop();
    assert!(!seen.iter().any(|packet| is_from(73)(packet) || is_from(74)(packet)), "{seen:#?}");
}

#[test]
fn a_flushed_ruleset_is_back_soon_and_no_peer_was_cut_off() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    // Chains come back in any order.
    let rules = || {
        let all = command(node.ns(), "nft -s list ruleset");
        all.split("\n\n")
            .filter(|part| part.contains("vxlan"))
            .map(|part| part.trim_end_matches(['}', '\n']).to_owned())
            .map(|part| part.replace("table inet flatnet {\n", ""))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let whole = rules();
    assert_eq!(whole.len(), 2, "{whole:?}");
    for spoil in [
        "nft flush ruleset",
        "nft flush chain inet flatnet vxlan-from-peers",
        "nft flush set inet flatnet vxlan-peers4",
        "nft delete table inet flatnet",
        "nft add element inet flatnet vxlan-peers4 { 203.0.113.9 }",
    ] {
        drop(command(node.ns(), spoil));
        let start = std::time::Instant::now();
        let back = || (rules() == whole).then_some(());
        wait_until(spoil, SOON, back).unwrap_or_else(|e| panic!("{e}\n{:?}\n{}", rules(), node.log()));
        println!("{spoil}: healed within {} ms", start.elapsed().as_millis());
        agents.all_reach_all();
    }
}
