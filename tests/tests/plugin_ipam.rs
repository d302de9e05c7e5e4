//! Third-party IPAM: scripts that log what they are called with, and Debian's `host-local` and `static`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use flatnet_tests::oracle::{self, links};
use flatnet_tests::plugin::{Answer, PluginNode, addresses};
use netns_fixtures::{NetNs, probe};
use serde_json::{Value, json};

/// Where Debian's containernetworking-plugins are.
const REFERENCE: &str = "/usr/lib/cni";
const GIVES: &str = r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.40.0.9/24","gateway":"10.40.0.1"}],
    "routes":[{"dst":"0.0.0.0/0"},{"dst":"10.50.0.0/16","gw":"10.40.0.1"}],"dns":{"nameservers":["10.40.0.2"]}}'"#;
const REFUSES: &str =
    r#"echo '{"cniVersion":"1.1.0","code":117,"msg":"no luck","details":"ask later"}'; exit 3"#;

/// A node with two directories of IPAM scripts, one log for both.
struct Bench {
    node: PluginNode,
    pod: NetNs,
    dirs: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            node: PluginNode::new(),
            pod: NetNs::new().expect("make a pod's namespace"),
            dirs: tempfile::tempdir().expect("make a directory"),
        }
    }

    /// Writes `DIR/fake-ipam`: it logs, says something on stderr, then does `add` on ADD, `other` else.
    fn script(&self, dir: &str, add: &str, other: &str) {
        let (dir, log) = (self.dirs.path().join(dir), self.dirs.path().join("log"));
        std::fs::create_dir_all(&dir).expect("make a directory");
        let text = format!(
            "#!/bin/sh\nstdin=$(cat)\necho \"$CNI_COMMAND|$CNI_CONTAINERID|$CNI_IFNAME|$CNI_NETNS|$CNI_ARGS|\
             $CNI_PATH|$0|$stdin\" >>{}\necho words for people >&2\n\
             if [ $CNI_COMMAND = ADD ]; then\n:\n{add}\nelse\n:\n{other}\nfi\n",
            log.display()
        );
        // Written under another name first: a file being written cannot be executed.
        let (new, program) = (dir.join("new"), dir.join("fake-ipam"));
        std::fs::write(&new, text).expect("write the script");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        std::fs::rename(new, program).expect("rename the script");
    }

    fn conf(&self) -> Value {
        json!({ "cniVersion": "1.1.0", "name": "flatnet", "type": "flatnet", "stateDir": self.node.state_dir(),
            "ipam": { "type": "fake-ipam", "anything": { "at": "all" } }, "unknown": [1] })
    }

    fn path(&self) -> String {
        format!("{0}/first:{0}/second", self.dirs.path().display())
    }

    fn run(&self, verb: &str, conf: &Value) -> Answer {
        let call = self.node.call(verb, "c1", &self.pod.path(), conf);
        self.node.run(&call.var("CNI_PATH", Some(&self.path())).var("CNI_ARGS", Some("IgnoreUnknown=1;A=b")))
    }

    fn log(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dirs.path().join("log")).unwrap_or_default();
        text.lines().map(|line| line.splitn(8, '|').map(str::to_owned).collect()).collect()
    }

    fn verbs(&self) -> Vec<String> {
        self.log().into_iter().map(|line| line[0].clone()).collect()
    }

    fn assert_nothing_left(&self) {
        assert_eq!((links(&self.node.ns).len(), self.node.records().len()), (0, 0));
        assert_eq!(links(&self.pod), Vec::<String>::new());
    }
}

#[test]
fn k3_k4_k5_the_delegate_gets_what_we_got() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    bench.script("second", "exit 1", "exit 1");
    let conf = bench.conf();
    let answer = bench.run("ADD", &conf);
    assert!(answer.ok, "{}", answer.json);
    assert!(answer.stderr.contains("words for people"), "{}", answer.stderr);
    let log = &bench.log()[0];
    let netns = bench.pod.path().display().to_string();
    assert_eq!(log[..6], ["ADD", "c1", "eth0", &netns, "IgnoreUnknown=1;A=b", &bench.path()]);
    assert!(log[6].contains("/first/"), "the first match wins: {}", log[6]);
    assert_eq!(serde_json::from_str::<Value>(&log[7]).unwrap(), conf);
}

#[test]
fn k8_k9_what_the_delegate_gives_is_used() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    let mut conf = bench.conf();
    let answer = bench.run("ADD", &conf);
    assert_eq!(answer.json["ips"][0]["address"], "10.40.0.9/32", "{}", answer.json);
    assert_eq!(answer.json["ips"][0]["gateway"], "169.254.1.1");
    assert_eq!(answer.json["dns"]["nameservers"][0], "10.40.0.2");
    let routes = oracle::command(&bench.pod, "ip route");
    assert!(routes.contains("10.50.0.0/16 via 169.254.1.1 dev eth0"), "{routes}");
    assert!(routes.contains("default via 169.254.1.1 dev eth0"), "{routes}");
    probe::ping(&bench.node.ns, "10.40.0.9".parse().unwrap(), Duration::from_secs(2)).unwrap();
    conf["prevResult"] = answer.json;
    let check = bench.run("CHECK", &conf);
    assert!(check.ok && check.json == Value::Null, "{}", check.json);
    drop(oracle::command(&bench.pod, "ip route del 10.50.0.0/16"));
    let check = bench.run("CHECK", &conf);
    assert!(check.json["msg"].as_str().unwrap().contains("10.50.0.0/16"), "{}", check.json);
    assert!(bench.run("DEL", &conf).ok);
    bench.assert_nothing_left();
}

#[test]
fn k6_k7_a19_an_error_of_the_delegate_is_ours() {
    let bench = Bench::new();
    bench.script("first", REFUSES, "");
    let answer = bench.run("ADD", &bench.conf());
    let error = json!({ "cniVersion": "1.1.0", "code": 117, "msg": "no luck", "details": "ask later" });
    assert_eq!((answer.ok, &answer.json), (false, &error));
    assert_eq!(bench.verbs(), ["ADD", "DEL"]);
    bench.assert_nothing_left();
}

#[test]
fn k6_every_verb_is_forwarded_and_its_error_comes_back() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    let mut conf = bench.conf();
    conf["prevResult"] = bench.run("ADD", &conf).json;
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "c1", "ifname": "eth0" }]);
    for verb in ["CHECK", "STATUS", "GC"] {
        let answer = bench.run(verb, &conf);
        assert!(answer.ok && answer.json == Value::Null, "{verb}: {}", answer.json);
    }
    assert_eq!(bench.verbs(), ["ADD", "CHECK", "STATUS", "GC"]);
    bench.script("first", GIVES, REFUSES);
    for verb in ["CHECK", "STATUS", "GC", "DEL"] {
        let answer = bench.run(verb, &conf);
        assert_eq!((answer.ok, &answer.json["code"]), (false, &json!(117)), "{verb}: {}", answer.json);
    }
    assert_eq!(links(&bench.node.ns).len(), 0, "DEL took away what is ours all the same");
    bench.script("first", GIVES, "");
    assert!(bench.run("DEL", &conf).ok, "and its retry finishes");
    bench.assert_nothing_left();
}

#[test]
fn s3_g5_a_missing_delegate_is_named_with_the_path() {
    let bench = Bench::new();
    let mut conf = bench.conf();
    conf["cni.dev/valid-attachments"] = json!([]);
    for (verb, code) in [("ADD", 103), ("STATUS", 50), ("GC", 103)] {
        let answer = bench.run(verb, &conf);
        let msg = answer.json["msg"].as_str().unwrap();
        assert_eq!(answer.json["code"], code, "{verb}: {}", answer.json);
        assert!(msg.contains("fake-ipam") && msg.contains(&bench.path()), "{verb}: {msg}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_failure_of_ours_after_the_delegates_add_takes_it_back() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    drop(oracle::command(&bench.node.ns, "ip route add 10.40.0.9/32 dev lo"));
    let answer = bench.run("ADD", &bench.conf());
    assert!(!answer.ok && answer.json["msg"].as_str().unwrap().contains("10.40.0.9"), "{}", answer.json);
    assert_eq!(bench.verbs(), ["ADD", "DEL"]);
    bench.assert_nothing_left();
}

#[test]
fn a_refused_second_add_does_not_take_the_first_ones_address() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    assert!(bench.run("ADD", &bench.conf()).ok);
    assert_eq!(bench.run("ADD", &bench.conf()).json["code"], 101);
    assert_eq!(bench.verbs(), ["ADD"]);
}

#[test]
fn del_without_ipam_in_the_configuration_finds_it_in_the_record() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    let mut conf = bench.conf();
    assert!(bench.run("ADD", &conf).ok);
    conf.as_object_mut().unwrap().remove("ipam");
    assert!(bench.run("DEL", &conf).ok);
    assert_eq!(bench.verbs(), ["ADD", "DEL"]);
    assert!(bench.log()[1][7].contains("\"at\""), "with the recorded object");
    bench.assert_nothing_left();
}

#[test]
fn k8_k11_delegates_that_misbehave() {
    let cases = [
        ("echo '{\"interfaces\":[{\"name\":\"x\"}],\"ips\":[{\"address\":\"10.40.0.9/24\"}]}'", "interfaces"),
        ("echo '{\"ips\":[{\"address\":\"10.40.0.9/24\",\"interface\":0}]}'", "interface"),
        ("echo '{}'", "no address"),
        ("echo nonsense", "JSON"),
        ("exit 7", "7"),
        ("kill -9 $$", "signal"),
    ];
    for (script, word) in cases {
        let bench = Bench::new();
        bench.script("first", script, "");
        let answer = bench.run("ADD", &bench.conf());
        let msg = answer.json["msg"].as_str().unwrap_or_default();
        assert!(!answer.ok && answer.json["code"] == 103 && msg.contains(word), "{script}: {}", answer.json);
        assert_eq!(bench.verbs(), ["ADD", "DEL"], "{script}");
        bench.assert_nothing_left();
    }
}

#[test]
fn gc_gives_back_for_each_attachment_that_is_not_listed() {
    let bench = Bench::new();
    bench.script("first", GIVES, "");
    let mut conf = bench.conf();
    assert!(bench.run("ADD", &conf).ok);
    conf["cni.dev/valid-attachments"] = json!([]);
    let call = bench.node.call("GC", "", Path::new(""), &conf).var("CNI_PATH", Some(&bench.path()));
    assert!(bench.node.run(&call).ok);
    assert_eq!(bench.verbs(), ["ADD", "DEL", "GC"]);
    assert_eq!(bench.log()[1][1..3], ["c1", "eth0"]);
    bench.assert_nothing_left();
}

#[test]
fn k18_gc_goes_on_after_an_address_that_cannot_be_given_back() {
    let bench = Bench::new();
    let refuse_c1 = format!("if [ $CNI_CONTAINERID = c1 ]; then {REFUSES}; fi");
    let (mut conf, other) = (bench.conf(), NetNs::new().unwrap());
    bench.script("first", GIVES, &refuse_c1);
    assert!(bench.run("ADD", &conf).ok);
    bench.script("first", &GIVES.replace("10.40.0.9", "10.40.0.10"), &refuse_c1);
    let add = bench.node.call("ADD", "c2", &other.path(), &conf).var("CNI_PATH", Some(&bench.path()));
    assert!(bench.node.run(&add).ok);
    conf["cni.dev/valid-attachments"] = json!([]);
    let gc = bench.node.call("GC", "", Path::new(""), &conf).var("CNI_PATH", Some(&bench.path()));
    let answer = bench.node.run(&gc);
    assert!(!answer.ok && answer.json["msg"].as_str().unwrap().contains("no luck"), "{}", answer.json);
    assert_eq!((bench.node.records().len(), links(&other)), (1, Vec::new()), "c2 is gone, c1 is known still");
    bench.script("first", GIVES, "");
    assert!(bench.node.run(&gc).ok);
    assert_eq!((links(&bench.node.ns).len(), bench.node.records().len()), (0, 0));
}

#[test]
fn debians_host_local_and_static_give_addresses() {
    for version in ["0.2.0", "0.3.1", "0.4.0", "1.0.0"] {
        let bench = Bench::new();
        let data = bench.dirs.path().join("leases");
        let host_local = json!({ "type": "host-local", "dataDir": data, "routes": [{ "dst": "10.60.0.0/16" }],
            "ranges": [[{ "subnet": "10.41.0.0/24" }], [{ "subnet": "fd00:41::/64" }]] });
        let fixed = json!({ "type": "static", "addresses": [{ "address": "10.42.0.7/24" }] });
        for ipam in [host_local, fixed] {
            // `static` answers from 0.3.0 on.
            if version == "0.2.0" && ipam["type"] == "static" {
                continue;
            }
            let mut conf = bench.conf();
            conf["cniVersion"] = json!(version);
            conf["ipam"] = ipam;
            let run = |verb: &str, conf: &Value| {
                let call = bench.node.call(verb, "c1", &bench.pod.path(), conf);
                bench.node.run(&call.var("CNI_PATH", Some(REFERENCE)))
            };
            let answer = run("ADD", &conf);
            assert!(answer.ok, "{version} {}: {}", conf["ipam"]["type"], answer.json);
            if version != "0.2.0" {
                for ip in addresses(&answer.json) {
                    probe::ping(&bench.node.ns, ip, Duration::from_secs(2)).unwrap();
                }
            }
            conf["prevResult"] = answer.json;
            if version >= "0.4.0" {
                let check = run("CHECK", &conf);
                assert!(check.ok, "{version} {}: {}", conf["ipam"]["type"], check.json);
            }
            assert!(run("DEL", &conf).ok);
            bench.assert_nothing_left();
        }
        let leases: Vec<_> = std::fs::read_dir(data.join("flatnet"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("10.41.") || name.contains("fd00"))
            .filter(|name| !name.starts_with("last_reserved"))
            .collect();
        assert_eq!(leases, Vec::<String>::new(), "{version}");
    }
}

#[test]
fn dhcp_is_refused_with_its_reason_and_stops_no_del() {
    let bench = Bench::new();
    let mut conf = bench.conf();
    conf["ipam"] = json!({ "type": "dhcp" });
    let answer = bench.run("ADD", &conf);
    assert_eq!(answer.json["code"], 2);
    assert!(answer.json["msg"].as_str().unwrap().contains("dhcp"), "{}", answer.json);
    assert!(answer.json["details"].as_str().unwrap().contains("broadcast domain"), "{}", answer.json);
    assert!(bench.run("DEL", &conf).ok);
}
