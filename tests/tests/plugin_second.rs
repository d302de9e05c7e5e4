//! Several interfaces of one container: each has its own address and answers under it, in both families,
//! whichever comes or goes first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use flatnet_tests::oracle::{self, command, links};
use flatnet_tests::plugin::{Answer, PluginNode, addresses};
use flatnet_tests::program;
use netns_fixtures::{NetNs, probe};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);

/// A node, a pod with several interfaces, and another pod to talk to.
struct Pods {
    node: PluginNode,
    pod: NetNs,
    other: NetNs,
    others: Vec<IpAddr>,
}

impl Pods {
    fn new() -> Self {
        let (node, pod, other) = (PluginNode::new(), NetNs::new().unwrap(), NetNs::new().unwrap());
        let others = addresses(&node.add("other", &other));
        Self { node, pod, other, others }
    }

    fn run(&self, verb: &str, ifname: &str, conf: &Value) -> Answer {
        self.node.run(&self.node.call(verb, "c1", &self.pod.path(), conf).var("CNI_IFNAME", Some(ifname)))
    }

    fn add(&self, ifname: &str) -> Value {
        let answer = self.run("ADD", ifname, &self.node.conf("1.1.0"));
        assert!(answer.ok, "{ifname}: {}", answer.json);
        answer.json
    }

    fn del(&self, ifname: &str) {
        let answer = self.run("DEL", ifname, &self.node.conf("1.1.0"));
        assert!(answer.ok && answer.stderr.is_empty(), "{ifname}: {answer:?}");
    }

    fn check(&self, ifname: &str, result: &Value) -> Result<(), String> {
        let mut conf = self.node.conf("1.1.0");
        conf["prevResult"] = result.clone();
        let answer = self.run("CHECK", ifname, &conf);
        if answer.ok { Ok(()) } else { Err(answer.json["msg"].to_string()) }
    }

    fn repair(&self) -> String {
        let state = self.node.state_dir().display().to_string();
        let run = || {
            #[expect(clippy::disallowed_methods, reason = "a person runs programs")]
            let mut command = Command::new(program("flatnet"));
            command.args(["repair", "c1", "--state-dir", &state]).env_remove("CNI_COMMAND").output()
        };
        let output = self.node.ns.run(run).unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Every address of `result` is reached from the other pod and from the node, and reaches the other
    /// pod; everybody sees the address itself.
    fn talks(&self, result: &Value, when: &str) {
        for ip in addresses(result) {
            let server = probe::TcpServer::start(&self.pod, SocketAddr::new(ip, 0)).unwrap();
            for from in [&self.other, &self.node.ns] {
                let seen = probe::tcp_probe(from, None, server.address(), SOON);
                assert!(seen.as_ref().is_ok_and(probe::Seen::is_untranslated), "{when}: to {ip}: {seen:?}");
            }
            let to = *self.others.iter().find(|other| other.is_ipv4() == ip.is_ipv4()).unwrap();
            let server = probe::TcpServer::start(&self.other, SocketAddr::new(to, 0)).unwrap();
            let seen = probe::tcp_probe(&self.pod, Some(ip), server.address(), SOON).unwrap();
            assert!(seen.is_untranslated(), "{when}: from {ip}: {seen:?}");
        }
    }

    /// What the pod sends from when nobody says.
    fn source(&self, family: &str) -> String {
        let text = command(
            &self.pod,
            &format!("ip {family} -o route get {}", self.others[usize::from(family == "-6")]),
        );
        text.split_whitespace().skip_while(|w| *w != "src").nth(1).unwrap().to_owned()
    }
}

#[test]
fn a12_a_second_interface_works_with_its_own_address() {
    let pods = Pods::new();
    let before = (oracle::everything(&pods.node.ns), oracle::everything(&pods.pod));
    let results = ["eth0", "net1", "net2"].map(|ifname| (ifname, pods.add(ifname)));
    let mut all: Vec<IpAddr> = results.iter().flat_map(|(_, result)| addresses(result)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
    for (ifname, result) in &results {
        pods.talks(result, ifname);
        assert_eq!(pods.check(ifname, result), Ok(()));
    }
    assert_eq!(pods.source("-4"), addresses(&results[0].1)[0].to_string());
    assert_eq!(pods.source("-6"), addresses(&results[0].1)[1].to_string());
    assert_eq!(pods.repair().matches(": ok").count(), 3);
    ["net1", "eth0", "net2"].iter().for_each(|ifname| pods.del(ifname));
    oracle::assert_same(&before.0, &oracle::everything(&pods.node.ns), "node");
    oracle::assert_same(&before.1, &oracle::everything(&pods.pod), "pod");
    assert_eq!((pods.node.records().len(), pods.node.used_addresses()), (1, 2));
}

#[test]
fn del_of_either_first_leaves_the_other_with_a_default_route() {
    for (first, kept) in [("eth0", "net1"), ("net1", "eth0")] {
        let pods = Pods::new();
        let (eth0, net1) = (pods.add("eth0"), pods.add("net1"));
        pods.del(first);
        let result = if kept == "eth0" { &eth0 } else { &net1 };
        pods.talks(result, kept);
        assert_eq!(pods.check(kept, result), Ok(()));
        for (family, ip) in ["-4", "-6"].iter().zip(addresses(result)) {
            assert!(command(&pods.pod, &format!("ip {family} route show default")).contains(kept));
            assert_eq!(pods.source(family), ip.to_string(), "{kept} is all there is");
        }
        // And back: the first place is free, or the second.
        let again = pods.add(first);
        pods.talks(&again, "again");
        pods.talks(result, "beside the one that came back");
        assert_eq!(
            pods.source("-4"),
            addresses(if first == "eth0" { &again } else { result })[0].to_string()
        );
    }
}

#[test]
fn another_network_of_one_family_is_fine_beside_a_dual_stack_one() {
    let pods = Pods::new();
    let eth0 = pods.add("eth0");
    for (name, subnet) in [("four", "10.77.0.0/24"), ("six", "fd00:77::/64")] {
        let mut conf = pods.node.conf("1.1.0");
        conf["name"] = json!(name);
        conf["subnets"] = json!([subnet]);
        conf["routes"] = json!([{ "dst": "203.0.113.0/24" }, { "dst": "2001:db8:ff::/48" }]);
        let answer = pods.run("ADD", name, &conf);
        assert!(answer.ok, "{}", answer.json);
        pods.talks(&answer.json, name);
        conf["prevResult"] = answer.json;
        assert!(pods.run("CHECK", name, &conf).ok);
    }
    pods.talks(&eth0, "the first");
}

/// Whatever of a further interface is damaged, CHECK sees and repair puts back.
#[test]
fn check_and_repair_know_rules_and_tables() {
    let pods = Pods::new();
    let (eth0, net1) = (pods.add("eth0"), pods.add("net1"));
    let own: Vec<IpAddr> = addresses(&net1);
    let table = command(&pods.pod, "ip rule show");
    let table = table.lines().find(|line| line.contains(&own[0].to_string())).unwrap();
    let table = table.split_whitespace().skip_while(|word| *word != "lookup").nth(1).unwrap().to_owned();
    let damages: [Vec<String>; 5] = [
        vec![format!("ip rule del from {} lookup {table}", own[0])],
        vec![format!("ip -6 rule del from {} lookup {table}", own[1])],
        vec![format!("ip route flush table {table}"), format!("ip -6 route flush table {table}")],
        vec!["ip route del default dev net1".to_owned(), "ip -6 route del default dev net1".to_owned()],
        vec!["ip link set net1 down".to_owned()],
    ];
    for damage in damages {
        damage.iter().for_each(|line| drop(command(&pods.pod, line)));
        let found = pods.check("net1", &net1).unwrap_err();
        assert!(found.contains("net1"), "{damage:?}: {found}");
        let said = pods.repair();
        assert!(said.contains("net1: repaired") && said.contains("eth0: ok"), "{damage:?}: {said}");
        assert_eq!(pods.check("net1", &net1), Ok(()), "{damage:?}");
        pods.talks(&net1, &format!("{damage:?}"));
    }
    let host = &links(&pods.node.ns);
    host.iter().for_each(|link| drop(command(&pods.node.ns, &format!("ip link del {link}"))));
    assert_eq!(pods.repair().matches(": repaired").count(), 2);
    let state = pods.node.state_dir().join("attachments");
    assert!(state.is_dir());
    // The other pod lost its pair too: it is not the one that was named.
    let again = pods.node.run(&pods.node.call("DEL", "other", &pods.other.path(), &pods.node.conf("1.1.0")));
    assert!(again.ok);
    let others = addresses(&pods.node.add("other", &pods.other));
    let pods = Pods { others, ..pods };
    pods.talks(&eth0, "eth0 anew");
    pods.talks(&net1, "net1 anew");
}

#[test]
fn a_killed_add_of_a_second_interface_is_cleaned_by_del() {
    let pods = Pods::new();
    let eth0 = pods.add("eth0");
    let before = (oracle::everything(&pods.node.ns), oracle::everything(&pods.pod));
    let call = pods.node.call("ADD", "c1", &pods.pod.path(), &pods.node.conf("1.1.0"));
    let call = call.var("CNI_IFNAME", Some("net1"));
    let (mut killed, mut inside) = (0, 0);
    for nth in 1..60 {
        let inject = format!("--inject=sendto,getsockopt,recvfrom:signal=KILL:when={nth}");
        let status = pods.node.ns.run(|| {
            #[expect(clippy::disallowed_methods, reason = "strace is what kills")]
            let mut command = Command::new("strace");
            command
                .args(["-f", "-qq", "--trace=sendto,getsockopt,recvfrom", &inject])
                .arg(program("flatnet"));
            command.env_clear().envs(call.env.iter().map(|(k, v)| (k, v))).env("PATH", "/usr/bin:/bin");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            // The plugin may be dead before it has read anything.
            let _ = child.stdin.take().unwrap().write_all(&call.stdin);
            child.wait().unwrap()
        });
        killed += usize::from(!status.unwrap().success());
        inside += usize::from(command(&pods.pod, "ip rule show").contains("10.22."));
        pods.del("net1");
        oracle::assert_same(&before.0, &oracle::everything(&pods.node.ns), &format!("node, {nth}"));
        oracle::assert_same(&before.1, &oracle::everything(&pods.pod), &format!("pod, {nth}"));
    }
    assert!(killed > 10 && inside > 0, "killed {killed} times, {inside} times with a rule made");
    pods.talks(&eth0, "the first");
}
