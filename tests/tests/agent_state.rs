//! The agent's own files, removed or left behind; and the masquerade chain that is not wanted.

use flatnet_tests::agent::{Agents, SOON, Underlay};
use flatnet_tests::oracle::command;
use netns_fixtures::wait_until;

/// Whoever removes the state directory gets it back with all that is in it, and the lock keeps others out.
#[test]
fn a_removed_state_directory_is_made_again() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let read = |file: &str| std::fs::read_to_string(node.state.join(file)).ok();
    let snapshot = read("node.json").unwrap();
    let back = |what: &str| {
        let start = std::time::Instant::now();
        let all = || ["agent.json", "agent.lock", "cluster.json"].iter().all(|file| read(file).is_some());
        wait_until(what, SOON, || (read("node.json").as_ref() == Some(&snapshot) && all()).then_some(()))
            .unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
        println!("{what}: back within {} ms", start.elapsed().as_millis());
    };
    std::fs::remove_dir_all(&node.state).unwrap();
    back("the directory removed");
    let second = node.run("run");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("a flatnetd runs with state directory"), "{text}");
    std::fs::remove_file(node.state.join("node.json")).unwrap();
    back("node.json removed");
    std::fs::remove_file(node.state.join("agent.lock")).unwrap();
    back("the lock removed");
    assert!(String::from_utf8_lossy(&node.run("status").stdout).contains("(ready"));
    std::fs::rename(&node.state, node.state.with_extension("away")).unwrap();
    back("the directory renamed");
    assert!(String::from_utf8_lossy(&node.run("status").stdout).contains("(ready"));
    agents.all_reach_all();
}

/// Without masquerade there is no chain, and one that was there goes.
#[test]
fn a_chain_that_is_not_wanted_is_removed() {
    let mut agents = Agents::start("type: direct", Underlay::V6);
    let ns = agents.node(1).ns().clone();
    let rules = || command(&ns, "nft list ruleset");
    assert!(rules().contains("chain masquerade {"));
    agents.node_mut(1).stop();
    agents.node(1).configure_more("masquerade: false");
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    assert!(!rules().contains("chain masquerade"), "{}", rules());
}
