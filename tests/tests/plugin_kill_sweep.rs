//! SIGKILL at every system call of ADD and of DEL: one DEL afterwards leaves nothing, whatever was killed,
//! and the pod beside is not touched.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use flatnet_tests::host_ports::{elements, mapping};
use flatnet_tests::oracle::{self, links};
use flatnet_tests::plugin::{PluginNode, addresses};
use flatnet_tests::{kill_sweep, program};
use netns_fixtures::{NetNs, probe, wait_until};
use serde_json::{Value, json};

struct Sweep {
    node: PluginNode,
    pod: NetNs,
    beside: NetNs,
    /// What the victim's ADD asks for: `runtimeConfig`.
    asks: Value,
    kills: usize,
}

impl Sweep {
    fn new() -> Self {
        let sweep = Self {
            asks: json!({}),
            node: PluginNode::new(),
            pod: NetNs::new().expect("make a namespace"),
            beside: NetNs::new().expect("make a namespace"),
            kills: 0,
        };
        drop(sweep.node.add("beside", &sweep.beside));
        // The kernel adds the route to the gateway's IPv6 address in its own time.
        let routed = || {
            oracle::command(&sweep.node.ns, "ip -6 route show table local")
                .contains("local fe80::1 ")
                .then_some(())
        };
        wait_until("the route to the gateway", Duration::from_secs(60), routed).expect("a route");
        sweep
    }

    /// Runs one verb under strace with `options`; answers with what strace said, and whether the verb
    /// ended by itself.
    fn strace(&self, verb: &str, options: &[String]) -> (String, bool) {
        let mut conf = self.node.conf("1.1.0");
        conf["runtimeConfig"] = self.asks.clone();
        let call = self.node.call(verb, "victim", &self.pod.path(), &conf);
        let output = self.node.ns.run(|| {
            #[expect(clippy::disallowed_methods, reason = "strace is what kills")]
            let mut command = Command::new("strace");
            command.args(["-f", "-qq"]).args(options).arg(program("flatnet"));
            command.env_clear().envs(call.env).env("PATH", "/usr/bin:/bin");
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("start strace");
            // The plugin may be dead before it has read anything.
            let _ = child.stdin.take().expect("piped").write_all(&call.stdin);
            child.wait_with_output().expect("wait")
        });
        let output = output.expect("enter the node");
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
    }

    /// The system calls that a whole run of `verb` makes.
    fn calls(&self, verb: &str) -> BTreeSet<String> {
        let (trace, whole) = self.strace(verb, &[]);
        assert!(whole, "{verb}: {trace}");
        kill_sweep::calls(&trace)
    }

    /// Kills `verb` at the first, second, third... of each of its system calls, and lets `after` judge.
    fn sweep(&mut self, verb: &str, before: impl Fn(&Self), after: impl Fn(&Self, &str)) {
        before(self);
        let calls = self.calls(verb);
        after(self, "a whole run");
        assert!(calls.contains("sendto") && calls.len() > 10, "{calls:?}");
        self.sweep_calls(verb, &calls, before, after);
    }

    fn sweep_calls(
        &mut self,
        verb: &str,
        calls: &BTreeSet<String>,
        before: impl Fn(&Self),
        after: impl Fn(&Self, &str),
    ) {
        let kills = kill_sweep::kill_at_each(
            calls,
            || before(self),
            |options| self.strace(verb, options).1,
            |when| after(self, &format!("{verb} {when}")),
        );
        self.kills += kills;
    }

    fn clean(&self, when: &str) {
        assert_eq!(links(&self.node.ns).len(), 1, "{when}: links");
        assert_eq!(links(&self.pod), Vec::<String>::new(), "{when}: links in the pod");
        assert_eq!(elements(&self.node.ns), [""; 0], "{when}: elements of nftables maps");
        assert_eq!(
            (self.node.records().len(), self.node.used_addresses()),
            (1, 2),
            "{when}: records, addresses"
        );
    }

    fn del(&self, when: &str) {
        let answer = self.node.del("victim", &self.pod.path());
        assert!(answer.ok, "{when}: {}", answer.json);
    }

    fn beside_still_works(&self) {
        let text = oracle::command(&self.beside, "ip -4 -o addr show eth0");
        let ip = text.split_whitespace().find_map(|w| w.strip_suffix("/32")).expect("an address");
        probe::ping(&self.node.ns, ip.parse().expect("an address"), Duration::from_secs(2)).expect("ping");
    }
}

#[test]
fn d11_add_killed_at_every_system_call() {
    let mut sweep = Sweep::new();
    let before = oracle::everything(&sweep.node.ns);
    let after = |s: &Sweep, when: &str| {
        s.del(when);
        s.clean(when);
    };
    sweep.sweep("ADD", |_| {}, after);
    oracle::assert_same(&before, &oracle::everything(&sweep.node.ns), "after the sweep");
    sweep.beside_still_works();
    println!("ADD killed at {} system calls: nothing left after DEL", sweep.kills);
    assert!(sweep.kills > 60, "{}", sweep.kills);
}

/// The part that host ports and limits add: at each request to the kernel, and at each file that is written.
#[test]
fn d11_add_and_del_with_host_ports_and_limits_killed_at_every_request() {
    let mut sweep = Sweep::new();
    sweep.asks = json!({
        "portMappings": [mapping("tcp", 8080, 80), mapping("udp", 8053, 53)],
        "bandwidth": { "ingressRate": 1_000_000, "egressRate": 1_000_000 },
    });
    let requests: BTreeSet<String> = ["sendto", "recvfrom", "rename", "unlink"].map(str::to_owned).into();
    let after = |s: &Sweep, when: &str| {
        s.del(when);
        s.clean(when);
    };
    sweep.sweep_calls("ADD", &requests, |_| {}, after);
    let attach = |s: &Sweep| {
        let (said, whole) = s.strace("ADD", &[]);
        assert!(whole && !elements(&s.node.ns).is_empty(), "{said}");
    };
    sweep.sweep_calls("DEL", &requests, attach, after);
    sweep.beside_still_works();
    println!("with host ports and limits killed at {} requests: nothing left after DEL", sweep.kills);
    assert!(sweep.kills > 30, "{}", sweep.kills);
}

#[test]
fn d11_del_killed_at_every_system_call() {
    let mut sweep = Sweep::new();
    let before = oracle::everything(&sweep.node.ns);
    let attach = |s: &Sweep| assert_eq!(addresses(&s.node.add("victim", &s.pod)).len(), 2);
    let after = |s: &Sweep, when: &str| {
        s.del(when);
        s.clean(when);
    };
    sweep.sweep("DEL", attach, after);
    oracle::assert_same(&before, &oracle::everything(&sweep.node.ns), "after the sweep");
    sweep.beside_still_works();
    println!("DEL killed at {} system calls: nothing left after DEL", sweep.kills);
    assert!(sweep.kills > 30, "{}", sweep.kills);
}
