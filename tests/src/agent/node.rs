//! One node of a cluster of agents: its agent, its pods, and what iproute2 shows of them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netns_fixtures::{KillOnDrop, NetNs, Node, wait_until};
use serde_json::{Value, json};

use super::{SOON, Underlay, pod};
use crate::{oracle, program};

/// One node.
#[derive(Debug)]
pub struct AgentNode {
    /// Its place on the fabric.
    pub node: Node,
    /// Where the agent keeps its files.
    pub state: PathBuf,
    config: PathBuf,
    log: PathBuf,
    dir: PathBuf,
    agent: Option<KillOnDrop>,
}

impl AgentNode {
    /// A node without an agent yet; `i` names it, and its files below `dir`.
    pub(crate) fn prepare(node: Node, i: usize, dir: &Path, backend: &str) -> Self {
        for family in [Underlay::V4, Underlay::V6] {
            drop(oracle::command(&node.ns, &format!("ip addr add {} dev lo", pod(i, family))));
        }
        let (state, config) = (dir.join(format!("state{i}")), dir.join(format!("agent{i}.yaml")));
        let node =
            Self { node, state, config, log: dir.join(format!("log{i}")), dir: dir.to_owned(), agent: None };
        node.configure(i, backend);
        node
    }

    /// Writes the agent's configuration; `backend` is the inside of the braces.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure(&self, i: usize, backend: &str) {
        let text = format!(
            "node: n{i}\nstateDir: {}\nlisten: 127.0.0.1:9473\nbackend: {{ {backend} }}\n\
             store:\n  file: {{ path: {}/store/cluster.yaml }}\n",
            self.state.display(),
            self.dir.display()
        );
        self.configure_with(&text);
    }

    /// Writes the agent's configuration as it is.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure_with(&self, text: &str) {
        std::fs::write(&self.config, text).expect("write the configuration");
    }

    /// Adds keys to the agent's configuration.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure_more(&self, lines: &str) {
        let mut file = File::options().append(true).open(&self.config).expect("open the configuration");
        writeln!(file, "{lines}").expect("write the configuration");
    }

    fn command(&self, verb: &str) -> Command {
        self.command_of(&program("flatnetd"), verb)
    }

    fn command_of(&self, program: &Path, verb: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
        let mut command = Command::new(program);
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
        let command = self.command("run");
        self.start_as(command);
    }

    /// Starts the agent with these variables in its environment.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let mut command = self.command("run");
        command.envs(environment.iter().copied());
        self.start_as(command);
    }

    /// Starts the agent from this file.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_from(&mut self, program: &Path) {
        let command = self.command_of(program, "run");
        self.start_as(command);
    }

    /// Starts the agent through another program, as a wrapper that replaces itself with it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_through(&mut self, wrapper: &[&str]) {
        #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program("flatnetd")).arg("run").arg("--config").arg(&self.config);
        command.stdin(Stdio::null());
        self.node.ns.enter_for_child(&mut command).expect("enter the node");
        self.start_as(command);
    }

    /// The agent's process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().map(KillOnDrop::id).expect("the agent runs")
    }

    fn start_as(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(&self.log).expect("open the log");
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

    /// Runs a verb of the real plugin, configured by what the agent wrote, and answers with its stdout.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn plugin(&self, verb: &str, container: &str, pod: &NetNs) -> Value {
        self.plugin_with(verb, container, pod, &json!({}))
    }

    /// The same with what a runtime asks for.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn plugin_with(&self, verb: &str, container: &str, pod: &NetNs, runtime: &Value) -> Value {
        self.run_plugin(verb, container, &pod.path(), ("runtimeConfig", runtime))
            .unwrap_or_else(|text| panic!("{verb} {container}: {text}"))
    }

    /// The same for a namespace at a path of the caller's choice.
    ///
    /// # Panics
    /// It fails.
    pub fn plugin_at(&self, verb: &str, container: &str, netns: &Path) {
        let answer = self.run_plugin(verb, container, netns, ("prevResult", &Value::Null));
        assert!(answer.is_ok(), "{verb} {container}: {answer:?}");
    }

    /// The same, with the result of an ADD where the verb wants it.
    ///
    /// # Errors
    /// What the plugin answered.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn try_plugin(
        &self,
        verb: &str,
        container: &str,
        pod: &NetNs,
        before: Option<&Value>,
    ) -> Result<Value, String> {
        self.run_plugin(verb, container, &pod.path(), ("prevResult", before.unwrap_or(&Value::Null)))
    }

    /// `more` is a further key of the configuration.
    fn run_plugin(
        &self,
        verb: &str,
        container: &str,
        netns: &Path,
        more: (&str, &Value),
    ) -> Result<Value, String> {
        let mut conf =
            json!({ "cniVersion": "1.1.0", "name": "flatnet", "type": "flatnet", "stateDir": self.state });
        conf[more.0] = more.1.clone();
        #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
        let mut command = Command::new(program("flatnet"));
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", netns).env("CNI_PATH", "/opt/cni/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.node.ns.enter_for_child(&mut command).expect("enter the node");
        let mut child = command.spawn().expect("start the plugin");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(conf.to_string().as_bytes()).expect("hand over the configuration");
        drop(stdin);
        let output = child.wait_with_output().expect("the plugin ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(text);
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
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
