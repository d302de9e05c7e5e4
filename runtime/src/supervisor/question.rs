//! Questions to containers, each asked by a process of its own: probes and hooks. Whoever does not answer in time is
//! taken for a no.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Supervisor;
use crate::{entrance, ourselves};

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handler<'a> {
    Exec(&'a ExecAction),
    Http(&'a HTTPGetAction),
    Tcp(&'a TCPSocketAction),
    Sleep(i64),
}

impl<'a> Handler<'a> {
    pub(super) fn of_probe(probe: &'a Probe) -> Result<Self> {
        let exec = probe.exec.as_ref().map(Self::Exec);
        let found =
            exec.or(probe.http_get.as_ref().map(Self::Http)).or(probe.tcp_socket.as_ref().map(Self::Tcp));
        found.context("this kind of probe is not supported: exec, httpGet and tcpSocket are")
    }

    pub(super) fn of_hook(hook: &'a LifecycleHandler) -> Result<Self> {
        let exec = hook.exec.as_ref().map(Self::Exec);
        let found =
            exec.or(hook.http_get.as_ref().map(Self::Http)).or(hook.tcp_socket.as_ref().map(Self::Tcp));
        let found = found.or(hook.sleep.as_ref().map(|sleep| Self::Sleep(sleep.seconds)));
        found.context("this kind of hook is not supported: exec, httpGet, tcpSocket and sleep are")
    }
}

/// A question that was asked.
#[derive(Debug)]
pub(super) struct Question {
    child: Child,
    deadline: Timestamp,
}

impl Question {
    /// The answer, when there is one: nothing for yes, or what is wrong.
    pub(super) fn answer(&mut self) -> Result<Option<Result<(), String>>> {
        if let Some(status) = self.child.try_wait().context("wait for an answer")? {
            if status.success() {
                return Ok(Some(Ok(())));
            }
            // When that cannot be read, there is still the exit code to tell.
            let told = ourselves::complaint(&mut self.child, status);
            return Ok(Some(Err(told.unwrap_or_else(|_| status.to_string()))));
        }
        if Timestamp::now() < self.deadline {
            return Ok(None);
        }
        self.give_up()?;
        Ok(Some(Err("no answer in time".to_owned())))
    }

    /// Ends what it started in the container, all that came of that, and itself.
    fn give_up(&mut self) -> Result<()> {
        for one in i32::try_from(self.child.id()).map(descendants).unwrap_or_default() {
            // Fails only when it has ended meanwhile.
            let _ = kill(Pid::from_raw(one), Signal::SIGKILL);
        }
        self.child.kill().and_then(|()| self.child.wait()).map(drop).context("end a question")
    }
}

/// The children of a process and theirs, all of them stopped: who is stopped starts nobody else.
fn descendants(of: i32) -> Vec<i32> {
    let mut found = children(of);
    let mut next = 0;
    while let Some(one) = found.get(next).copied() {
        // Fails only when it has ended meanwhile.
        let _ = kill(Pid::from_raw(one), Signal::SIGSTOP);
        found.extend(children(one));
        next += 1;
    }
    found
}

/// Those of all its threads.
fn children(of: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids = lists.flat_map(|list| list.split_whitespace().map(str::parse).collect::<Vec<_>>());
    pids.filter_map(Result::ok).collect()
}

impl Drop for Question {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // There is nobody to tell any more.
            let _ = self.give_up();
        }
    }
}

impl Supervisor {
    /// Asks a container.
    pub(super) fn question(
        &self,
        container: &Container,
        handler: Handler<'_>,
        within: SignedDuration,
    ) -> Result<Question> {
        let mut command = match handler {
            Handler::Exec(exec) => self.exec_in(container, exec),
            Handler::Http(http) => {
                let to = self.target(container, http.host.as_deref(), &http.port)?;
                let mut command = self.ask_from_node(to)?;
                command.args(["--path", http.path.as_deref().unwrap_or("/")]);
                if http.scheme.as_deref() == Some("HTTPS") {
                    command.arg("--tls");
                }
                for header in http.http_headers.iter().flatten() {
                    command.arg("--header").arg(format!("{}: {}", header.name, header.value));
                }
                command
            }
            Handler::Tcp(tcp) => {
                self.ask_from_node(self.target(container, tcp.host.as_deref(), &tcp.port)?)?
            }
            Handler::Sleep(seconds) => {
                let mut command = ourselves::command();
                command.args(["tools", "sleep", &seconds.to_string()]);
                command
            }
        };
        // What a container says could be any amount; we ourselves are brief.
        let ours = matches!(handler, Handler::Http(_) | Handler::Tcp(_));
        let stderr = if ours { Stdio::piped() } else { Stdio::null() };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child = command.spawn().context("ask a container")?;
        let deadline = Timestamp::now().checked_add(within).unwrap_or(Timestamp::MAX);
        Ok(Question { child, deadline })
    }

    fn exec_in(&self, container: &Container, exec: &ExecAction) -> Command {
        let meta = &self.pod.metadata;
        let mut command = ourselves::command();
        command.arg("--root").arg(self.root.path()).arg("exec").arg(meta.name.as_deref().unwrap_or_default());
        command.args([
            "--namespace",
            meta.namespace.as_deref().unwrap_or_default(),
            "-c",
            &container.name,
            "--",
        ]);
        command.args(exec.command.iter().flatten());
        command
    }

    /// A program that connects from the node, where the kubelet is.
    fn ask_from_node(&self, to: SocketAddr) -> Result<Command> {
        let mut command = entrance::command(&self.node, Path::new(ourselves::PATH))?;
        command.arg("probe").arg(to.to_string());
        Ok(command)
    }

    fn target(&self, container: &Container, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr> {
        let own = self.sandbox.as_ref().and_then(|sandbox| sandbox.addresses.first().copied());
        let ip: IpAddr = match host.filter(|host| !host.is_empty()) {
            Some(host) => host.parse().with_context(|| format!("host {host:?} is no address"))?,
            None => own.context("the pod has no address")?,
        };
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = container.ports.iter().flatten();
                let named = ports.into_iter().find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        Ok(SocketAddr::new(ip, number.with_context(|| format!("{port:?} is no port of {}", container.name))?))
    }
}
