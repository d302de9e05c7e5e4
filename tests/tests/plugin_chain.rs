//! Flatnet in a list with other plugins, and what may be asked for from outside the configuration.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use flatnet_tests::chain::Chain;
use flatnet_tests::oracle::{self, ip, links, names};
use flatnet_tests::plugin::{PluginNode, addresses};
use netns_fixtures::{NetNs, probe};
use serde_json::{Value, json};

fn flatnet(node: &PluginNode) -> Value {
    json!({ "type": "flatnet", "stateDir": node.state_dir(), "subnets": ["10.22.0.0/24", "fd00:22::/64"],
        "capabilities": { "ips": true, "mac": true } })
}

/// The plugins that users put after an interface plugin, with something for each to do.
fn everyone(node: &PluginNode) -> Vec<Value> {
    vec![
        flatnet(node),
        json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }),
        json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
        json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "333" } }),
        json!({ "type": "firewall", "backend": "iptables" }),
    ]
}

fn asked() -> Value {
    json!({ "portMappings": [{ "hostPort": 18080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
            "egressRate": 8_000_000, "egressBurst": 8_000_000 } })
}

#[test]
fn k15_k16_first_before_portmap_bandwidth_tuning_and_firewall() {
    for version in ["0.4.0", "1.0.0"] {
        let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
        let chain = Chain { node: &node, version, plugins: everyone(&node), runtime: asked() };
        let result = chain.add("c1", &pod.path()).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        let interfaces = result["interfaces"].as_array().unwrap();
        assert!(interfaces.len() > 2, "bandwidth adds its own: {result}");
        // CHECK of portmap 1.1.1 looks for the IPv4 rules among the IPv6 ones, and never finds them.
        let plugins = chain.plugins.iter().filter(|p| p["type"] != "portmap").cloned().collect();
        let checked = Chain { plugins, runtime: asked(), node: &node, version };
        checked.check("c1", &pod.path(), &result).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        let listener = pod.run(|| TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
        let mut client = node.ns.run(|| TcpStream::connect("192.0.2.1:18080").unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        listener.accept().unwrap().0.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        assert_eq!(oracle::command(&pod, "sysctl -n net.core.somaxconn").trim(), "333");
        chain.del("c1", &pod.path(), &result).unwrap_or_else(|e| panic!("{version}: {e:?}"));
        assert_eq!((node.records().len(), node.used_addresses()), (0, 0));
        assert_eq!(links(&node.ns), Vec::<String>::new());
        // A runtime that has forgotten the result, and the namespace, asks once more.
        chain.del("c1", "".as_ref(), &Value::Null).unwrap_or_else(|e| panic!("{version}: {e:?}"));
    }
}

#[test]
fn k1_after_a_plugin_that_made_the_interface_is_a_clear_error() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let bridge = json!({ "type": "bridge", "bridge": "br0",
        "ipam": { "type": "static", "addresses": [{ "address": "10.77.0.2/24" }] } });
    let before = oracle::everything(&node.ns);
    let chain =
        Chain { node: &node, version: "1.0.0", plugins: vec![bridge, flatnet(&node)], runtime: json!({}) };
    let refused = chain.add("c1", &pod.path()).unwrap_err();
    assert_eq!(refused.json["code"], 7, "{}", refused.json);
    let msg = refused.json["msg"].as_str().unwrap();
    assert!(msg.contains("prevResult") && msg.contains("eth0"), "{msg}");
    assert_eq!((node.records().len(), node.used_addresses()), (0, 0));
    chain.del("c1", &pod.path(), &Value::Null).unwrap();
    drop(oracle::command(&node.ns, "ip link del br0"));
    oracle::assert_same(&before, &oracle::everything(&node.ns), "node");
}

#[test]
fn k2_entries_of_an_earlier_plugin_are_kept() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut conf = node.conf("1.1.0");
    conf["prevResult"] = json!({ "cniVersion": "1.1.0", "interfaces": [{ "name": "somebody" }],
        "ips": [], "routes": [], "dns": { "domain": "cluster.local" } });
    let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
    assert!(answer.ok, "{}", answer.json);
    assert_eq!(names(answer.json["interfaces"].as_array().unwrap(), "name").len(), 3);
    assert_eq!(answer.json["interfaces"][0]["name"], "somebody");
    assert_eq!(answer.json["ips"][0]["interface"], 2);
    assert_eq!(answer.json["dns"]["domain"], "cluster.local");
    conf["prevResult"] = answer.json;
    assert!(node.run(&node.call("CHECK", "c1", &pod.path(), &conf)).ok);
}

#[test]
fn k21_every_way_to_ask_for_an_address_and_a_mac() {
    let ways = [
        (json!({}), "IP=10.22.0.71,fd00:22::71;MAC=02:00:00:00:00:71", "71"),
        (
            json!({ "runtimeConfig": { "ips": ["10.22.0.72/24", "fd00:22::72"], "mac": "02:00:00:00:00:72" } }),
            "IP=10.22.0.71;MAC=02:00:00:00:00:71",
            "72",
        ),
        (
            json!({ "runtimeConfig": { "ips": ["10.22.0.72"], "mac": "02:00:00:00:00:72" },
            "args": { "cni": { "ips": ["10.22.0.73", "fd00:22::73/64"], "mac": "02:00:00:00:00:73" } } }),
            "IP=10.22.0.71;MAC=02:00:00:00:00:71",
            "73",
        ),
    ];
    for (keys, args, wins) in ways {
        let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
        let mut conf = node.conf("1.0.0");
        for (key, value) in keys.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let args = format!("IgnoreUnknown=1;{args}");
        let call = node.call("ADD", "c1", &pod.path(), &conf).var("CNI_ARGS", Some(&args));
        let answer = node.run(&call);
        assert!(answer.ok, "{wins}: {}", answer.json);
        let wanted = [format!("10.22.0.{wins}"), format!("fd00:22::{wins}")];
        let got: Vec<String> = addresses(&answer.json).iter().map(ToString::to_string).collect();
        assert_eq!(got, wanted);
        let mac = &names(&ip(&pod, "link show dev eth0"), "address")[0];
        assert_eq!(*mac, format!("02:00:00:00:00:{wins}"));
        probe::ping(&node.ns, addresses(&answer.json)[0], Duration::from_secs(2)).unwrap();
        let other = NetNs::new().unwrap();
        let again = node.run(&node.call("ADD", "c2", &other.path(), &conf).var("CNI_ARGS", Some(&args)));
        let msg = again.json["msg"].as_str().unwrap_or_default();
        assert!(!again.ok && msg.contains(&wanted[0]), "a taken address is named: {}", again.json);
        assert_eq!((node.records().len(), node.used_addresses()), (1, 2));
        // DEL reads none of it.
        let del = node.call("DEL", "c1", &pod.path(), &conf).var("CNI_ARGS", Some("IP=nonsense;MAC=x"));
        assert!(node.run(&del).ok);
    }
}

#[test]
fn k21_impossible_requests_are_named() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    for (args, code, word) in [
        ("IP=10.22.0.900", 4, "10.22.0.900"),
        ("IP=10.99.0.1", 7, "10.99.0.1"),
        ("MAC=01:00:5e:00:00:01", 4, "01:00:5e:00:00:01"),
    ] {
        let call = node.call("ADD", "c1", &pod.path(), &node.conf("1.0.0")).var("CNI_ARGS", Some(args));
        let answer = node.run(&call);
        assert_eq!(answer.json["code"], code, "{args}: {}", answer.json);
        assert!(answer.json["msg"].as_str().unwrap().contains(word), "{args}: {}", answer.json);
        assert_eq!((node.records().len(), node.used_addresses()), (0, 0));
    }
}
