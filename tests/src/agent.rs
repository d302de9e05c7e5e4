//! A cluster of agents: two nodes on one segment, a third behind a router, each in a namespace of its own
//! with a real `flatnetd`. A pod is an address on the node's `lo`, which is all that the agent sees of one.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use netns_fixtures::probe::{Ping, Pong};
use netns_fixtures::{Fabric, FixtureError, KillOnDrop, NetNs, Node, wait_until};
use serde_json::Value;

use crate::oracle;
use crate::program;

/// Long enough for a busy machine; nothing waits this long where all is well.
pub const SOON: Duration = Duration::from_secs(10);

/// Which family carries packets between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// The nodes' addresses in the cluster file are IPv4.
    V4,
    /// They are IPv6.
    V6,
}

/// Three nodes with agents.
#[derive(Debug)]
pub struct Agents {
    /// What joins them.
    pub fabric: Fabric,
    /// `n1` and `n2` on segment `a`, `n3` on segment `b`.
    pub nodes: Vec<AgentNode>,
    dir: tempfile::TempDir,
    underlay: Underlay,
}

/// One node.
#[derive(Debug)]
pub struct AgentNode {
    /// Its place on the fabric.
    pub node: Node,
    /// Where the agent keeps its files.
    pub state: PathBuf,
    config: PathBuf,
    log: PathBuf,
    agent: Option<KillOnDrop>,
}

impl Agents {
    /// Builds the fabric and starts three agents; `backend` is the inside of the configuration's braces.
    ///
    /// # Panics
    /// Something cannot be made, or an agent is not ready soon.
    #[must_use]
    pub fn start(backend: &str, underlay: Underlay) -> Self {
        let mut agents = Self::prepare(backend, underlay);
        agents.write_cluster(&agents.cluster(&[1, 2, 3]));
        for node in &mut agents.nodes {
            node.start();
        }
        agents.nodes.iter().for_each(AgentNode::wait_ready);
        agents
    }

    /// Everything but a cluster file and running agents.
    ///
    /// # Panics
    /// Something cannot be made.
    #[must_use]
    pub fn prepare(backend: &str, underlay: Underlay) -> Self {
        netns_fixtures::gate::require();
        let mut fabric = Fabric::two_segments().expect("a fabric");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("store")).expect("a directory");
        let mut node = |i: usize, segment: &str| {
            let node = fabric.node(&format!("n{i}"), segment).expect("a node");
            AgentNode::prepare(node, i, dir.path(), backend)
        };
        let nodes = vec![node(1, "a"), node(2, "a"), node(3, "b")];
        Self { fabric, nodes, dir, underlay }
    }

    /// Node `i`, from 1.
    #[must_use]
    pub fn node(&self, i: usize) -> &AgentNode {
        &self.nodes[i - 1]
    }

    /// Node `i`, from 1.
    #[must_use]
    pub fn node_mut(&mut self, i: usize) -> &mut AgentNode {
        &mut self.nodes[i - 1]
    }

    /// The cluster file's path.
    #[must_use]
    pub fn cluster_path(&self) -> PathBuf {
        self.dir.path().join("store/cluster.yaml")
    }

    /// A dual-stack cluster file with these nodes.
    ///
    /// # Panics
    /// A node has no address of the underlay's family.
    #[must_use]
    pub fn cluster(&self, members: &[usize]) -> String {
        let line = |i: &usize| {
            let node = &self.node(*i).node;
            let address = match self.underlay {
                Underlay::V4 => node.v4(),
                Underlay::V6 => node.v6(),
            };
            let address = address.expect("segments have both families");
            format!(
                "  - {{ name: n{i}, address: \"{address}\", \
                 subnets: [10.244.{i}.0/24, \"fd00:10:244:{i}::/64\"] }}\n"
            )
        };
        let nodes: String = members.iter().map(line).collect();
        format!("network: {{ ipv4: 10.244.0.0/16, ipv6: \"fd00:10:244::/56\" }}\nnodes:\n{nodes}")
    }

    /// Puts a cluster file in place, whole.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_cluster(&self, text: &str) {
        let beside = self.dir.path().join("store/cluster.new");
        std::fs::write(&beside, text).expect("write the cluster");
        std::fs::rename(&beside, self.cluster_path()).expect("rename the cluster");
    }

    /// Pings from the pod of node `a` to that of node `b`.
    ///
    /// # Errors
    /// No answer.
    pub fn ping(&self, a: usize, b: usize, family: Underlay) -> Result<Pong, FixtureError> {
        Ping::to(pod(b, family)).from(pod(a, family)).send(&self.node(a).node.ns, SOON)
    }

    /// Every pod reaches every other one, in both families.
    ///
    /// # Panics
    /// One does not.
    pub fn all_reach_all(&self) {
        for (a, b) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            for family in [Underlay::V4, Underlay::V6] {
                let answer = self.ping(a, b, family);
                assert!(answer.is_ok(), "n{a} to n{b}, {family:?}: {answer:?}\n{}", self.node(a).log());
            }
        }
    }
}

/// The address of node `i`'s pod.
///
/// # Panics
/// Never.
#[must_use]
pub fn pod(i: usize, family: Underlay) -> IpAddr {
    let text = match family {
        Underlay::V4 => format!("10.244.{i}.9"),
        Underlay::V6 => format!("fd00:10:244:{i}::9"),
    };
    text.parse().expect("an address")
}

impl AgentNode {
    fn prepare(node: Node, i: usize, dir: &Path, backend: &str) -> Self {
        for family in [Underlay::V4, Underlay::V6] {
            drop(oracle::command(&node.ns, &format!("ip addr add {} dev lo", pod(i, family))));
        }
        let (state, config) = (dir.join(format!("state{i}")), dir.join(format!("agent{i}.yaml")));
        let text = format!(
            "node: n{i}\nstateDir: {}\nlisten: 127.0.0.1:9473\nbackend: {{ {backend} }}\n\
             store:\n  file: {{ path: {}/store/cluster.yaml }}\n",
            state.display(),
            dir.display()
        );
        std::fs::write(&config, text).expect("write the configuration");
        Self { node, state, config, log: dir.join(format!("log{i}")), agent: None }
    }

    fn command(&self, verb: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
        let mut command = Command::new(program("flatnetd"));
        command.arg(verb).arg("--config").arg(&self.config).stdin(Stdio::null());
        self.node.ns.enter_for_child(&mut command).expect("enter the node");
        command
    }

    /// The node's namespace.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.node.ns
    }

    /// Starts the agent.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("open the log");
        let mut command = self.command("run");
        let child = command.stderr(log).spawn().expect("start the agent");
        self.agent = Some(KillOnDrop::new(child));
    }

    /// Asks the agent to stop, and waits until it has.
    ///
    /// # Panics
    /// It does not stop soon, or not in good order.
    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.id()).expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal the agent");
        let status = wait_until("the agent's end", SOON, || agent.ended()).expect("the agent ends");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Kills the agent.
    pub fn kill(&mut self) {
        self.agent = None;
    }

    /// Runs another verb to its end.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn run(&self, verb: &str) -> Output {
        self.command(verb).output().expect("run the program")
    }

    /// What the agent says of itself; null before it has said anything.
    #[must_use]
    pub fn status(&self) -> Value {
        let bytes = std::fs::read(self.state.join("agent.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Waits until `look` is content with the agent's status.
    ///
    /// # Panics
    /// It is not, soon.
    pub fn wait_status(&self, what: &str, look: impl Fn(&Value) -> bool) {
        let seen = wait_until(what, SOON, || Some(self.status()).filter(&look));
        assert!(seen.is_ok(), "{what}: {:#}\n{}", self.status(), self.log());
    }

    /// Waits until this very agent is ready.
    ///
    /// # Panics
    /// It is not, soon.
    pub fn wait_ready(&self) {
        let pid = self.agent.as_ref().map(KillOnDrop::id);
        self.wait_status("ready", |status| {
            status["ready"] == true && status["pid"].as_u64() == pid.map(u64::from)
        });
    }

    /// GETs a path from the agent and answers with the whole response.
    ///
    /// # Panics
    /// Nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect("127.0.0.1:9473")?;
            stream.set_read_timeout(Some(SOON))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        self.ns().run(ask).expect("enter the node").expect("an answer")
    }

    /// What the agent logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Everything of ours in the kernel, as iproute2 shows it.
    #[must_use]
    pub fn ours(&self) -> String {
        let mut all = String::new();
        for line in [
            "ip route show proto 70",
            "ip -6 route show proto 70",
            "ip nexthop show protocol 70",
            "ip -d -o link show type vxlan",
        ] {
            all.push_str(&oracle::command(self.ns(), line));
        }
        for link in oracle::links(self.ns()).iter().filter(|name| name.starts_with("flat")) {
            all.push_str(&sorted(&oracle::command(
                self.ns(),
                &format!("ip neigh show dev {link} nud permanent"),
            )));
            all.push_str(&sorted(&oracle::command(
                self.ns(),
                &format!("ip -6 neigh show dev {link} nud permanent"),
            )));
            all.push_str(&sorted(&oracle::command(self.ns(), &format!("bridge fdb show dev {link}"))));
            all.push_str(&oracle::command(self.ns(), &format!("ip -o addr show dev {link} scope global")));
        }
        all
    }

    /// Waits until the kernel shows `wanted` again.
    ///
    /// # Panics
    /// It does not, soon.
    pub fn wait_ours(&self, what: &str, wanted: &str) {
        let seen = wait_until(what, SOON, || (self.ours() == wanted).then_some(()));
        assert!(seen.is_ok(), "{what}\nwanted:\n{wanted}\nseen:\n{}\n{}", self.ours(), self.log());
    }
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.into_iter().fold(String::new(), |all, line| all + line.trim_end() + "\n")
}
