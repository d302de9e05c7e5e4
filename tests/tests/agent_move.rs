//! A live network moves from one backend to another without losing a packet, and so it does when the agents
//! are replaced.

use std::thread;

use flatnet_tests::agent::{Agents, Underlay, pod};
use flatnet_tests::oracle::command;

/// Gives all agents another backend, one after the other.
fn move_to(agents: &mut Agents, backend: &str) {
    for i in 1..=3 {
        agents.node_mut(i).stop();
        agents.node(i).configure(i, backend);
        agents.node_mut(i).start();
        agents.node(i).wait_ready();
    }
}

/// Runs `disturb` while node 1's pod pings those of the others a hundred times a second, and answers with
/// the summaries of the pings.
fn under_traffic(agents: &mut Agents, disturb: impl FnOnce(&mut Agents)) -> Vec<String> {
    let ns = agents.node(1).ns().clone();
    thread::scope(|scope| {
        let mut pings = Vec::new();
        for (b, family) in [(2, Underlay::V4), (2, Underlay::V6), (3, Underlay::V4), (3, Underlay::V6)] {
            let line = format!("ping -q -i 0.01 -w 2 -I {} {}", pod(1, family), pod(b, family));
            let ns = &ns;
            pings.push(scope.spawn(move || command(ns, &line)));
        }
        disturb(agents);
        pings.into_iter().map(|ping| ping.join().expect("ping ends")).collect()
    })
}

fn check_no_loss(what: &str, summaries: &[String]) {
    for summary in summaries {
        let line = summary.lines().find(|line| line.contains("packet loss")).expect("a summary");
        // One packet may be on its way when time is up.
        let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
        let (sent, received) = (numbers.next().expect("sent"), numbers.next().expect("received"));
        // Two hundred, where the machine has nothing else to do.
        assert!(sent > 20 && received + 1 >= sent, "{what}: {summary}");
    }
}

#[test]
fn backends_change_under_traffic_without_loss() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let mut agents = Agents::start("type: vxlan", underlay);
        for backend in ["type: auto", "type: vxlan"] {
            let summaries = under_traffic(&mut agents, |agents| move_to(agents, backend));
            check_no_loss(&format!("to {backend} over {underlay:?}"), &summaries);
            agents.all_reach_all();
        }
        // Another VNI is another network: pairs are apart until both are there, but all end well.
        for backend in ["type: vxlan, vni: 2", "type: auto, port: 4789", "type: vxlan"] {
            move_to(&mut agents, backend);
            agents.all_reach_all();
        }
        for i in 1..=3 {
            let log = agents.node(i).log();
            assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        }
    }
}

#[test]
fn agents_are_replaced_under_traffic_without_loss() {
    let mut agents = Agents::start("type: auto", Underlay::V4);
    let summaries = under_traffic(&mut agents, |agents| {
        for i in 1..=3 {
            agents.node_mut(i).kill();
            agents.node_mut(i).start();
            agents.node(i).wait_ready();
        }
    });
    check_no_loss("kill -9 and start", &summaries);
}
