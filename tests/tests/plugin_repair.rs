//! `flatnet repair`: whatever is broken of a running pod is put back, and only that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::Duration;

use flatnet_tests::oracle::{self, command, links};
use flatnet_tests::plugin::{PluginNode, addresses};
use flatnet_tests::program;
use netns_fixtures::{NetNs, probe, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// A node with a pod that has everything a record can hold, and a neighbour to talk to.
struct Broken {
    node: PluginNode,
    pod: NetNs,
    beside: NetNs,
    conf: Value,
    own: Vec<IpAddr>,
    others: Vec<IpAddr>,
}

impl Broken {
    fn new() -> Self {
        let (node, pod, beside) = (PluginNode::new(), NetNs::new().unwrap(), NetNs::new().unwrap());
        let mut conf = node.conf("1.1.0");
        conf["routes"] = json!([{ "dst": "10.0.0.0/8" }, { "dst": "fd01::/16" }]);
        conf["sysctls"] = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
        let rate = 1_000_000_000;
        conf["runtimeConfig"] = json!({
            "bandwidth": { "ingressRate": rate, "egressRate": rate },
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        });
        let answer = node.run(&node.call("ADD", "c1", &pod.path(), &conf));
        assert!(answer.ok, "{}", answer.json);
        conf["prevResult"] = answer.json.clone();
        let others = addresses(&node.add("beside", &beside));
        Self { own: addresses(&answer.json), node, pod, beside, conf, others }
    }

    fn host_end(&self) -> String {
        let record = self.node.state_dir().join("attachments");
        let mut records =
            std::fs::read_dir(record).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap());
        let record: Value = records
            .find_map(|r| serde_json::from_slice(&r).ok().filter(|r: &Value| r["container"] == "c1"))
            .unwrap();
        record["hostIfname"].as_str().unwrap().to_owned()
    }

    fn check(&self) -> Result<(), String> {
        let answer = self.node.run(&self.node.call("CHECK", "c1", &self.pod.path(), &self.conf));
        if answer.ok { Ok(()) } else { Err(answer.json["msg"].to_string()) }
    }

    fn repair(&self, more: &[&str]) -> Output {
        let state = self.node.state_dir().display().to_string();
        let run = || {
            #[expect(clippy::disallowed_methods, reason = "a person runs programs")]
            let mut command = Command::new(program("flatnet"));
            command.args(["repair", "--state-dir", &state]).args(more).env_remove("CNI_COMMAND").output()
        };
        self.node.ns.run(run).unwrap().unwrap()
    }

    /// Both families, from both ends.
    fn talks(&self, when: &str) {
        for (from, to, ip) in [(&self.beside, &self.pod, &self.own), (&self.pod, &self.beside, &self.others)]
        {
            for ip in ip {
                let server = probe::TcpServer::start(to, SocketAddr::new(*ip, 0)).unwrap();
                let seen = probe::tcp_probe(from, None, server.address(), SOON);
                assert!(seen.as_ref().is_ok_and(probe::Seen::is_untranslated), "{when}: {ip}: {seen:?}");
                probe::ping(from, *ip, SOON).unwrap_or_else(|e| panic!("{when}: {ip}: {e}"));
            }
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Command lines, `HOST` standing for the node's end of the pair, `SHAPER` for the device that limits what
/// comes from the pod: first those for the node, then for the pod.
const DAMAGES: [(&str, &[&str], &[&str]); 23] = [
    ("the pod's end is down", &[], &["ip link set eth0 down"]),
    ("the node's end is down", &["ip link set HOST down"], &[]),
    ("the pod's MTU", &[], &["ip link set eth0 mtu 1300"]),
    ("an MTU without IPv6", &[], &["ip link set eth0 mtu 600"]),
    ("the node's MTU", &["ip link set HOST mtu 600"], &[]),
    ("the pod's MAC", &[], &["ip link set eth0 address 02:99:00:00:00:01"]),
    ("the node's MAC", &["ip link set HOST address 02:99:00:00:00:02"], &[]),
    ("the pod's addresses", &[], &["ip addr flush dev eth0"]),
    ("the node's addresses", &["ip addr flush dev HOST"], &[]),
    ("the pod's routes", &[], &["ip route flush dev eth0", "ip -6 route flush dev eth0"]),
    ("a route of the configuration", &[], &["ip route del 10.0.0.0/8", "ip -6 route del fd01::/16"]),
    ("the way back", &["ip route flush dev HOST", "ip -6 route flush dev HOST"], &[]),
    (
        "the pod's neighbours",
        &[],
        &["ip neigh flush dev eth0 nud permanent", "ip -6 neigh flush dev eth0 nud permanent"],
    ),
    (
        "the node's neighbours",
        &["ip neigh flush dev HOST nud permanent", "ip -6 neigh flush dev HOST nud permanent"],
        &[],
    ),
    (
        "the node's settings",
        &["sysctl -qw net.ipv4.conf.HOST.rp_filter=0 net.ipv4.conf.HOST.proxy_arp=0"],
        &[],
    ),
    ("a setting of the configuration", &[], &["sysctl -qw net.ipv4.ip_unprivileged_port_start=1024"]),
    ("IPv6 is off in the pod", &[], &["sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"]),
    ("the limit towards the pod", &["tc qdisc del dev HOST root"], &[]),
    ("the limit from the pod", &["ip link del SHAPER"], &[]),
    ("the limit from the pod is down", &["ip link set SHAPER down"], &[]),
    ("the way through the limit", &["tc qdisc del dev HOST ingress"], &[]),
    ("the host ports and the guard", &["nft flush ruleset"], &[]),
    ("the pair is gone", &["ip link del HOST"], &[]),
];

fn with_names(line: &str, host: &str) -> String {
    line.replace("HOST", host).replace("SHAPER", &host.replacen("fn", "fi", 1))
}

fn spoil(broken: &Broken, node: &[&str], pod: &[&str]) {
    let host = broken.host_end();
    node.iter().for_each(|line| drop(command(&broken.node.ns, &with_names(line, &host))));
    pod.iter().for_each(|line| drop(command(&broken.pod, line)));
}

#[test]
fn each_damage_is_found_put_right_and_not_found_again() {
    let broken = Broken::new();
    for (what, node, pod) in DAMAGES {
        assert_eq!(broken.check(), Ok(()), "before: {what}");
        spoil(&broken, node, pod);
        assert!(broken.check().is_err(), "CHECK does not see: {what}");
        let repaired = broken.repair(&["c1"]);
        assert!(repaired.status.success(), "{what}: {}", said(&repaired));
        assert!(said(&repaired).contains("c1 eth0: repaired"), "{what}: {}", said(&repaired));
        assert_eq!(broken.check(), Ok(()), "after: {what}: {}", said(&repaired));
        broken.talks(what);
        assert!(said(&broken.repair(&["c1"])).contains("c1 eth0: ok"), "{what}");
    }
}

#[test]
fn all_damages_at_once_are_put_right_in_one_run() {
    let broken = Broken::new();
    let loopback = ["ip link set lo down"];
    for lines in DAMAGES.iter().filter(|(what, ..)| !what.contains("gone")) {
        // What one breaks the next may not find any more.
        let host = broken.host_end();
        let each = |ns: &NetNs, line: &str| {
            let line = with_names(line, &host);
            let mut words = line.split(' ');
            #[expect(clippy::disallowed_methods, reason = "a test breaks what it tests")]
            let run = || Command::new(words.next().unwrap()).args(words).output();
            drop(ns.run(run).unwrap().unwrap());
        };
        lines.1.iter().for_each(|line| each(&broken.node.ns, line));
        lines.2.iter().for_each(|line| each(&broken.pod, line));
    }
    spoil(&broken, &["ip link set HOST alias other"], &loopback);
    assert!(broken.check().is_err());
    let repaired = broken.repair(&[]);
    assert!(repaired.status.success(), "{}", said(&repaired));
    assert!(said(&repaired).contains("beside eth0: ok"), "{}", said(&repaired));
    assert_eq!(broken.check(), Ok(()), "{}", said(&repaired));
    broken.talks("all at once");
    assert!(command(&broken.pod, "ip link show lo").contains("UP"));
    assert!(command(&broken.pod, "sysctl net.ipv4.ip_unprivileged_port_start").contains("= 80"));
    assert!(command(&broken.node.ns, "ip link show").contains("alias flatnet c1 eth0"));
}

#[test]
fn a_renamed_end_is_made_anew() {
    for (node, pod) in [
        (&["ip link set HOST down", "ip link set HOST name gone0"][..], &[][..]),
        (&[], &["ip link set eth0 down", "ip link set eth0 name gone0"]),
    ] {
        let broken = Broken::new();
        spoil(&broken, node, pod);
        let repaired = broken.repair(&["c1"]);
        assert!(repaired.status.success(), "{}", said(&repaired));
        assert_eq!(broken.check(), Ok(()));
        broken.talks("renamed");
        assert_eq!((links(&broken.node.ns).len(), links(&broken.pod).len()), (3, 1));
    }
}

/// What others added is theirs, and what a connection needs is not taken away and given back.
#[test]
fn a_connection_survives_and_what_others_added_stays() {
    let broken = Broken::new();
    let own = broken.own[0];
    let listener = broken.pod.run(|| TcpListener::bind((own, 7000))).unwrap().unwrap();
    let mut client = broken.beside.run(|| TcpStream::connect((own, 7000))).unwrap().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    for line in ["ip addr add 10.99.0.1/32 dev eth0", "ip route add 203.0.113.0/24 via 169.254.1.1"] {
        drop(command(&broken.pod, line));
    }
    for (what, node, pod) in
        DAMAGES.iter().filter(|(what, ..)| !what.contains("gone") && !what.contains("down"))
    {
        if what.contains("addresses") || what.contains("pod's routes") {
            continue;
        }
        spoil(&broken, node, pod);
        client.write_all(b"x").unwrap();
        let repaired = broken.repair(&["c1"]);
        assert!(repaired.status.success(), "{what}: {}", said(&repaired));
        server.set_read_timeout(Some(SOON)).unwrap();
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap_or_else(|e| panic!("{what}: {e}"));
        server.write_all(b"y").unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.read_exact(&mut byte).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(command(&broken.pod, "ip addr show eth0").contains("10.99.0.1/32"), "{what}");
        assert!(command(&broken.pod, "ip route").contains("203.0.113.0/24"), "{what}");
    }
}

/// A later pod at the same path is another pod: neither its interfaces nor anything else is touched.
#[test]
fn a_path_used_again_is_not_the_pod() {
    let node = PluginNode::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netns");
    let first = NetNs::new().unwrap();
    symlink(first.path(), &path).unwrap();
    assert!(node.run(&node.call("ADD", "c1", &path, &node.conf("1.1.0"))).ok);
    drop(first);
    std::fs::remove_file(&path).unwrap();
    wait_until("the pair's end", SOON, || links(&node.ns).is_empty().then_some(())).unwrap();
    // Most likely with the same inode.
    let second = NetNs::new().unwrap();
    symlink(second.path(), path).unwrap();
    let before = (oracle::everything(&node.ns), oracle::everything(&second));
    let broken = Broken {
        node,
        pod: second.clone(),
        beside: second,
        conf: Value::Null,
        own: Vec::new(),
        others: Vec::new(),
    };
    let output = broken.repair(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("the pod is gone") && said(&output).contains("DEL"), "{}", said(&output));
    oracle::assert_same(&before.0, &oracle::everything(&broken.node.ns), "node");
    oracle::assert_same(&before.1, &oracle::everything(&broken.pod), "the later pod");
}

#[test]
fn what_cannot_be_repaired_is_named_with_the_remedy() {
    let broken = Broken::new();
    drop(command(&broken.pod, "ip link del eth0"));
    drop(command(&broken.pod, "ip link add eth0 type veth peer name other"));
    let before = oracle::everything(&broken.pod);
    let output = broken.repair(&["c1", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let reports: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&reports[0]["state"], reports.as_array().unwrap().len()), (&json!("failed"), 1));
    let left = reports[0]["left"].to_string();
    assert!(left.contains("eth0 on pod") && left.contains("remove or rename"), "{left}");
    oracle::assert_same(&before, &oracle::everything(&broken.pod), "somebody else's interface");
    drop(command(&broken.pod, "ip link del eth0"));
    assert!(broken.repair(&["c1"]).status.success());
    assert_eq!(broken.check(), Ok(()));
}

#[test]
fn containers_are_named_by_an_unambiguous_beginning() {
    let broken = Broken::new();
    let other = NetNs::new().unwrap();
    drop(broken.node.add("c12", &other));
    let ok = broken.repair(&["c12"]);
    assert!(ok.status.success() && !said(&ok).contains("c1 eth0"), "{}", said(&ok));
    assert!(said(&broken.repair(&["c1"])).contains("c1 eth0: ok"), "an id goes before a beginning");
    assert!(said(&broken.repair(&["be"])).contains("beside eth0: ok"));
    assert!(broken.node.del("c1", &broken.pod.path()).ok);
    drop(broken.node.add("c13", &broken.pod));
    let two = broken.repair(&["c1"]);
    assert_eq!(two.status.code(), Some(2));
    assert!(said(&two).contains("c12 and c13") || said(&two).contains("c13 and c12"), "{}", said(&two));
    assert_eq!(broken.repair(&["nobody"]).status.code(), Some(1));
    for wrong in [&["--output", "xml"][..], &["a", "b"], &["--what"], &["--output"]] {
        assert_eq!(broken.repair(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

/// In any namespace but the node's own the node's ends seem gone; nothing is made there.
#[test]
fn the_wrong_namespace_is_refused() {
    let broken = Broken::new();
    let elsewhere = NetNs::new().unwrap();
    let before = (oracle::everything(&broken.pod), oracle::everything(&elsewhere));
    let state = broken.node.state_dir().display().to_string();
    let run = || {
        #[expect(clippy::disallowed_methods, reason = "a person runs programs")]
        let mut command = Command::new(program("flatnet"));
        command.args(["repair", "--state-dir", &state]).env_remove("CNI_COMMAND").output()
    };
    let output = elsewhere.run(run).unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another node namespace"), "{}", said(&output));
    oracle::assert_same(&before.0, &oracle::everything(&broken.pod), "pod");
    oracle::assert_same(&before.1, &oracle::everything(&elsewhere), "elsewhere");
}
