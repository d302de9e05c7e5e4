//! The binary under the name `loopback`, as containerd calls it beside the pod network.

use std::os::unix::fs::symlink;
use std::path::Path;

use flatnet_tests::oracle::ip;
use flatnet_tests::plugin::{Answer, Call, PluginNode};
use flatnet_tests::program;
use netns_fixtures::NetNs;
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

struct Loopback {
    node: PluginNode,
    bin: tempfile::TempDir,
    pod: NetNs,
}

impl Loopback {
    fn new() -> Self {
        let (node, bin) = (PluginNode::new(), tempfile::tempdir().expect("make a directory"));
        symlink(program("flatnet"), bin.path().join("loopback")).expect("link the program");
        let pod = NetNs::new().expect("make a pod's namespace");
        drop(flatnet_tests::oracle::command(&pod, "ip link set lo down"));
        Self { node, bin, pod }
    }

    fn call(&self, verb: &str, netns: &Path, conf: &Value) -> Call {
        self.node.call(verb, "63ba9683fa7e", netns, conf).var("CNI_IFNAME", Some("lo"))
    }

    fn run(&self, call: &Call) -> Answer {
        self.node.execute(&self.bin.path().join("loopback"), call)
    }

    fn is_up(&self) -> bool {
        ip(&self.pod, "link show dev lo")[0]["flags"].as_array().expect("flags").contains(&json!("UP"))
    }
}

fn conf(version: &str) -> Value {
    json!({ "cniVersion": version, "name": "cni-loopback", "type": "loopback" })
}

#[test]
fn loopback_answers_in_every_version_and_del_always_succeeds() {
    for version in VERSIONS {
        let lo = Loopback::new();
        let path = lo.pod.path();
        let answer = lo.run(&lo.call("ADD", &path, &conf(version)));
        assert!(answer.ok && lo.is_up(), "{version}: {} {}", answer.json, answer.stderr);
        assert_eq!(answer.json["cniVersion"], version);
        if version < "0.3.0" {
            assert_eq!(answer.json["ip4"]["ip"], "127.0.0.1/8", "{version}");
            assert_eq!(answer.json["ip6"]["ip"], "::1/128", "{version}");
        } else {
            let expected = json!([{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": path }]);
            assert_eq!(answer.json["interfaces"], expected);
            assert_eq!(answer.json["ips"][0]["address"], "127.0.0.1/8", "{version}");
            assert_eq!(answer.json["ips"][1]["address"], "::1/128", "{version}");
            assert_eq!(answer.json["ips"][0]["interface"], 0);
        }
        assert!(lo.run(&lo.call("ADD", &path, &conf(version))).ok, "{version}: again");
        for netns in [path.as_path(), Path::new(""), Path::new("/nonexistent")] {
            let del = lo.run(&lo.call("DEL", netns, &conf(version)));
            assert!(del.ok && del.json == Value::Null, "{version} {netns:?}: {}", del.json);
        }
        assert!(!lo.is_up(), "{version}");
    }
}

#[test]
fn loopback_check_sees_lo_down() {
    let lo = Loopback::new();
    let path = lo.pod.path();
    let mut conf = conf("1.0.0");
    conf["prevResult"] = lo.run(&lo.call("ADD", &path, &conf)).json;
    let check = lo.call("CHECK", &path, &conf);
    assert!(lo.run(&check).ok);
    drop(flatnet_tests::oracle::command(&lo.pod, "ip link set lo down"));
    let answer = lo.run(&check);
    assert!(!answer.ok && answer.json["msg"].as_str().unwrap().contains("lo"), "{}", answer.json);
}

#[test]
fn k1_a_chained_loopback_passes_the_result_on_unchanged() {
    let lo = Loopback::new();
    let mut conf = conf("1.0.0");
    let before = json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": lo.pod.path() }],
        "ips": [{ "address": "10.1.0.5/32", "interface": 0 }], "dns": {}, "somebody": { "else": 1 } });
    conf["prevResult"] = before.clone();
    let answer = lo.run(&lo.call("ADD", &lo.pod.path(), &conf));
    assert!(answer.ok && lo.is_up());
    assert_eq!(answer.json, before);
}

#[test]
fn loopback_serves_the_verbs_without_an_attachment() {
    let lo = Loopback::new();
    for verb in ["STATUS", "GC", "VERSION"] {
        let mut call = lo.call(verb, Path::new(""), &conf("1.1.0"));
        call.env.retain(|(k, _)| k == "CNI_COMMAND" || k == "CNI_PATH");
        let answer = lo.run(&call);
        assert!(answer.ok, "{verb}: {}", answer.json);
    }
    let own = lo.run(&lo.call("ADD", Path::new("/proc/self/ns/net"), &conf("1.0.0")));
    assert_eq!(own.json["code"], 4, "the node's own namespace: {}", own.json);
}
