//! Drives the plugin as a runtime does: environment, configuration on stdin, one JSON value back.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns_fixtures::{NetNs, wait_until};
use serde_json::{Value, json};

use crate::program;

/// A node in a namespace of its own, with a state directory and the plugin.
#[derive(Debug)]
pub struct PluginNode {
    /// The node's namespace.
    pub ns: NetNs,
    state: tempfile::TempDir,
}

/// What one invocation answered.
#[derive(Debug)]
pub struct Answer {
    /// Exit status 0.
    pub ok: bool,
    /// The JSON value on stdout; null where there was nothing.
    pub json: Value,
    /// What was said on stderr.
    pub stderr: String,
}

/// One invocation, with everything a test may want to spoil.
#[derive(Debug, Clone)]
pub struct Call {
    /// The environment.
    pub env: Vec<(String, String)>,
    /// stdin.
    pub stdin: Vec<u8>,
}

impl Call {
    /// Sets or replaces a variable; `None` removes it.
    #[must_use]
    pub fn var(mut self, name: &str, value: Option<&str>) -> Self {
        self.env.retain(|(k, _)| k != name);
        self.env.extend(value.map(|v| (name.to_owned(), v.to_owned())));
        self
    }
}

impl PluginNode {
    /// A node without uplink, but with an address of its own, as every node has.
    ///
    /// # Panics
    /// Namespaces cannot be made (the tests need root).
    #[must_use]
    pub fn new() -> Self {
        netns_fixtures::gate::require();
        let ns = NetNs::new().expect("make a namespace");
        drop(crate::oracle::command(&ns, "ip addr add 192.0.2.1/32 dev lo"));
        drop(crate::oracle::command(&ns, "ip addr add 2001:db8::1/128 dev lo nodad"));
        // The kernel makes the address's route in its own time, and tests compare before with after.
        let local = || {
            crate::oracle::command(&ns, "ip -6 route show table local").contains("2001:db8::1").then_some(())
        };
        wait_until("the node's own route", Duration::from_secs(10), local).expect("a route");
        Self::on(ns)
    }

    /// The plugin on a node that is there already: one of a fabric.
    ///
    /// # Panics
    /// No state directory can be made.
    #[must_use]
    pub fn on(ns: NetNs) -> Self {
        Self { ns, state: tempfile::tempdir().expect("make a state directory") }
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    /// The configuration of a stand-alone dual-stack node, in `version`.
    #[must_use]
    pub fn conf(&self, version: &str) -> Value {
        json!({
            "cniVersion": version, "name": "flatnet", "type": "flatnet",
            "stateDir": self.state.path(),
            "subnets": ["10.22.0.0/24", "fd00:22::/64"],
        })
    }

    /// An invocation of `verb` for interface `eth0` of `container` in `pod`.
    #[must_use]
    pub fn call(&self, verb: &str, container: &str, pod: &Path, conf: &Value) -> Call {
        let env = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", &pod.display().to_string()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        Call {
            env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
            stdin: conf.to_string().into_bytes(),
        }
    }

    /// Runs an invocation in the node's namespace.
    ///
    /// # Panics
    /// The plugin cannot be started, or its stdout is neither empty nor one JSON value.
    #[must_use]
    pub fn run(&self, call: &Call) -> Answer {
        self.execute(&program("flatnet"), call)
    }

    /// Runs an invocation of any plugin in the node's namespace.
    ///
    /// # Panics
    /// It cannot be started, or its stdout is neither empty nor one JSON value.
    #[must_use]
    pub fn execute(&self, plugin: &Path, call: &Call) -> Answer {
        let output = self.ns.run(|| start(plugin, call)).expect("enter the node");
        let text = String::from_utf8(output.stdout).expect("the answer is text");
        let json = match text.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|e| panic!("stdout {text:?}: {e}")),
        };
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Answer { ok: output.status.success(), json, stderr }
    }

    /// ADD with the stand-alone configuration in the newest version.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn add(&self, container: &str, pod: &NetNs) -> Value {
        let answer = self.run(&self.call("ADD", container, &pod.path(), &self.conf("1.1.0")));
        assert!(answer.ok, "ADD {container}: {}", answer.json);
        answer.json
    }

    /// DEL with the stand-alone configuration.
    #[must_use]
    pub fn del(&self, container: &str, pod: &Path) -> Answer {
        self.run(&self.call("DEL", container, pod, &self.conf("1.1.0")))
    }

    /// Container ids' files of recorded attachments.
    ///
    /// # Panics
    /// The folder cannot be listed.
    #[must_use]
    pub fn records(&self) -> Vec<PathBuf> {
        let folder = self.state.path().join("attachments");
        match std::fs::read_dir(folder) {
            Ok(entries) => entries.map(|e| e.expect("list").path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// How many addresses the pool counts as used, by reading its files' slots (16 bytes each after a
    /// header of 64; the first 8 are the owner).
    ///
    /// # Panics
    /// A file cannot be read.
    #[must_use]
    pub fn used_addresses(&self) -> usize {
        let Ok(entries) = std::fs::read_dir(self.state.path().join("addresses")) else { return 0 };
        entries
            .map(|e| std::fs::read(e.expect("list").path()).expect("read"))
            .map(|file| file[64..].chunks(16).filter(|slot| slot[..8] != [0; 8]).count())
            .sum()
    }
}

impl Default for PluginNode {
    fn default() -> Self {
        Self::new()
    }
}

fn start(program: &Path, call: &Call) -> std::process::Output {
    #[expect(clippy::disallowed_methods, reason = "a runtime executes plugins")]
    let mut command = Command::new(program);
    command.env_clear().envs(call.env.iter().map(|(k, v)| (k, v)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start the plugin");
    // A plugin that refuses before reading closes the pipe; that is no failure of the test.
    let _ = child.stdin.take().expect("piped").write_all(&call.stdin);
    child.wait_with_output().expect("wait for the plugin")
}

/// The addresses in a result.
///
/// # Panics
/// The result has none.
#[must_use]
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().expect("ips");
    ips.iter()
        .map(|ip| ip["address"].as_str().expect("address").split('/').next().expect("ip"))
        .map(|ip| ip.parse().expect("an address"))
        .collect()
}
