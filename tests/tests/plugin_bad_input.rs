//! Bad input to the plugin: one clear error with the specification's code, and nothing changed.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use flatnet_tests::oracle;
use flatnet_tests::plugin::{Answer, Call, PluginNode};
use netns_fixtures::NetNs;
use serde_json::json;

struct Bench {
    node: PluginNode,
    pod: NetNs,
    node_before: BTreeSet<String>,
    pod_before: BTreeSet<String>,
}

impl Bench {
    fn new() -> Self {
        let (node, pod) = (PluginNode::new(), NetNs::new().expect("make a pod's namespace"));
        let (node_before, pod_before) = (oracle::everything(&node.ns), oracle::everything(&pod));
        Self { node, pod, node_before, pod_before }
    }

    fn add(&self) -> Call {
        self.node.call("ADD", "c1", &self.pod.path(), &self.node.conf("1.1.0"))
    }

    /// Runs a call that must fail with `code`, name `words`, and change nothing.
    fn refused(&self, what: &str, call: &Call, code: u32, words: &[&str]) -> Answer {
        let answer = self.node.run(call);
        assert!(!answer.ok, "{what}: exit status");
        assert_eq!(answer.json["code"], code, "{what}: {}", answer.json);
        let msg = answer.json["msg"].as_str().unwrap_or_default();
        for word in words {
            assert!(msg.contains(word), "{what}: {word:?} is not in {msg:?}");
        }
        assert!(answer.json["cniVersion"].is_string(), "{what}: {}", answer.json);
        oracle::assert_same(&self.node_before, &oracle::everything(&self.node.ns), what);
        oracle::assert_same(&self.pod_before, &oracle::everything(&self.pod), what);
        assert_eq!((self.node.records().len(), self.node.used_addresses()), (0, 0), "{what}");
        answer
    }
}

#[test]
fn p7_r6_stdin_that_is_no_configuration() {
    let bench = Bench::new();
    let whole = bench.add().stdin;
    let inputs: [&[u8]; 7] = [
        b"",
        b"\n\n",
        b"not json",
        b"[1,2]",
        &whole[..whole.len() / 2],
        b"\xff\xfe\x00",
        b"{\"cniVersion\":",
    ];
    for stdin in inputs {
        let what = String::from_utf8_lossy(stdin).into_owned();
        bench.refused(&what, &Call { stdin: stdin.to_vec(), ..bench.add() }, 6, &["stdin"]);
    }
}

#[test]
fn p1_to_p6_missing_and_malformed_variables() {
    let bench = Bench::new();
    for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
        bench.refused(name, &bench.add().var(name, None), 4, &[name]);
        bench.refused(name, &bench.add().var(name, Some("")), 4, &[name]);
    }
    let bad = [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", ""),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "-starts-wrong"),
        ("CNI_IFNAME", "eth/0"),
        ("CNI_IFNAME", "eth 0"),
        ("CNI_IFNAME", "eth:0"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "0123456789abcdef"),
    ];
    for (name, value) in bad {
        bench.refused(value, &bench.add().var(name, Some(value)), 4, &[name, value]);
    }
}

#[test]
fn a13_namespaces_that_are_none() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let dangling = dir.path().join("dangling");
    symlink("/nonexistent", &dangling).unwrap();
    let paths =
        [Path::new("/nonexistent/ns"), dir.path(), &file, &fifo, &dangling, Path::new("/proc/self/ns/uts")];
    for path in paths {
        let text = path.display().to_string();
        bench.refused(&text, &bench.add().var("CNI_NETNS", Some(&text)), 4, &["CNI_NETNS", &text]);
    }
}

#[test]
fn p8_p9_p10_configurations_that_cannot_be() {
    let bench = Bench::new();
    let cases = [
        (json!({ "cniVersion": "7.0.0" }), 1, "7.0.0"),
        (json!({ "name": "" }), 7, "network name"),
        (json!({ "name": "a/b" }), 7, "a/b"),
        (json!({ "subnets": ["10.22.0.1/24"] }), 7, "10.22.0.1/24"),
        (json!({ "subnets": ["10.22.0.0/99"] }), 7, "10.22.0.0/99"),
        (json!({ "mtu": 70000 }), 7, "70000"),
        (json!({ "mtu": "1500" }), 6, "mtu"),
        (json!({ "stateDir": "not/absolute" }), 7, "not/absolute"),
        (json!({ "ipam": { "type": "dhcp" } }), 2, "dhcp"),
        (json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 8080 }] } }), 7, "8080"),
        (json!({ "runtimeConfig": { "ips": ["10.99.0.1"] } }), 7, "10.99.0.1"),
        (json!({ "routes": [{ "dst": "nowhere" }] }), 7, "nowhere"),
        (json!({ "prevResult": "nothing" }), 6, "prevResult"),
        (json!({ "prevResult": [] }), 6, "prevResult"),
    ];
    for (keys, code, word) in cases {
        let mut conf = bench.node.conf("1.1.0");
        for (key, value) in keys.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let call = bench.node.call("ADD", "c1", &bench.pod.path(), &conf);
        bench.refused(word, &call, code, &[word]);
    }
}

#[test]
fn a_full_pool_names_itself_and_leaves_nothing() {
    let node = PluginNode::new();
    let mut conf = node.conf("1.1.0");
    conf["subnets"] = json!(["10.22.0.0/30"]);
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new().unwrap()).collect();
    for (i, pod) in pods.iter().enumerate().take(2) {
        assert!(node.run(&node.call("ADD", &format!("c{i}"), &pod.path(), &conf)).ok);
    }
    let (node_before, pod_before) = (oracle::everything(&node.ns), oracle::everything(&pods[2]));
    for _ in 0..5 {
        let answer = node.run(&node.call("ADD", "late", &pods[2].path(), &conf));
        assert_eq!(answer.json["code"], 11, "{}", answer.json);
        assert!(answer.json["msg"].as_str().unwrap().contains("10.22.0.0/30"), "{}", answer.json);
    }
    oracle::assert_same(&node_before, &oracle::everything(&node.ns), "node");
    oracle::assert_same(&pod_before, &oracle::everything(&pods[2]), "pod");
    assert_eq!((node.records().len(), node.used_addresses()), (2, 2));
}

/// The v6 pool is full, the v4 one is not: the v4 address that was taken first must come back.
#[test]
fn half_a_dual_stack_address_is_given_back() {
    let node = PluginNode::new();
    let mut conf = node.conf("1.1.0");
    conf["subnets"] = json!(["10.22.0.0/24", "fd00:22::/128"]);
    let pods: Vec<NetNs> = (0..2).map(|_| NetNs::new().unwrap()).collect();
    assert!(node.run(&node.call("ADD", "c0", &pods[0].path(), &conf)).ok);
    let answer = node.run(&node.call("ADD", "c1", &pods[1].path(), &conf));
    assert!(answer.json["msg"].as_str().unwrap().contains("fd00:22::/128"), "{}", answer.json);
    assert_eq!((node.records().len(), node.used_addresses()), (1, 2));
}

#[test]
fn r7_a_megabyte_of_configuration_is_no_problem() {
    let bench = Bench::new();
    let mut conf = bench.node.conf("1.1.0");
    conf["prevResult"] = json!({ "x": "y".repeat(1 << 20) });
    let call = bench.node.call("DEL", "c1", &bench.pod.path(), &conf);
    assert!(bench.node.run(&call).ok);
}

#[test]
fn damaged_state_stops_neither_del_nor_the_next_add() {
    for damage in ["", "{", "\u{0}\u{0}", "{\"version\":1}"] {
        let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
        drop(node.add("c1", &pod));
        for file in node.records() {
            std::fs::write(file, damage).unwrap();
        }
        for entry in std::fs::read_dir(node.state_dir().join("addresses")).unwrap() {
            std::fs::write(entry.unwrap().path(), damage).unwrap();
        }
        let answer = node.del("c1", &pod.path());
        assert!(answer.ok, "{damage:?}: {}", answer.json);
        assert!(answer.stderr.contains("damaged"), "{damage:?}: it is reported ({})", answer.stderr);
        assert!(oracle::links(&node.ns).is_empty(), "{damage:?}");
        drop(node.add("c1", &pod));
        assert!(node.del("c1", &pod.path()).ok);
    }
}
