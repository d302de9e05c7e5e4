//! The CNI contract, checked on the real kernel: names are the ids of the checklist where there is one.

use std::path::Path;
use std::time::Duration;

use flatnet_tests::oracle::{self, ip, links, names};
use flatnet_tests::plugin::{PluginNode, addresses};
use netns_fixtures::{NetNs, probe};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn pod() -> NetNs {
    NetNs::new().expect("make a pod's namespace")
}

#[test]
fn a1_a3_a5_a6_add_makes_what_it_says() {
    let (node, pod) = (PluginNode::new(), pod());
    let result = node.add("c1", &pod);
    assert_eq!(result["cniVersion"], "1.1.0");
    let interfaces = result["interfaces"].as_array().unwrap();
    let (host, inner) = (&interfaces[0], &interfaces[1]);
    let seen = &ip(&pod, "addr show dev eth0")[0];
    assert_eq!(inner["mac"], seen["address"]);
    assert_eq!(inner["mtu"], seen["mtu"]);
    assert_eq!(inner["sandbox"], json!(pod.path()));
    assert!(seen["flags"].as_array().unwrap().contains(&json!("UP")));
    assert_eq!(host.get("sandbox"), None);
    let outer = &ip(&node.ns, "link show")[1];
    assert_eq!((&host["name"], &host["mac"]), (&outer["ifname"], &outer["address"]));
    for address in addresses(&result) {
        let on_link = seen["addr_info"].as_array().unwrap();
        assert!(on_link.iter().any(|a| a["local"] == json!(address)), "{address}: {seen}");
    }
}

#[test]
fn a7_a8_the_gateway_answers_and_every_route_is_there() {
    let (node, pod) = (PluginNode::new(), pod());
    let result = node.add("c1", &pod);
    let within = Duration::from_secs(2);
    probe::ping(&pod, "169.254.1.1".parse().unwrap(), within).unwrap();
    // From the pod's own link-local address, once the kernel lets it be used.
    let gateway = "ping -6 -c 1 -w 5 fe80::1%eth0";
    assert!(oracle::command(&pod, gateway).contains("1 received"));
    assert!(oracle::command(&pod, "ip -6 route").contains("default via fe80::1 dev eth0"));
    assert!(oracle::command(&pod, "ip route").contains("default via 169.254.1.1 dev eth0"));
    for address in addresses(&result) {
        probe::ping(&node.ns, address, within).unwrap();
    }
}

/// The kernel notes a carrier at once but acts on it in its own time, and drops what is sent before.
#[test]
fn the_nodes_end_sends_by_the_time_add_answers() {
    let node = PluginNode::new();
    for i in 0..20 {
        let pod = pod();
        let result = node.add(&format!("c{i}"), &pod);
        let routes = oracle::command(&node.ns, "ip route");
        assert!(!routes.contains("linkdown"), "{}: {routes}", result["interfaces"][0]["name"]);
    }
}

#[test]
fn a17_every_version_answers_in_its_own_shape() {
    for version in VERSIONS {
        let (node, pod) = (PluginNode::new(), pod());
        let conf = node.conf(version);
        let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
        assert!(answer.ok, "{version}: {}", answer.json);
        assert_eq!(answer.json["cniVersion"], version);
        let old = version < "0.3.0";
        assert_eq!(answer.json.get("ip4").is_some(), old, "{version}");
        assert_eq!(answer.json.get("interfaces").is_some(), !old, "{version}");
        let has_family = answer.json.pointer("/ips/0/version").is_some();
        assert_eq!(has_family, !old && version < "1.0.0", "{version}");
        assert_eq!(answer.json.pointer("/interfaces/1/mtu").is_some(), version == "1.1.0", "{version}");
        let del = node.run(&node.call("DEL", "c1", &pod.path(), &conf));
        assert!(del.ok && del.json == Value::Null, "{version}: DEL prints nothing");
    }
}

#[test]
fn v1_v2_version_echoes_what_it_was_asked_in() {
    let node = PluginNode::new();
    for asked in ["1.0.0", "0.4.0", "9.9.9"] {
        let mut call = node.call("VERSION", "c", Path::new("dummy"), &json!({ "cniVersion": asked }));
        call.env.retain(|(k, _)| k == "CNI_COMMAND");
        let answer = node.run(&call);
        assert!(answer.ok);
        assert_eq!(answer.json["cniVersion"], asked);
        assert_eq!(answer.json["supportedVersions"], json!(VERSIONS));
    }
}

#[test]
fn a9_a11_a_second_add_is_refused_and_changes_nothing() {
    let (node, pod) = (PluginNode::new(), pod());
    let first = node.add("c1", &pod);
    let before = (oracle::everything(&node.ns), oracle::everything(&pod));
    let again = node.run(&node.call("ADD", "c1", &pod.path(), &node.conf("1.1.0")));
    assert!(!again.ok && again.json["code"] == 101, "{}", again.json);
    let other = node.run(&node.call("ADD", "c2", &pod.path(), &node.conf("1.1.0")));
    assert!(!other.ok && other.json["msg"].as_str().unwrap().contains("eth0"), "{}", other.json);
    oracle::assert_same(&before.0, &oracle::everything(&node.ns), "node");
    oracle::assert_same(&before.1, &oracle::everything(&pod), "pod");
    assert_eq!(node.used_addresses(), 2);
    probe::ping(&node.ns, addresses(&first)[0], Duration::from_secs(2)).unwrap();
}

/// The last thing that ADD asks for cannot be had.
#[test]
fn a20_an_add_refused_half_way_leaves_nothing() {
    let (node, pod) = (PluginNode::new(), pod());
    let first = addresses(&node.add("c1", &pod));
    let before = (oracle::everything(&node.ns), oracle::everything(&pod));
    let mut conf = node.conf("1.1.0");
    conf["sysctls"] = json!({ "net.ipv4.no_such_thing": "1" });
    let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf).var("CNI_IFNAME", Some("net1")));
    assert!(!answer.ok && answer.json["msg"].as_str().unwrap().contains("no_such_thing"), "{}", answer.json);
    oracle::assert_same(&before.0, &oracle::everything(&node.ns), "node");
    oracle::assert_same(&before.1, &oracle::everything(&pod), "pod");
    assert_eq!((node.records().len(), node.used_addresses()), (1, first.len()));
}

#[test]
fn d1_d2_d5_d8_del_leaves_nothing_and_always_succeeds() {
    let node = PluginNode::new();
    let before = oracle::everything(&node.ns);
    let pod = pod();
    let inside = oracle::everything(&pod);
    assert!(node.del("never-added", &pod.path()).ok);
    drop(node.add("c1", &pod));
    for path in [pod.path(), "".into(), "/nonexistent".into()] {
        let answer = node.del("c1", &path);
        assert!(answer.ok && answer.json == Value::Null, "{path:?}: {}", answer.json);
        assert_eq!(answer.stderr, "");
    }
    oracle::assert_same(&before, &oracle::everything(&node.ns), "node");
    // `lo` was up before; the pair took everything else with it.
    oracle::assert_same(&inside, &oracle::everything(&pod), "pod");
    assert_eq!((node.records().len(), node.used_addresses()), (0, 0));
}

#[test]
fn d4_del_after_the_namespace_vanished_frees_the_address() {
    let node = PluginNode::new();
    let pod = pod();
    let path = pod.path();
    drop(node.add("c1", &pod));
    drop(pod);
    assert!(node.del("c1", &path).ok);
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

#[test]
fn d9_d10_del_of_one_leaves_the_others() {
    let (node, pod) = (PluginNode::new(), pod());
    drop(node.add("old", &pod));
    assert!(node.del("old", &pod.path()).ok);
    let result = node.add("new", &pod);
    assert!(node.del("old", &pod.path()).ok, "a late DEL, the path belongs to a new container");
    probe::ping(&node.ns, addresses(&result)[0], Duration::from_secs(2)).unwrap();
}

type Spoil = fn(&NetNs, &NetNs);

#[test]
fn c1_to_c10_check_passes_after_add_and_names_each_change() {
    let spoils: [(&str, Spoil); 8] = [
        ("link eth0 on pod", |_, pod| drop(oracle::command(pod, "ip link del eth0"))),
        ("address on eth0", |_, pod| drop(oracle::command(pod, "ip -4 addr flush dev eth0 scope global"))),
        ("route on eth0", |_, pod| drop(oracle::command(pod, "ip route del default"))),
        ("state of eth0", |_, pod| drop(oracle::command(pod, "ip link set eth0 down"))),
        ("mtu of eth0", |_, pod| drop(oracle::command(pod, "ip link set eth0 mtu 1300"))),
        ("neighbour on eth0", |_, pod| drop(oracle::command(pod, "ip neigh flush dev eth0 nud permanent"))),
        ("state of fn", |node, _| {
            let link = &links(node)[0];
            drop(oracle::command(node, &format!("ip link set {link} down")));
        }),
        ("rp_filter", |node, _| {
            let link = &links(node)[0];
            drop(oracle::command(node, &format!("sysctl -qw net.ipv4.conf.{link}.rp_filter=0")));
        }),
    ];
    for (word, spoil) in spoils {
        let (node, pod) = (PluginNode::new(), pod());
        let mut conf = node.conf("1.0.0");
        let call = node.call("ADD", "c1", &pod.path(), &conf);
        conf["prevResult"] = node.run(&call).json;
        let check = node.call("CHECK", "c1", &pod.path(), &conf);
        let before = node.run(&check);
        assert!(before.ok && before.json == Value::Null, "{word}: {}", before.json);
        spoil(&node.ns, &pod);
        let after = node.run(&check);
        let msg = after.json["msg"].as_str().unwrap_or_default();
        assert!(!after.ok && msg.contains(word), "{word}: {}", after.json);
    }
}

#[test]
fn c2_c3_c10_c12_check_and_its_previous_result() {
    let (node, pod) = (PluginNode::new(), pod());
    let result = node.add("c1", &pod);
    let mut conf = node.conf("1.1.0");
    let check = |conf: &Value| node.run(&node.call("CHECK", "c1", &pod.path(), conf));
    assert_eq!(check(&conf).json["code"], 7, "without prevResult");
    conf["prevResult"] = result.clone();
    drop(oracle::command(&pod, "ip route add 203.0.113.0/24 via 169.254.1.1"));
    assert!(check(&conf).ok, "another plugin's route is fine");
    conf["prevResult"]["interfaces"][1]["mac"] = json!("02:00:00:00:00:01");
    assert!(check(&conf).json["msg"].as_str().unwrap().contains("mac"));
    conf["prevResult"] = result;
    conf["cniVersion"] = json!("0.3.1");
    assert_eq!(check(&conf).json["code"], 1);
}

#[test]
fn s1_s2_status_follows_the_pool_and_the_snapshot() {
    let node = PluginNode::new();
    let mut conf = node.conf("1.1.0");
    let status = |conf: &Value| {
        let mut call = node.call("STATUS", "", Path::new(""), conf);
        call = call.var("CNI_IFNAME", Some(""));
        node.run(&call)
    };
    assert!(status(&conf).ok);
    conf["subnets"] = json!(["10.22.0.8/32"]);
    let pod = pod();
    assert!(node.run(&node.call("ADD", "c1", &pod.path(), &conf)).ok);
    let full = status(&conf);
    assert!(full.json["code"] == 50 && full.json["msg"].as_str().unwrap().contains("10.22.0.8/32"));
    assert!(node.del("c1", &pod.path()).ok);
    assert!(status(&conf).ok);
    conf.as_object_mut().unwrap().remove("subnets");
    assert_eq!(status(&conf).json["code"], 50);
    conf["cniVersion"] = json!("1.0.0");
    assert_eq!(status(&conf).json["code"], 1);
}

#[test]
fn g1_to_g4_gc_removes_what_is_not_listed_and_nothing_else() {
    let node = PluginNode::new();
    let pods: Vec<NetNs> = (0..3).map(|_| pod()).collect();
    let kept = node.add("keep", &pods[0]);
    drop(node.add("gone", &pods[1]));
    let mut other = node.conf("1.1.0");
    other["name"] = json!("other");
    assert!(node.run(&node.call("ADD", "elsewhere", &pods[2].path(), &other)).ok);
    let mut conf = node.conf("1.1.0");
    let gc = |conf: &Value| {
        let mut call = node.call("GC", "", Path::new(""), conf);
        call.env.retain(|(k, _)| k == "CNI_COMMAND" || k == "CNI_PATH");
        node.run(&call)
    };
    assert_eq!(gc(&conf).json["code"], 7, "no list: collect nothing");
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "keep", "ifname": "eth0" }]);
    let answer = gc(&conf);
    assert!(answer.ok && answer.json == Value::Null, "{}", answer.json);
    assert_eq!((links(&node.ns).len(), node.records().len()), (2, 2));
    probe::ping(&node.ns, addresses(&kept)[0], Duration::from_secs(2)).unwrap();
}

#[test]
fn r5_the_hosts_own_namespace_is_refused() {
    let node = PluginNode::new();
    let before = oracle::everything(&node.ns);
    for path in [node.ns.path(), "/proc/self/ns/net".into()] {
        let answer = node.run(&node.call("ADD", "c1", &path, &node.conf("1.1.0")));
        assert!(!answer.ok && answer.json["code"] == 4, "{}", answer.json);
        assert!(answer.json["msg"].as_str().unwrap().contains("CNI_NETNS"), "{}", answer.json);
    }
    oracle::assert_same(&before, &oracle::everything(&node.ns), "node");
    assert_eq!(node.used_addresses(), 0);
}

#[test]
fn a_snapshot_alone_is_enough() {
    let (node, pod) = (PluginNode::new(), pod());
    let snapshot = json!({
        "version": 1, "node": "n1", "subnets": ["10.244.1.0/24"], "clusterNetworks": ["10.244.0.0/16"],
        "mtu": 1450, "segmentSize": 65536, "masquerade": true,
    });
    let conf = json!({ "cniVersion": "1.1.0", "name": "n", "type": "flatnet", "stateDir": node.state_dir() });
    let call = node.call("ADD", "c1", &pod.path(), &conf);
    let early = node.run(&call);
    assert_eq!(early.json["code"], 11, "before the agent has run: try again ({})", early.json);
    std::fs::write(node.state_dir().join("node.json"), snapshot.to_string()).unwrap();
    let answer = node.run(&call);
    assert!(answer.ok, "{}", answer.json);
    assert_eq!(answer.json["interfaces"][1]["mtu"], 1450);
    assert_eq!(names(&ip(&pod, "link show dev eth0"), "mtu"), ["1450"]);
    assert!(addresses(&answer.json)[0].to_string().starts_with("10.244.1."));
}

/// CHECK is about one pod: what the agent says of the node today does not matter to it.
#[test]
fn check_needs_no_snapshot() {
    let (node, pod) = (PluginNode::new(), pod());
    let snapshot = node.state_dir().join("node.json");
    let text = json!({
        "version": 1, "node": "n1", "subnets": ["10.244.1.0/24"], "clusterNetworks": ["10.244.0.0/16"],
        "mtu": 1450, "segmentSize": 65536, "masquerade": true,
    });
    std::fs::write(&snapshot, text.to_string()).unwrap();
    let mut conf =
        json!({ "cniVersion": "1.1.0", "name": "n", "type": "flatnet", "stateDir": node.state_dir() });
    conf["prevResult"] = node.run(&node.call("ADD", "c1", &pod.path(), &conf)).json;
    std::fs::remove_file(&snapshot).unwrap();
    let answer = node.run(&node.call("CHECK", "c1", &pod.path(), &conf));
    assert!(answer.ok, "{}", answer.json);
}

#[test]
fn a18_fifty_adds_at_once_give_fifty_addresses() {
    let node = PluginNode::new();
    let pods: Vec<NetNs> = (0..50).map(|_| pod()).collect();
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let adds: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(i, pod)| {
                let node = &node;
                scope.spawn(move || addresses(&node.add(&format!("c{i}"), pod)))
            })
            .collect();
        adds.into_iter().flat_map(|add| add.join().expect("ADD")).collect()
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100, "one IPv4 and one IPv6 address each");
    std::thread::scope(|scope| {
        for (i, pod) in pods.iter().enumerate() {
            let node = &node;
            scope.spawn(move || assert!(node.del(&format!("c{i}"), &pod.path()).ok));
        }
    });
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

#[test]
fn an_address_that_the_node_still_routes_is_not_given_again() {
    let (node, first, second) = (PluginNode::new(), pod(), pod());
    let had = addresses(&node.add("c1", &first));
    std::fs::remove_dir_all(node.state_dir()).unwrap();
    let now = addresses(&node.add("c2", &second));
    assert!(now.iter().all(|ip| !had.contains(ip)), "{had:?} and {now:?}");
}

#[test]
fn a_pod_cannot_send_from_another_address() {
    let (node, a, b) = (PluginNode::new(), pod(), pod());
    drop(node.add("a", &a));
    let target = addresses(&node.add("b", &b))[0];
    drop(oracle::command(&a, "ip addr add 10.22.0.77/32 dev eth0"));
    let capture = netns_fixtures::Capture::start(&b, Some("eth0")).unwrap();
    drop(a.run(|| {
        let spoofed = std::net::UdpSocket::bind("10.22.0.77:0").unwrap();
        spoofed.send_to(b"spoofed", (target, 9)).unwrap();
        let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        own.connect((target, 9)).unwrap();
        own.send(b"own").unwrap();
    }));
    // The honest packet was sent last: once it is there, the spoofed one would be too.
    let own = |p: &netns_fixtures::Packet| p.outer.src.to_string().starts_with("10.22.0.");
    capture.wait_for("the honest packet", Duration::from_secs(2), own).unwrap();
    let packets = capture.stop();
    assert!(packets.iter().all(|p| p.outer.src.to_string() != "10.22.0.77"), "{packets:?}");
}
