//! What `flatnetd install` and `uninstall` do, seen by a running containerd: it takes the network as it comes,
//! changes and goes, without being restarted.

use flatnet_tests::containerd::Containerd;
use flatnet_tests::site::SNAPSHOT;
use serde_json::json;

use crate::{DUAL, remove_all};

#[test]
fn a_running_containerd_follows_install_take_over_and_uninstall() {
    let containerd = Containerd::start(&DUAL);
    let (before, ready) = (containerd.census(), || containerd.network_is_ready());
    containerd.remove_list();
    for name in ["flatnet", "loopback"] {
        std::fs::remove_file(containerd.plugin(name)).unwrap();
    }
    containerd.wait("no network", || !ready());
    // With an agent's snapshot: addresses come from there.
    std::fs::write(containerd.node.state_dir().join("node.json"), SNAPSHOT).unwrap();
    containerd.flatnetd("install", &["--wait", "10"]);
    containerd.wait("the network", ready);
    let pod = containerd.cri.run_pod("a").unwrap_or_else(|e| panic!("{e}\n{}", containerd.log()));
    let ips = containerd.cri.addresses(&pod).unwrap();
    assert!(ips[0].starts_with("10.244.1."), "{ips:?}");
    remove_all(&containerd);
    // Another network comes first by name, and its plugin does not exist.
    let other = json!({ "cniVersion": "1.0.0", "name": "other", "plugins": [{ "type": "nowhere" }] });
    containerd.write_conf("05-other.conflist", &other.to_string());
    containerd.wait("the other network", || {
        let refused = containerd.cri.run_pod("b").err().map(|e| e.message().contains("nowhere"));
        remove_what_can_be(&containerd);
        refused == Some(true)
    });
    let said = containerd.flatnetd("install", &["--take-over"]);
    assert!(said.contains("disabled"), "{said}");
    remove_all(&containerd);
    containerd.wait("our network again", || {
        let pod = containerd.cri.run_pod("c");
        remove_what_can_be(&containerd);
        pod.is_ok()
    });
    let said = containerd.flatnetd("uninstall", &[]);
    assert!(said.contains("restored") && !containerd.plugin("flatnet").exists(), "{said}");
    std::fs::remove_file(containerd.plugin("../net.d/05-other.conflist")).unwrap();
    containerd.wait("no network", || !ready());
    // As it was: what the census counts is of containerd and of pods.
    containerd.flatnetd("install", &["--plugin", &flatnet_tests::program("flatnet").display().to_string()]);
    containerd.wait("the network", ready);
    remove_all(&containerd);
    containerd.nothing_left(&before);
}

/// A pod that the other network refused stays known to containerd until its plugin, or ours, removes it.
fn remove_what_can_be(containerd: &Containerd) {
    for id in containerd.cri.pods().unwrap() {
        // Tried again later.
        let _ = containerd.cri.remove_pod(&id);
    }
}
