use flatnet_core::link::Mac;
use flatnet_core::overlay::settings::Backend;
use serde_json::{Value, json};

use super::*;

fn network() -> Network {
    Network::read(br#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap()
}

fn settings() -> Settings {
    Settings {
        node: "n1".parse().unwrap(),
        backend: Backend::Vxlan,
        vni: 1.try_into().unwrap(),
        port: 8472,
        peers_only: true,
        uplink_segment_size: None,
    }
}

fn object(name: &str, subnet: &str, ready: &str) -> NodeObject {
    let mut spec = json!({});
    if !subnet.is_empty() {
        spec["podCIDRs"] = json!([subnet]);
    }
    let last: u8 = name[1..].parse().unwrap();
    let node: Value = json!({
        "metadata": { "name": name, "uid": subnet, "resourceVersion": "1" },
        "spec": spec,
        "status": {
            "addresses": [{ "type": "InternalIP", "address": format!("192.0.2.{last}") }],
            "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": ready }],
        },
    });
    serde_json::from_value(node).unwrap()
}

fn put(mirror: &mut Mirror, name: &str, subnet: &str) -> bool {
    mirror.put(object(name, subnet, "now"), &network(), &settings())
}

fn leaving(mirror: &Mirror) -> Vec<String> {
    mirror.leaving(Instant::now()).map(|entry| entry.key.to_string()).collect()
}

/// What `n1` makes of it, beside itself.
fn led(mirror: &Mirror, members: &[(&str, &str)]) -> Vec<String> {
    let member = |(name, subnet): &(&str, &str)| Member {
        name: name.parse().unwrap(),
        address: "192.0.2.9".parse().unwrap(),
        subnets: vec![subnet.parse().unwrap()],
        vtep: Mac::of_vtep(&name.parse().unwrap()),
    };
    let mut cluster = Cluster { networks: network().networks, nodes: members.iter().map(member).collect() };
    mirror.add_former(&mut cluster, "10.244.1.0-24".parse().unwrap());
    cluster.nodes.iter().map(|node| format!("{} {:?}", node.name, node.subnets.len())).collect()
}

#[test]
fn a_heartbeat_is_no_change() {
    let mut mirror = Mirror::default();
    for name in ["n1", "n2"] {
        assert!(mirror.put(object(name, "10.244.2.0/24", "12:00"), &network(), &settings()));
        assert!(!mirror.put(object(name, "10.244.2.0/24", "12:01"), &network(), &settings()));
    }
}

/// What one node costs, beside the text of its name.
#[test]
fn a_node_is_some_hundred_bytes() {
    let size = size_of::<(Box<str>, Known)>();
    assert!(size <= 256, "{size} bytes");
}

#[test]
fn a_node_that_went_is_worked_with_for_a_while() {
    let mut mirror = Mirror::default();
    put(&mut mirror, "n2", "10.244.2.0/24");
    let now = Instant::now();
    assert!(mirror.delete("n2", &settings(), now));
    assert!(!mirror.delete("n2", &settings(), now));
    assert_eq!((mirror.others(None).0.len(), leaving(&mirror)), (0, vec!["10.244.2.0-24".to_owned()]));
    assert_eq!(mirror.sweep(now), Some(now + GRACE));
    assert_eq!(mirror.leaving(now + GRACE).count(), 0);
    // Back with the same subnet, as if nothing had been.
    put(&mut mirror, "n2", "10.244.2.0/24");
    assert_eq!((mirror.others(None).0.len(), leaving(&mirror).len(), mirror.former.len()), (1, 0, 0));
}

#[test]
fn a_node_that_is_made_anew_keeps_what_its_pods_have() {
    let mut mirror = Mirror::default();
    put(&mut mirror, "n2", "10.244.2.0/24");
    mirror.delete("n2", &settings(), Instant::now());
    put(&mut mirror, "n2", "");
    assert_eq!(mirror.others(None).1.len(), 1);
    assert_eq!(leaving(&mirror), ["10.244.2.0-24"], "until it has another subnet");
    put(&mut mirror, "n2", "10.244.7.0/24");
    assert_eq!(leaving(&mirror), Vec::<String>::new());
    assert_eq!(led(&mirror, &[("n2", "10.244.7.0/24")]), ["n2 2"]);
    // Another node has it by now, or this one.
    let taken = [("n2", "10.244.7.0/24"), ("n3", "10.244.2.0/24")];
    assert_eq!(led(&mirror, &taken), ["n2 1", "n3 1"]);
    put(&mut mirror, "n2", "10.244.1.0/24");
    assert_eq!(led(&mirror, &[("n2", "10.244.8.0/24")]), ["n2 3"], "10.244.2.0/24 and 10.244.7.0/24");
    for i in 20..40 {
        put(&mut mirror, "n2", &format!("10.244.{i}.0/24"));
    }
    assert_eq!(mirror.former["n2"].len(), FORMER);
}

#[test]
fn a_new_list_and_an_earlier_run_are_compared_with() {
    let mut older = Mirror::default();
    put(&mut older, "n2", "10.244.2.0/24");
    put(&mut older, "n3", "10.244.3.0/24");
    put(&mut older, "n4", "10.244.4.0/24");
    let mut fresh = Mirror::default();
    put(&mut fresh, "n2", "10.244.2.0/24");
    put(&mut fresh, "n3", "10.244.30.0/24");
    let now = Instant::now();
    fresh.succeed(older, now);
    assert_eq!(leaving(&fresh), ["10.244.4.0-24"]);
    assert_eq!(led(&fresh, &[("n3", "10.244.30.0/24")]), ["n3 2"]);

    let member = |name: &str, subnets: &[&str]| Member {
        name: name.parse().unwrap(),
        address: "192.0.2.9".parse().unwrap(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        vtep: Mac::of_vtep(&name.parse().unwrap()),
    };
    let mut again = Mirror::default();
    put(&mut again, "n3", "10.244.30.0/24");
    let known = [member("n1", &["10.244.1.0/24"]), member("n3", &["10.244.30.0/24", "10.244.3.0/24"])];
    again.recall(&known, &settings(), now);
    assert_eq!(led(&again, &[("n3", "10.244.30.0/24")]), ["n3 2"]);
    let mut moved = Mirror::default();
    put(&mut moved, "n3", "10.244.31.0/24");
    moved.recall(&[member("n5", &["10.244.5.0/24"]), member("n3", &["10.244.30.0/24"])], &settings(), now);
    assert_eq!(leaving(&moved), ["10.244.5.0-24"]);
    assert_eq!(led(&moved, &[("n3", "10.244.31.0/24")]), ["n3 2"]);
}

#[test]
fn an_address_is_that_of_whoever_published_it() {
    let mut mirror = Mirror::default();
    put(&mut mirror, "n2", "10.244.2.0/24");
    let published = json!({
        "flannel.alpha.coreos.com/kube-subnet-manager": "true",
        "flannel.alpha.coreos.com/backend-type": "vxlan",
        "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"7a:5d:0b:21:c4:9e\"}",
        "flannel.alpha.coreos.com/public-ip": "192.0.2.2",
    });
    let node = json!({
        "metadata": { "name": "n3", "resourceVersion": "1", "annotations": published },
        "spec": { "podCIDRs": ["10.244.3.0/24"] },
    });
    mirror.put(serde_json::from_value(node).unwrap(), &network(), &settings());
    let (usable, left_out) = mirror.others("192.0.2.9".parse().ok());
    assert_eq!(usable.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>(), ["10.244.3.0-24"]);
    assert_eq!(left_out, ["node n2 is left out: node n3 has published its address"]);
    let (usable, left_out) = mirror.others("192.0.2.2".parse().ok());
    assert!(usable.is_empty() && left_out[0].ends_with("it has this node's address"), "{left_out:?}");
}
