//! Requests spoilt at random, always the same ones: every answer is one of the two the specification
//! allows, nothing panics, and what was attached is gone after DEL.

use std::collections::BTreeMap;

use flatnet_tests::dice::Dice;
use flatnet_tests::oracle;
use flatnet_tests::plugin::{Answer, Call, PluginNode};
use netns_fixtures::NetNs;
use serde_json::{Value, json};

/// The configuration with one value, at the top or one level down, replaced by a likely wrong one.
fn misvalued(dice: &mut Dice, conf: &Value) -> Value {
    let values = [
        json!(null),
        json!(-1),
        json!(70_000),
        json!("x/y"),
        json!(""),
        json!([]),
        json!({ "a": 1 }),
        json!(["10.22.0.9"]),
        json!(true),
        json!("9.9.9"),
    ];
    let mut spoilt = conf.clone();
    let object = spoilt.as_object_mut().expect("a configuration is an object");
    let keys: Vec<String> = object.keys().filter(|key| *key != "stateDir").cloned().collect();
    let value = &mut object[&keys[dice.below(keys.len())]];
    let inner = match value {
        Value::Object(map) if dice.below(2) == 0 => map.values_mut().next(),
        Value::Array(list) if dice.below(2) == 0 => list.first_mut(),
        _ => None,
    };
    let replacement = values[dice.below(values.len())].clone();
    match inner {
        Some(inner) => *inner = replacement,
        None => *value = replacement,
    }
    spoilt
}

fn judge(what: &str, answer: &Answer) -> Option<u64> {
    assert!(!answer.stderr.contains("panicked"), "{what}: {}", answer.stderr);
    if answer.ok {
        assert_eq!(answer.json.get("code"), None, "{what}: success with an error object");
        return None;
    }
    let code = answer.json["code"].as_u64();
    let listed = code.is_some_and(|c| matches!(c, 1..=7 | 11 | 50 | 51) || c >= 100);
    assert!(listed, "{what}: {}", answer.json);
    assert!(answer.json["msg"].as_str().is_some_and(|m| !m.is_empty()), "{what}: {}", answer.json);
    assert!(answer.json["cniVersion"].is_string(), "{what}: {}", answer.json);
    code
}

fn whole(node: &PluginNode) -> Value {
    let mut conf = node.conf("1.1.0");
    conf["mtu"] = json!(1400);
    conf["routes"] = json!([{ "dst": "10.0.0.0/8" }]);
    conf["sysctls"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
    conf["dns"] = json!({ "nameservers": ["192.0.2.53"] });
    conf["capabilities"] = json!({ "ips": true });
    conf["runtimeConfig"] = json!({ "ips": ["10.22.0.9"], "mac": "02:00:00:00:00:09" });
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "c", "ifname": "eth0" }]);
    conf
}

fn spoil_variable(dice: &mut Dice, call: &mut Call) {
    let at = dice.below(call.env.len());
    let mut value = call.env[at].1.clone().into_bytes();
    dice.spoil(&mut value);
    value.retain(|b| *b != 0);
    call.env[at].1 = String::from_utf8_lossy(&value).into_owned();
}

/// A spoilt state directory is a good one that belongs to somebody else.
fn writes_elsewhere(stdin: &[u8], conf: &Value) -> bool {
    serde_json::from_slice::<Value>(stdin).is_ok_and(|spoilt| spoilt["stateDir"] != conf["stateDir"])
}

#[test]
fn k11_spoilt_requests_get_an_answer_and_leave_nothing() {
    let (node, pod) = (PluginNode::new(), NetNs::new().expect("make a namespace"));
    let (node_before, pod_before) = (oracle::everything(&node.ns), oracle::everything(&pod));
    let conf = whole(&node);
    let mut dice = Dice::new(0x000f_1a7e);
    let mut codes: BTreeMap<Option<u64>, usize> = BTreeMap::new();
    for round in 0..400 {
        let verb = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"][round % 6];
        let mut call: Call = node.call(verb, "c", &pod.path(), &conf);
        match dice.below(4) {
            0 => dice.spoil(&mut call.stdin),
            1 | 2 => call.stdin = misvalued(&mut dice, &conf).to_string().into_bytes(),
            _ => spoil_variable(&mut dice, &mut call),
        }
        if writes_elsewhere(&call.stdin, &conf) {
            continue;
        }
        let what = format!("round {round}: {:?} {}", call.env, String::from_utf8_lossy(&call.stdin));
        let code = judge(&what, &node.run(&call));
        *codes.entry(code).or_default() += 1;
        // Whatever was attached, under this name or a spoilt one, is known to the records.
        let mut gc = node.conf("1.1.0");
        gc["cni.dev/valid-attachments"] = json!([]);
        assert!(node.run(&node.call("GC", "c", &pod.path(), &gc)).ok, "{what}");
    }
    println!("answers by code: {codes:?}");
    assert!(codes.len() > 5, "too few kinds of answers to mean much: {codes:?}");
    // A spoilt name of the network keeps its attachment from being collected under the right one.
    for record in node.records() {
        let text = std::fs::read_to_string(&record).expect("a record");
        let record: Value = serde_json::from_str(&text).expect("JSON");
        let container = record["container"].as_str().expect("a container");
        let ifname = record["ifname"].as_str().expect("an interface");
        let del =
            node.call("DEL", container, &pod.path(), &node.conf("1.1.0")).var("CNI_IFNAME", Some(ifname));
        assert!(node.run(&del).ok);
    }
    oracle::assert_same(&node_before, &oracle::everything(&node.ns), "node");
    oracle::assert_same(&pod_before, &oracle::everything(&pod), "pod");
    assert_eq!((node.records().len(), node.used_addresses()), (0, 0));
}
