//! The file store: every way to replace the file is seen, and a bad file changes nothing.

use flatnet_tests::agent::{AgentNode, Agents, Underlay};

fn has_route(node: &AgentNode, i: usize) -> bool {
    node.ours().contains(&format!("10.244.{i}.0/24 nhid"))
}

fn wait_route(node: &AgentNode, i: usize, wanted: bool) {
    let what = format!("route to n{i}: {wanted}");
    let seen = netns_fixtures::wait_until(&what, flatnet_tests::agent::SOON, || {
        (has_route(node, i) == wanted).then_some(())
    });
    assert!(seen.is_ok(), "{what}\n{}\n{}", node.ours(), node.log());
}

#[test]
fn a_file_that_is_renamed_into_place_is_read() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    agents.write_cluster(&agents.cluster(&[1, 2]));
    wait_route(agents.node(1), 3, false);
    assert!(has_route(agents.node(1), 2), "the node that stayed keeps its route");
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    wait_route(agents.node(1), 3, true);
    agents.all_reach_all();
}

#[test]
fn a_file_that_is_written_over_is_read() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    std::fs::write(agents.cluster_path(), agents.cluster(&[1, 3])).unwrap();
    wait_route(agents.node(1), 2, false);
    assert!(has_route(agents.node(1), 3));
}

/// Kubernetes updates a ConfigMap's volume so: the file is a link to `..data/FILE`, and `..data` a link to
/// a folder that is replaced.
#[test]
fn a_swapped_symlink_is_followed() {
    let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
    let path = agents.cluster_path();
    let store = path.parent().unwrap().to_owned();
    let publish = |folder: &str, text: &str| {
        std::fs::create_dir(store.join(folder)).unwrap();
        std::fs::write(store.join(folder).join("cluster.yaml"), text).unwrap();
        std::os::unix::fs::symlink(folder, store.join("..data_tmp")).unwrap();
        std::fs::rename(store.join("..data_tmp"), store.join("..data")).unwrap();
    };
    publish("..1", &agents.cluster(&[1, 2]));
    std::os::unix::fs::symlink("..data/cluster.yaml", &path).unwrap();
    agents.node_mut(1).start();
    agents.node(1).wait_ready();
    assert!(!has_route(agents.node(1), 3));
    publish("..2", &agents.cluster(&[1, 2, 3]));
    wait_route(agents.node(1), 3, true);
}

#[test]
fn a_bad_file_keeps_what_the_good_one_built() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let before = node.ours();
    let good = agents.cluster(&[1, 2, 3]);
    let overlap = good.replace("10.244.3.0/24", "10.244.2.0/25");
    let twice = good.replace("n3", "n2");
    let bad = [
        ("is empty", String::new()),
        ("line 5", good[..good.len() - 20].to_owned()),
        ("subnet 10.244.2.0/24 of node n2 overlaps subnet 10.244.2.0/25 of node n3", overlap),
        ("node n2 is listed twice", twice),
        ("node n1 is not among its 2 nodes", agents.cluster(&[2, 3])),
        ("not a cluster", "{ not a cluster: [".to_owned()),
    ];
    for (what, text) in bad {
        agents.write_cluster(&text);
        node.wait_status(what, |status| {
            let error = status["store"]["error"].as_str().unwrap_or_default();
            error.contains(what) || what == "not a cluster" && error.contains("line 1")
        });
        assert_eq!(node.ours(), before, "{what}");
        assert_eq!(node.status()["ready"], true, "the network works as before");
    }
    std::fs::remove_file(agents.cluster_path()).unwrap();
    node.wait_status("No such file", |status| {
        status["store"]["error"].as_str().is_some_and(|error| error.contains("No such file"))
    });
    assert_eq!(node.ours(), before);
    agents.write_cluster(&good);
    node.wait_status("good again", |status| status["store"]["error"].is_null());
    agents.all_reach_all();
}

/// Started before its file exists, the agent waits for it: it does not end, and says that it is not ready.
#[test]
fn a_file_that_comes_later_is_waited_for() {
    let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
    agents.node_mut(1).start();
    agents
        .node(1)
        .wait_status("not ready", |status| status["ready"] == false && status["store"]["error"].is_string());
    let answer = agents.node(1).run("status");
    assert_eq!(answer.status.code(), Some(1));
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    agents.node(1).wait_ready();
}

#[test]
fn check_config_names_what_is_wrong() {
    let agents = Agents::prepare("type: vxlan", Underlay::V4);
    agents.write_cluster(&agents.cluster(&[1, 2, 2]));
    let answer = agents.node(1).run("check-config");
    let text = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(1));
    assert!(text.contains("node n2 is listed twice"), "{text}");
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    assert!(agents.node(1).run("check-config").status.success());
}
