//! Pods on several nodes: one flat network, and nodes that fail.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use lab::{Lab, SOON, bin_dir};
use netns_fixtures::wait_until;

fn cluster(backend: &str) -> Lab {
    let lab = Lab::bare();
    let dir = bin_dir();
    let dir = dir.to_str().expect("a path");
    let args =
        ["up", "--nodes", "2", "--backend", backend, "--bin-dir", dir, "--max-container-restart-period", "1"];
    let told = lab.ok(&args);
    assert!(told.starts_with("node/n1 created   pod CIDR 10.244.1.0/24   uplink 192.0.2.1"), "{told}");
    for (name, node) in [("a1", "n1"), ("b1", "n1"), ("a2", "n2")] {
        lab.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0,
              containers: [{{name: c, image: 'builtin/tools:v1', args: [netexec, --http-port=80],
                ports: [{{containerPort: 80, hostPort: {}}}]}},
                {{name: sh, image: 'busybox:v1', command: [sleep, '100000']}}]}}}}",
            if name == "b1" { 8889 } else { 8888 }
        ));
    }
    for name in ["a1", "b1", "a2"] {
        lab.wait_ready(name);
        lab.wait(name, "serving", |_| lab.logs(name, "c").contains("serving"));
    }
    lab
}

fn ip(lab: &Lab, pod: &str) -> String {
    lab.get(pod)["status"]["podIP"].as_str().expect("an address").to_owned()
}

/// What the server at `to` says about the source of a request from `from`.
fn seen(lab: &Lab, from: &str, to: &str) -> Option<String> {
    let line = format!("printf 'GET /clientip HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {to} 80");
    let output = lab.flatpod(&["exec", from, "-c", "sh", "--", "sh", "-c", &line]);
    let text = lab::text(&output.stdout);
    Some(text.split_once("\r\n\r\n")?.1.rsplit_once(':')?.0.to_owned())
}

fn all_meet(lab: &Lab) {
    for from in ["a1", "b1", "a2"] {
        for to in ["a1", "b1", "a2"] {
            let (own, other) = (ip(lab, from), ip(lab, to));
            let source = wait_until(&format!("{to} to answer {from}"), SOON, || seen(lab, from, &other));
            assert_eq!(source.expect("an answer"), own, "{to} sees {from} as it is");
        }
    }
}

/// Claims 3, 7, 19, 22, 23, 24.
fn flat(backend: &str) {
    let lab = cluster(backend);
    all_meet(&lab);
    let (a1, a2) = (lab.get("a1"), lab.get("a2"));
    assert!(ip(&lab, "a1").starts_with("10.244.1.") && ip(&lab, "a2").starts_with("10.244.2."));
    assert_eq!(
        (a1["status"]["hostIP"].as_str(), a2["status"]["hostIP"].as_str()),
        (Some("192.0.2.1"), Some("192.0.2.2"))
    );
    // The same host port on two nodes leads to two pods.
    for (node, name) in [("192.0.2.1", "a1"), ("192.0.2.2", "a2")] {
        let line = format!("printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {node} 8888");
        let told = lab.exec("b1", "sh", &["sh", "-c", &line]);
        assert!(told.ends_with(name), "{told}");
    }
}

#[test]
fn r22_r23_pods_of_all_nodes_meet_without_nat_over_vxlan() {
    flat("vxlan");
}

#[test]
fn r22_r23_pods_of_all_nodes_meet_without_nat_over_routes() {
    flat("auto");
}

/// Claims 9, 12, 17, 21, 22, 23 as the user is shown them, and a rule of the node's that makes them untrue.
#[test]
fn r17_two_pods_are_proven_and_hidden_nat_is_found() {
    let lab = cluster("vxlan");
    all_meet(&lab);
    let proofs = |expected: bool| -> Vec<serde_json::Value> {
        let output = lab.flatpod(&["check", "a1", "a2", "-o", "json"]);
        assert_eq!(output.status.success(), expected, "{}", lab::text(&output.stdout));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let about = |proofs: &[serde_json::Value], subject: &str, claim: &str| -> Vec<(bool, String)> {
        let found = proofs.iter().filter(|one| one["subject"] == subject && one["claim"] == claim);
        found.map(|one| (one["ok"] == true, one["evidence"].as_str().expect("text").to_owned())).collect()
    };
    let good = proofs(true);
    let (net, own) = (lab::ns(lab.pid("a1", "c"), "net"), lab::ns(lab.pid("a1", "sh"), "mnt"));
    let inode = |link: &str| link.trim_matches(|c: char| !c.is_ascii_digit()).to_owned();
    assert!(
        about(&good, "a1", "containers share their namespaces")[0]
            .1
            .contains(&format!("net {}", inode(&net)))
    );
    assert!(about(&good, "a1", "each container has its own")[0].1.contains(&inode(&own)));
    let seen = about(&good, "a1 -> a2", "seen as itself, no NAT");
    assert_eq!(seen.len(), 2, "one for each family: {seen:?}");
    assert!(seen[0].1.contains(&format!("TCP from {}:", ip(&lab, "a1"))), "{seen:?}");
    let path = about(&good, "a2 -> a1", "the path between nodes");
    assert!(path[0].1.contains("by VXLAN") && path[0].1.ends_with("192.0.2.2 -> 192.0.2.1"), "{path:?}");

    let net = format!("--net={}", lab.root().join("nodes/n2/net").display());
    let rules = "add table ip hidden; add chain ip hidden out { type nat hook postrouting priority 90; }; \
                 add rule ip hidden out ip saddr 10.244.1.0/24 masquerade";
    let done = std::process::Command::new("nsenter").args([&net, "nft", rules]).status().expect("nft runs");
    assert!(done.success());
    let bad = proofs(false);
    let seen = about(&bad, "a1 -> a2", "seen as itself, no NAT");
    assert!(!seen[0].0 && seen[0].1.contains("is seen as"), "IPv4 is translated: {seen:?}");
    assert!(seen[1].0, "IPv6 is not: {seen:?}");
}

/// Claim 31: nothing heals a bare pod, and nodes are real ones.
#[test]
fn r31_a_failed_node_cuts_its_pods_off_until_it_heals() {
    let lab = cluster("auto");
    all_meet(&lab);
    let before = lab.get("a1");
    lab.ok(&["node", "fail", "n1"]);
    assert_eq!(seen(&lab, "a2", &ip(&lab, "a1")), None, "across the cut");
    assert_eq!(seen(&lab, "a1", &ip(&lab, "b1")), Some(ip(&lab, "a1")), "within the node");
    let dir = bin_dir();
    lab.ok(&["node", "heal", "n1", "--bin-dir", dir.to_str().expect("a path")]);
    all_meet(&lab);
    let after = lab.get("a1");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
    assert_eq!(lab::status(&after, "c")["restartCount"], 0);
}

/// A pod on the node's network has the node's address, not the machine's.
#[test]
fn a_pod_on_the_nodes_network_has_the_nodes_address() {
    let lab = cluster("vxlan");
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: h}, spec: {nodeName: n2, hostNetwork: true, terminationGracePeriodSeconds: 0,
          containers: [{name: sh, image: 'busybox:v1', command: [sleep, '100000']}]}}",
    );
    assert_eq!(lab.wait_ready("h")["status"]["podIP"], "192.0.2.2");
    // Claim 26: from the node to its pods.
    let told = wait_until("an answer", SOON, || seen(&lab, "h", &ip(&lab, "a2"))).expect("an answer");
    assert!(!told.is_empty());
    let links = lab.exec("h", "sh", &["ls", "/sys/class/net"]);
    assert!(links.contains("eth0") && links.contains("flat.") && links.contains("fn"), "{links}");
}
