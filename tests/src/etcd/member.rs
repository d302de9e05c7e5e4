//! One member of an etcd cluster, run in a namespace.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use netns_fixtures::{KillOnDrop, NetNs, wait_until};
use nix::sys::signal::{Signal, kill};

use super::Certificates;

/// Where the first member of a cluster serves clients; the others follow, each with a port for its peers
/// between.
pub const CLIENT_PORT: u16 = 2379;
/// An election takes a second or two, on a busy machine longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One member.
#[derive(Debug)]
pub struct Member {
    ns: NetNs,
    ip: IpAddr,
    index: u16,
    of: u16,
    dir: PathBuf,
    tls: Option<Certificates>,
    user: Option<String>,
    process: Option<KillOnDrop>,
}

impl Member {
    /// Member `index` of `of`, from zero, that will serve on `ip` and keep its files in `dir`.
    #[must_use]
    pub fn prepare(ns: &NetNs, ip: IpAddr, (index, of): (u16, u16), dir: &Path) -> Self {
        let dir = dir.join(format!("etcd{index}"));
        Self { ns: ns.clone(), ip, index, of, dir, tls: None, user: None, process: None }
    }

    /// Serves with TLS only, and only who has a certificate.
    pub fn secure(&mut self, certificates: Certificates) {
        self.tls = Some(certificates);
    }

    /// Asks as this user from here on: `name:password`.
    pub fn ask_as(&mut self, user: &str) {
        self.user = Some(user.to_owned());
    }

    /// What agents are told.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.url(self.ip, self.port())
    }

    fn url(&self, ip: IpAddr, port: u16) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{ip}:{port}")
    }

    fn port(&self) -> u16 {
        CLIENT_PORT + 2 * self.index
    }

    /// Starts it, for everybody.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self) {
        self.start_on(self.ip);
    }

    /// Starts it where agents do not look for it: on this host only.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_hidden(&mut self) {
        self.start_on(IpAddr::from([127, 0, 0, 2]));
    }

    fn start_on(&mut self, ip: IpAddr) {
        let name = |i: u16| format!("m{i}");
        let peer = |i: u16| format!("http://127.0.0.1:{}", CLIENT_PORT + 2 * i + 1);
        let all: Vec<String> = (0..self.of).map(|i| format!("{}={}", name(i), peer(i))).collect();
        let local = self.url([127, 0, 0, 1].into(), self.port());
        let mut args = vec![
            ("--name", name(self.index)),
            ("--data-dir", self.dir.display().to_string()),
            ("--listen-client-urls", format!("{},{local}", self.url(ip, self.port()))),
            ("--advertise-client-urls", local),
            ("--listen-peer-urls", peer(self.index)),
            ("--initial-advertise-peer-urls", peer(self.index)),
            ("--initial-cluster", all.join(",")),
        ];
        if let Some(tls) = &self.tls {
            args.extend([
                ("--cert-file", tls.server.display().to_string()),
                ("--key-file", tls.server_key.display().to_string()),
                ("--client-cert-auth", "true".to_owned()),
                ("--trusted-ca-file", tls.ca.display().to_string()),
            ]);
        }
        #[expect(clippy::disallowed_methods, reason = "a test runs the store of the agents under test")]
        let mut command = Command::new("etcd");
        command.args(args.into_iter().map(|(name, value)| format!("{name}={value}")));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(self.dir.with_extension("log")).expect("a log");
        command.stderr(log);
        self.ns.enter_for_child(&mut command).expect("enter the namespace");
        self.process = Some(KillOnDrop::new(command.spawn().expect("start etcd; is etcd-server installed?")));
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// It does not, soon.
    pub fn wait_healthy(&self) {
        let healthy = || self.try_ctl(&["endpoint", "health"]).status.success().then_some(());
        let seen = wait_until("a healthy etcd", PATIENCE, healthy);
        let log = || std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
        assert!(seen.is_ok(), "{seen:?}\n{}", log());
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Lets it do nothing until [`Self::resume`].
    ///
    /// # Panics
    /// It does not run.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// It does not run.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().expect("etcd runs").id();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(id).expect("a process id"));
        kill(pid, signal).expect("signal etcd");
    }

    /// Asks it with etcd's own client, and answers with what that prints.
    ///
    /// # Panics
    /// It refuses.
    #[expect(clippy::must_use_candidate, reason = "mostly asked for its effect")]
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = self.try_ctl(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Puts many keys at once.
    ///
    /// # Panics
    /// It refuses.
    pub fn put_all(&self, pairs: &[(String, String)]) {
        // etcd takes 128 operations in one transaction.
        for some in pairs.chunks(128) {
            let mut text = String::from("\n");
            for (key, value) in some {
                text += &format!("put {key} {}\n", serde_json::Value::from(value.as_str()));
            }
            text += "\n\n";
            let mut child = self.ctl_command(&["txn"]).stdin(Stdio::piped()).spawn().expect("run etcdctl");
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(text.as_bytes()).expect("hand over the keys");
            drop(stdin);
            let output = child.wait_with_output().expect("etcdctl ends");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
        }
    }

    /// The same, where a refusal is an answer too.
    ///
    /// # Panics
    /// The client cannot be run.
    #[must_use]
    pub fn try_ctl(&self, args: &[&str]) -> Output {
        self.ctl_command(args).output().expect("run etcdctl; is etcd-client installed?")
    }

    fn ctl_command(&self, args: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "etcd's own client is the witness")]
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.url([127, 0, 0, 1].into(), self.port()));
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(&tls.ca).arg("--cert").arg(&tls.client);
            command.arg("--key").arg(&tls.client_key);
        }
        if let Some(user) = &self.user {
            command.arg("--user").arg(user);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.ns.enter_for_child(&mut command).expect("enter the namespace");
        command
    }
}
