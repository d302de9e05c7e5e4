//! The agent puts back what is taken, leaves alone what is right, and takes away what is stale.

use std::collections::BTreeSet;
use std::time::Instant;

use flatnet_tests::agent::{Agents, Underlay};
use flatnet_tests::oracle::{self, command};

#[test]
fn whatever_is_taken_comes_back() {
    let agents = Agents::start("type: auto", Underlay::V4);
    let node = agents.node(1);
    let before = node.ours();
    let first_fdb = command(node.ns(), "bridge fdb show dev flat.1");
    let mac = first_fdb.split_whitespace().next().unwrap().to_owned();
    let disturbances = [
        // Not `flush`: iproute2 6.1 sends a nexthop's gateway along with its number, which the kernel refuses.
        "ip route del 10.244.3.0/24".to_owned(),
        "ip route del unreachable 10.244.1.0/24".to_owned(),
        "ip -6 route del fd00:10:244:2::/64".to_owned(),
        "ip nexthop flush protocol 70".to_owned(),
        "ip neigh flush dev flat.1 nud permanent".to_owned(),
        format!("bridge fdb del {mac} dev flat.1"),
        format!("bridge fdb replace {mac} dev flat.1 dst 203.0.113.1"),
        "ip link set flat.1 mtu 1400".to_owned(),
        "ip addr flush dev flat.1".to_owned(),
        "ip route replace 10.244.3.0/24 via 192.0.2.2 proto 70".to_owned(),
    ];
    for line in &disturbances {
        drop(command(node.ns(), line));
        let start = Instant::now();
        node.wait_ours(line, &before);
        println!("{line}: healed within {} ms", start.elapsed().as_millis());
    }
    agents.all_reach_all();
}

/// Objects that carry an index or a number come back as new ones, so only what they do is compared.
#[test]
fn the_device_comes_back() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    // Without the numbers: those of a device that goes are not used again in the same turn.
    let gateways = || {
        let all = command(node.ns(), "ip nexthop show protocol 70");
        all.lines()
            .map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    let before = gateways();
    for line in [
        "ip link del flat.1",
        "ip link set flat.1 down",
        "ip link set flat.1 address 02:00:00:00:00:99",
        "ip link set flat.1 name renamed0",
    ] {
        drop(command(node.ns(), line));
        let back = || (gateways() == before).then_some(());
        netns_fixtures::wait_until(line, flatnet_tests::agent::SOON, back).unwrap();
        agents.all_reach_all();
    }
}

#[test]
fn settings_are_kept() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    drop(command(node.ns(), "sysctl -w net.ipv4.ip_forward=0"));
    netns_fixtures::wait_until("forwarding", flatnet_tests::agent::SOON, || {
        command(node.ns(), "sysctl -n net.ipv4.ip_forward").starts_with('1').then_some(())
    })
    .unwrap();
}

#[test]
fn a_restart_leaves_every_object_as_it_is() {
    let mut agents = Agents::start("type: auto", Underlay::V4);
    // Entries the kernel learns and forgets by itself are nobody's.
    let moving = |line: &str| ["REACHABLE", "STALE", "DELAY"].iter().any(|state| line.contains(state));
    let stable = |agents: &Agents| {
        let all = oracle::everything(agents.node(1).ns());
        let lines = all.into_iter().filter(|line| !moving(line)).collect::<Vec<_>>();
        (lines, agents.node(1).ours())
    };
    let before = stable(&agents);
    agents.node_mut(1).stop();
    assert_eq!(stable(&agents), before, "stopping changes nothing");
    agents.all_reach_all();
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    assert_eq!(stable(&agents), before, "nor does starting again");
    agents.node_mut(1).kill();
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    assert_eq!(stable(&agents), before, "nor does being killed");
}

#[test]
fn what_became_stale_while_the_agent_was_away_goes() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    agents.node_mut(1).stop();
    // A foreign route and a foreign nexthop, which must stay.
    drop(command(agents.node(1).ns(), "ip route add 203.0.113.0/24 via 192.0.2.2"));
    drop(command(agents.node(1).ns(), "ip nexthop add id 7 via 192.0.2.2 dev eth0"));
    drop(command(agents.node(1).ns(), "ip link add flat.9 type vxlan id 9 dstport 8472 dev eth0"));
    agents.write_cluster(&agents.cluster(&[1, 2]));
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    let ours = agents.node(1).ours();
    assert!(ours.contains("10.244.2.0/24") && !ours.contains("10.244.3.0"), "{ours}");
    assert!(!ours.contains("flat.9"), "{ours}");
    assert!(command(agents.node(1).ns(), "ip route show").contains("203.0.113.0/24 via 192.0.2.2"));
    assert!(command(agents.node(1).ns(), "ip nexthop show").contains("id 7 "));
}

/// Someone else's route for a peer's subnet stays, is named, and keeps nobody else waiting.
#[test]
fn a_conflict_is_named_and_left_alone() {
    let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    drop(command(agents.node(1).ns(), "ip route add 10.244.2.0/24 via 192.0.2.2"));
    for i in 1..=3 {
        agents.node_mut(i).start();
    }
    agents.node(1).wait_status("the conflict", |status| {
        status["peers"][0]["problem"].as_str().is_some_and(|p| p.contains("10.244.2.0/24"))
    });
    agents.ping(1, 3, Underlay::V4).unwrap();
    assert!(command(agents.node(1).ns(), "ip route show 10.244.2.0/24").contains("via 192.0.2.2 dev eth0"));
    drop(command(agents.node(1).ns(), "ip route del 10.244.2.0/24 via 192.0.2.2"));
    agents.node(1).wait_ready();
    agents.all_reach_all();
}

#[test]
fn an_uplink_that_went_down_and_up_is_used_again() {
    let agents = Agents::start("type: auto", Underlay::V4);
    let node = agents.node(1);
    drop(command(node.ns(), "ip link set eth0 down"));
    node.wait_status("the uplink is down", |status| {
        status["problems"][0].as_str().is_some_and(|p| p.contains("eth0 is down"))
    });
    drop(command(node.ns(), "ip link set eth0 up"));
    drop(command(node.ns(), "ip route replace default via 192.0.2.254"));
    node.wait_ready();
    agents.ping(1, 2, Underlay::V4).unwrap();
}

#[test]
fn cleanup_leaves_nothing_of_ours_and_everything_of_others() {
    let mut agents = Agents::prepare("type: auto", Underlay::V4);
    // A node that forwards IPv6 has anycast addresses; forwarding stays on.
    let all = |agents: &Agents| {
        let all = oracle::everything(agents.node(1).ns());
        all.into_iter().filter(|line| !line.contains("anycast")).collect::<BTreeSet<_>>()
    };
    let before = all(&agents);
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    let refused = agents.node(1).run("cleanup");
    assert_eq!(refused.status.code(), Some(1), "not under a running agent");
    agents.node_mut(1).stop();
    let cleaned = agents.node(1).run("cleanup");
    let text = String::from_utf8_lossy(&cleaned.stdout).into_owned();
    assert!(cleaned.status.success() && text.contains("removed device flat.1"), "{text}");
    oracle::assert_same(&before, &all(&agents), "cleanup");
    assert!(!agents.node(1).state.exists(), "an empty state directory goes too");
    let again = agents.node(1).run("cleanup");
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing of ours"));
}

/// Another program's VXLAN device with our VNI and port is not touched; the node says what is in the way.
#[test]
fn a_foreign_device_in_the_way_is_named() {
    let mut agents = Agents::prepare("type: auto", Underlay::V6);
    let foreign =
        "ip link add flannel.1 type vxlan id 1 dstport 8472 local 2001:db8:1::1 dev eth0 nolearning";
    drop(command(agents.node(1).ns(), foreign));
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    for i in 1..=2 {
        agents.node_mut(i).start();
    }
    agents.node(1).wait_status("the conflict", |status| {
        status["problems"][0]
            .as_str()
            .is_some_and(|p| p.contains("VXLAN device with the specified VNI already exists"))
    });
    assert!(oracle::links(agents.node(1).ns()).contains(&"flannel.1".to_owned()));
    agents.node(2).wait_ready();
    agents.ping(1, 2, Underlay::V4).expect("neighbours need no tunnel");
    drop(command(agents.node(1).ns(), "ip link del flannel.1"));
    agents.node(1).wait_ready();
}
