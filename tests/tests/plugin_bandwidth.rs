//! Bandwidth limits: held in both directions, seen by CHECK, gone after DEL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use flatnet_tests::oracle::{self, command, links};
use flatnet_tests::plugin::{PluginNode, addresses};
use netns_fixtures::NetNs;
use serde_json::{Value, json};

const MEASURED: Duration = Duration::from_secs(5);
/// A limit never lets more through; less, it is not to blame for on a machine that was busy meanwhile.
const TRIES: usize = 4;

/// ADD with limits, in the words of `runtimeConfig.bandwidth`.
fn add(node: &PluginNode, container: &str, pod: &NetNs, bandwidth: &Value) -> Value {
    let mut conf = node.conf("1.1.0");
    conf["runtimeConfig"] = json!({ "bandwidth": bandwidth });
    let answer = node.run(&node.call("ADD", container, &pod.path(), &conf));
    assert!(answer.ok, "ADD {bandwidth}: {}", answer.json);
    answer.json
}

fn check(node: &PluginNode, container: &str, pod: &NetNs, result: &Value) -> Result<(), String> {
    let mut conf = node.conf("1.1.0");
    conf["prevResult"] = result.clone();
    let answer = node.run(&node.call("CHECK", container, &pod.path(), &conf));
    if answer.ok { Ok(()) } else { Err(answer.json["msg"].to_string()) }
}

/// Bits of payload per second that one TCP connection carries from `from` to `ip` in `to`.
fn speed(from: &NetNs, to: &NetNs, ip: IpAddr) -> f64 {
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sender = from.run(|| TcpStream::connect(address).unwrap()).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    // Ends when the other side closes.
    let sending = thread::spawn(move || while sender.write_all(&[7; 64 * 1024]).is_ok() {});
    let mut buffer = vec![0; 256 * 1024];
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        bytes += receiver.read(&mut buffer).unwrap();
    }
    let took = start.elapsed();
    drop(receiver);
    sending.join().unwrap();
    f64::from(u32::try_from(bytes).unwrap()) * 8.0 / took.as_secs_f64()
}

/// The limit counts Ethernet, IP and TCP headers: payload is 4 to 6 % less.
fn assert_held(asked: f64, what: &str, measure: impl Fn() -> f64) {
    let mut measured = Vec::new();
    for _ in 0..TRIES {
        let ratio = measure() / asked;
        assert!(ratio <= 1.1, "{what}: {ratio:.3} of {asked} bit/s");
        if ratio >= 0.9 {
            return;
        }
        measured.push(ratio);
    }
    panic!("{what}: {measured:.3?} of {asked} bit/s");
}

fn held(megabits: u32) {
    let node = PluginNode::new();
    let rate = u64::from(megabits) * 1_000_000;
    let pods = ["ingress", "egress"].map(|direction| {
        let pod = NetNs::new().unwrap();
        let result = add(&node, direction, &pod, &json!({ format!("{direction}Rate"): rate }));
        (pod, addresses(&result))
    });
    let [(limited_in, in_addresses), (limited_out, _)] = &pods;
    let host = node.ns.clone();
    let asked = f64::from(megabits) * 1e6;
    let (towards, away) = (in_addresses[0], "192.0.2.1".parse().unwrap());
    let into = || assert_held(asked, "towards the pod", || speed(&host, limited_in, towards));
    let out = || assert_held(asked, "from the pod", || speed(limited_out, &host, away));
    thread::scope(|scope| {
        scope.spawn(into);
        scope.spawn(out);
    });
}

#[test]
fn one_megabit_is_held_both_ways() {
    held(1);
}

#[test]
fn twenty_megabits_are_held_both_ways() {
    held(20);
}

#[test]
fn two_hundred_megabits_are_held_both_ways() {
    held(200);
}

/// Packets of both families go through the limit, from the pod's own address and to it.
#[test]
fn ipv6_is_limited_as_well() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let both = json!({ "ingressRate": 10_000_000, "egressRate": 10_000_000 });
    let result = add(&node, "c1", &pod, &both);
    let away = "2001:db8::1".parse().unwrap();
    assert_held(1e7, "from the pod", || speed(&pod, &node.ns, away));
    let v6 = addresses(&result).into_iter().find(IpAddr::is_ipv6).unwrap();
    assert_held(1e7, "towards the pod", || speed(&node.ns, &pod, v6));
}

#[test]
fn the_kernel_shows_what_was_asked_and_nothing_is_left() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let asked = json!({ "IngressRate": 8_000_000, "IngressBurst": 800_000, "EgressRate": 40_000_000_000u64,
        "EgressBurst": u32::MAX });
    let before = oracle::everything(&node.ns);
    let result = add(&node, "c1", &pod, &asked);
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    let shaper = host.replacen("fn", "fi", 1);
    let qdiscs = command(&node.ns, "tc qdisc show");
    let of = |device: &str| {
        let line = qdiscs.lines().find(|l| l.contains("tbf") && l.contains(device));
        line.unwrap_or_else(|| panic!("{device}: {qdiscs}")).to_owned()
    };
    assert!(of(host).contains("rate 8Mbit") && of(host).contains("burst 100000b"), "{}", of(host));
    assert!(of(&shaper).contains("rate 40Gbit"), "{}", of(&shaper));
    assert_eq!(check(&node, "c1", &pod, &result), Ok(()));
    assert!(node.del("c1", &pod.path()).ok);
    assert_eq!(links(&node.ns), [""; 0]);
    oracle::assert_same(&before, &oracle::everything(&node.ns), "node");
}

#[test]
fn check_names_the_limit_that_was_taken_away() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let both = json!({ "ingressRate": 10_000_000, "egressRate": 10_000_000 });
    let result = add(&node, "c1", &pod, &both);
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    let shaper = host.replacen("fn", "fi", 1);
    let damages = [
        (format!("tc qdisc del dev {host} ingress"), "past its limit"),
        (
            format!("tc qdisc replace dev {shaper} root tbf rate 99mbit burst 100k latency 1ms"),
            "99000000 bit/s",
        ),
        (format!("tc qdisc del dev {host} root"), "towards the pod"),
    ];
    for (damage, word) in damages {
        let _ = command(&node.ns, &damage);
        let said = check(&node, "c1", &pod, &result).unwrap_err();
        assert!(said.contains(word), "{damage}: {said}");
    }
}

/// The device that limits what comes from a pod goes with a failed ADD, and with GC.
#[test]
fn nothing_is_left_by_a_failed_add_or_after_gc() {
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut conf = node.conf("1.1.0");
    conf["runtimeConfig"] = json!({ "bandwidth": { "egressRate": 10_000_000 } });
    conf["sysctls"] = json!({ "net/ipv4/no_such_setting": "1" });
    let before = oracle::everything(&node.ns);
    assert!(!node.run(&node.call("ADD", "c1", &pod.path(), &conf)).ok);
    oracle::assert_same(&before, &oracle::everything(&node.ns), "after a failed ADD");
    let _ = add(&node, "c2", &pod, &json!({ "egressRate": 10_000_000 }));
    let mut gc = node.conf("1.1.0");
    gc["cni.dev/valid-attachments"] = json!([]);
    assert!(node.run(&node.call("GC", "", &pod.path(), &gc)).ok);
    oracle::assert_same(&before, &oracle::everything(&node.ns), "after GC");
}
