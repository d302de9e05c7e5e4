//! A store that suddenly lists far fewer peers takes nobody's routes away until time confirms it.

use std::time::Duration;

use flatnet_tests::agent::{Agents, SOON, Underlay};
use netns_fixtures::wait_until;

/// Forty more nodes that exist only in the file.
const ABSENT: std::ops::Range<u8> = 100..140;

fn line(n: u8) -> String {
    format!("  - {{ name: m{n}, address: 192.0.2.{n}, subnets: [10.244.{n}.0/24] }}\n")
}

fn start(confirm: u32) -> Agents {
    let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
    let many = agents.cluster(&[1, 2, 3]) + &ABSENT.map(line).collect::<String>();
    agents.write_cluster(&many);
    for node in &mut agents.nodes {
        node.configure_more(&format!("removeConfirmSeconds: {confirm}"));
        node.start();
    }
    agents.nodes.iter().for_each(flatnet_tests::agent::AgentNode::wait_ready);
    agents
}

fn routes(agents: &Agents, node: usize) -> usize {
    agents.node(node).ours().matches(" nhid ").count()
}

#[test]
fn most_peers_vanishing_from_the_file_keep_their_routes_until_time_confirms_it() {
    let agents = start(4);
    let node = agents.node(1);
    let before = routes(&agents, 1);
    // Node 3 and the forty are left out, one joins.
    agents.write_cluster(&(agents.cluster(&[1, 2]) + &line(77)));
    node.wait_status("the guard holds", |status| status["store"]["kept"] == 41);
    assert_eq!(routes(&agents, 1), before + 1, "the joiner is served at once\n{}", node.ours());
    agents.ping(1, 3, Underlay::V4).expect("the peer that is left out is still reached");
    let shown = String::from_utf8_lossy(&node.run("status").stdout).into_owned();
    assert!(shown.contains("store lists 2 of 43 peers; keeping 41 until "), "{shown}");
    assert!(node.log().contains("store lists 2 of 43 peers; keeping 41 until "), "{}", node.log());
    assert!(node.get("/metrics").contains("flatnet_store_kept_peers 41"));
    assert!(node.get("/readyz").starts_with("HTTP/1.1 200"), "the network works");
    // The same again, rewritten, is no confirmation.
    agents.write_cluster(&(agents.cluster(&[1, 2]) + &line(77)));
    agents.ping(1, 3, Underlay::V6).expect("still there");
    let gone = || (routes(&agents, 1) == 3).then_some(());
    wait_until("the loss is confirmed", SOON, gone).unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
    assert!(agents.ping(1, 2, Underlay::V4).is_ok());
    node.wait_status("nobody is kept", |status| status["store"]["kept"] == 0);
}

#[test]
fn a_restart_meanwhile_forgets_nobody() {
    let mut agents = start(3600);
    let before = routes(&agents, 1);
    agents.write_cluster(&agents.cluster(&[1, 2]));
    agents.node(1).wait_status("the guard holds", |status| status["store"]["kept"] == 41);
    agents.node_mut(1).kill();
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    agents.node(1).wait_status("it holds again", |status| status["store"]["kept"] == 41);
    assert_eq!(routes(&agents, 1), before);
    agents.ping(1, 3, Underlay::V4).expect("still reached");
    // All come back, one by one or not at all: everything listed is as it was.
    agents.write_cluster(&(agents.cluster(&[1, 2, 3]) + &ABSENT.map(line).collect::<String>()));
    agents.node(1).wait_status("all are back", |status| status["store"]["kept"] == 0);
    assert_eq!(routes(&agents, 1), before);
}

/// A store that is away at start changes nothing: the agent works, and heals, with what it knew.
#[test]
fn an_agent_that_starts_without_its_store_works_with_what_it_knew() {
    let mut agents = start(30);
    agents.node_mut(1).kill();
    std::fs::remove_file(agents.cluster_path()).unwrap();
    agents.node_mut(1).start();
    let node = agents.node(1);
    node.wait_ready();
    node.wait_status("it says so", |status| {
        status["store"]["remark"].as_str().is_some_and(|remark| remark.contains("the run before"))
    });
    drop(flatnet_tests::oracle::command(node.ns(), "ip link del flat.1"));
    let healed = || agents.ping(1, 3, Underlay::V4).ok();
    wait_until("a repair", Duration::from_secs(10), healed).unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
}
