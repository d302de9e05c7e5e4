//! Requests captured from real runtimes (`tests/samples/`), replayed in order: only the plugin's type,
//! its state directory and the paths of namespaces are ours.

use std::collections::HashMap;
use std::os::unix::fs::symlink;

use flatnet_tests::oracle::links;
use flatnet_tests::plugin::{Answer, Call, PluginNode};
use flatnet_tests::program;
use netns_fixtures::NetNs;
use serde_json::{Value, json};

/// What the replay of one file remembers, as its runtime did.
struct Runtime {
    node: PluginNode,
    bin: tempfile::TempDir,
    pods: HashMap<String, NetNs>,
    results: HashMap<String, Value>,
}

impl Runtime {
    fn new() -> Self {
        let bin = tempfile::tempdir().expect("make a directory");
        for name in ["flatnet", "loopback"] {
            symlink(program("flatnet"), bin.path().join(name)).expect("link the program");
        }
        Self { node: PluginNode::new(), bin, pods: HashMap::new(), results: HashMap::new() }
    }

    /// Runs one captured request; the verb, its version, and the answer.
    fn replay(&mut self, sample: &Value) -> (String, String, Answer) {
        let mut env: HashMap<String, String> =
            serde_json::from_value(sample["env"].clone()).expect("an environment");
        let netns = env["CNI_NETNS"].clone();
        if netns.starts_with("NETNS") {
            let pod = self.pods.entry(netns).or_insert_with(|| NetNs::new().expect("make a namespace"));
            env.insert("CNI_NETNS".to_owned(), pod.path().display().to_string());
        }
        let (verb, container) = (env["CNI_COMMAND"].clone(), env["CNI_CONTAINERID"].clone());
        let mut conf = sample["stdin"].clone();
        if conf.get("stateDir").is_some() {
            conf["stateDir"] = json!(self.node.state_dir());
        }
        if conf.get("prevResult").is_some() {
            conf["prevResult"] = self.results[&container].clone();
        }
        let plugin = self.bin.path().join(sample["plugin"].as_str().expect("a plugin"));
        let call = Call { env: env.into_iter().collect(), stdin: conf.to_string().into_bytes() };
        let answer = self.node.execute(&plugin, &call);
        if verb == "ADD" && sample["plugin"] == "flatnet" {
            self.results.insert(container, answer.json.clone());
        }
        (verb, conf["cniVersion"].as_str().expect("a version").to_owned(), answer)
    }
}

fn replay(samples: &str) {
    let mut runtime = Runtime::new();
    for (i, line) in samples.lines().enumerate() {
        let (verb, version, answer) = runtime.replay(&serde_json::from_str(line).expect("a sample"));
        assert!(answer.ok, "{i} {verb}: {} {}", answer.json, answer.stderr);
        assert_eq!(answer.stderr, "", "{i} {verb}");
        match verb.as_str() {
            "ADD" => {
                assert_eq!(answer.json["cniVersion"], version, "{i}");
                let sandboxes: Vec<&Value> = answer.json["interfaces"]
                    .as_array()
                    .expect("interfaces")
                    .iter()
                    .filter_map(|interface| interface.get("sandbox"))
                    .collect();
                assert_eq!(sandboxes.len(), 1, "{i}: {}", answer.json);
                let has_family = answer.json.pointer("/ips/0/version").is_some();
                assert_eq!(has_family, version.as_str() < "1.0.0", "{i}: {}", answer.json);
            }
            "VERSION" => assert_eq!(answer.json["cniVersion"], version, "{i}"),
            _ => assert_eq!(answer.json, Value::Null, "{i} {verb}"),
        }
    }
    let node = &runtime.node;
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

/// STATUS, loopback, and the DEL storm: stop with the result, remove with neither result nor namespace.
#[test]
fn r1_r2_r3_containerd_is_served() {
    replay(include_str!("../samples/containerd-2.3.4.jsonl"));
}

/// VERSION with everything "dummy", and disconnect, restart and remove as DEL and ADD rounds.
#[test]
fn v3_r1_podman_is_served() {
    replay(include_str!("../samples/podman-4.3.1.jsonl"));
}
