//! Further rows of the CNI checklist: what a plugin must put up with.

use std::path::PathBuf;

use flatnet_tests::oracle::{self, links};
use flatnet_tests::plugin::PluginNode;
use netns_fixtures::NetNs;
use serde_json::{Value, json};

#[test]
fn k20_names_with_dots_dashes_underscores_and_digits() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    for name in ["a.b_c-9", "9net", "A"] {
        let mut conf = node.conf("1.1.0");
        conf["name"] = json!(name);
        let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
        assert!(answer.ok, "{name}: {}", answer.json);
        assert!(node.run(&node.call("DEL", "c1", &pod.path(), &conf)).ok, "{name}");
    }
}

#[test]
fn a15_k10_a16_reserved_keys_pass_and_dns_comes_back() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut conf = node.conf("1.1.0");
    conf["capabilities"] = json!({ "portMappings": true });
    conf["runtimeConfig"] = json!({ "cgroupPath": "/x", "io.kubernetes.cri.pod-annotations": {} });
    conf["args"] = json!({ "cni": { "labels": [] }, "org.example": 1 });
    conf["cni.dev/valid-attachments"] = json!([]);
    conf["podman_args"] = json!(["x"]);
    conf["dns"] = json!({ "nameservers": ["10.96.0.10"], "search": ["cluster.local"] });
    let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
    assert!(answer.ok, "{}", answer.json);
    assert_eq!(answer.json["dns"], conf["dns"]);
}

#[test]
fn k17_add_and_del_work_while_status_fails() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut conf = node.conf("1.1.0");
    conf["subnets"] = json!(["10.22.0.8/32"]);
    assert!(node.run(&node.call("ADD", "c1", &pod.path(), &conf)).ok);
    assert!(!node.run(&node.call("STATUS", "", "".as_ref(), &conf)).ok);
    assert!(node.run(&node.call("DEL", "c1", &pod.path(), &conf)).ok);
    assert!(node.run(&node.call("ADD", "c2", &pod.path(), &conf)).ok);
}

#[test]
fn d3_d6_d7_del_after_the_link_is_gone_and_with_a_changed_request() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    drop(node.add("c1", &pod));
    drop(oracle::command(&pod, "ip link del eth0"));
    let mut conf = node.conf("1.1.0");
    conf["runtimeConfig"] = json!({ "portMappings": [{ "hostPort": 1 }], "ips": ["x"], "mac": 9 });
    let call = node.call("DEL", "c1", &pod.path(), &conf).var("CNI_ARGS", Some("wrong;=;MAC"));
    let answer = node.run(&call);
    assert!(answer.ok && answer.json == Value::Null, "{}", answer.json);
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

#[test]
fn r4_a_process_path_as_namespace() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut sleep = pod
        .run(|| {
            #[expect(clippy::disallowed_methods, reason = "a container's process")]
            std::process::Command::new("sleep").arg("60").spawn().unwrap()
        })
        .unwrap();
    let path = PathBuf::from(format!("/proc/{}/ns/net", sleep.id()));
    let added = node.run(&node.call("ADD", "c1", &path, &node.conf("1.0.0")));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(added.ok, "{}", added.json);
    assert_eq!(links(&pod), ["eth0"]);
    assert!(node.del("c1", &path).ok, "the process, and its path, are gone");
    assert_eq!((links(&node.ns).len(), node.used_addresses()), (0, 0));
}

#[test]
fn g6_s4_verbs_that_the_version_does_not_have() {
    let node = PluginNode::new();
    for verb in ["GC", "STATUS"] {
        let answer = node.run(&node.call(verb, "", "".as_ref(), &node.conf("1.0.0")));
        assert_eq!((answer.ok, &answer.json["code"]), (false, &json!(1)), "{verb}: {}", answer.json);
    }
}
