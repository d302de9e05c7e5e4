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

#[test]
fn g1_a_pool_full_of_vanished_pods_is_collected() {
    let node = PluginNode::new();
    let mut conf = node.conf("1.1.0");
    conf["subnets"] = json!(["10.22.0.0/29"]);
    for i in 0..6 {
        let pod = NetNs::new().unwrap();
        assert!(node.run(&node.call("ADD", &format!("c{i}"), &pod.path(), &conf)).ok);
    }
    let pod = NetNs::new().unwrap();
    let add = node.call("ADD", "late", &pod.path(), &conf);
    assert_eq!(node.run(&add).json["code"], 11);
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([]);
    assert!(node.run(&node.call("GC", "", "".as_ref(), &gc)).ok);
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
    assert!(node.run(&add).ok);
}

/// IPv6 and both families at once: nothing is still tentative when CHECK looks.
#[test]
fn k16_check_right_after_add() {
    let node = PluginNode::new();
    for round in 0..10 {
        let pod = NetNs::new().unwrap();
        let mut conf = node.conf("1.1.0");
        conf["prevResult"] = node.add(&format!("c{round}"), &pod);
        let answer = node.run(&node.call("CHECK", &format!("c{round}"), &pod.path(), &conf));
        assert!(answer.ok && answer.json == Value::Null, "{}", answer.json);
        let addresses = oracle::command(&pod, "ip -6 -o addr show dev eth0 scope global");
        assert!(addresses.contains("fd00:22::") && !addresses.contains("tentative"), "{addresses}");
    }
}

/// A key we do not serve, a value that cannot be, and a state that passes have codes of their own.
#[test]
fn k12_codes_as_the_specification_lists_them() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let cases = [
        (json!({ "ipam": { "type": "dhcp" } }), 2, "dhcp"),
        (json!({ "subnets": ["10.22.0.7/24"] }), 7, "10.22.0.7/24"),
        (json!({ "mtu": 70_000 }), 7, "70000"),
    ];
    for (keys, code, word) in cases {
        let mut conf = node.conf("1.1.0");
        for (key, value) in keys.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
        let msg = answer.json["msg"].as_str().unwrap_or_default();
        assert!(answer.json["code"] == code && msg.contains(word), "{}", answer.json);
    }
    let mut conf = node.conf("1.1.0");
    conf.as_object_mut().unwrap().remove("subnets");
    for (verb, code) in [("ADD", 11), ("STATUS", 50)] {
        let answer = node.run(&node.call(verb, "c1", &pod.path(), &conf));
        assert_eq!(answer.json["code"], code, "{verb} without a node snapshot: {}", answer.json);
    }
}
