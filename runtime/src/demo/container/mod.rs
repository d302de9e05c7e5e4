//! A container of a pod: a process that shares the pod's network, IPC and UTS namespaces and has a PID
//! and a mount namespace of its own.
//!
//! [`Container`] is the runtime's end: it starts the process and talks to it over its stdin and stdout,
//! one JSON document a line. [`init()`] is the other end. Both are the same executable file, so the
//! messages need no version.

mod init;
mod message;
mod program;

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout},
};

use anyhow::{Context, Result, anyhow};
use netns_fixtures::KillOnDrop;

pub(crate) use init::{InitArgs, init};
pub(crate) use message::{Answer, Identity, Refusal, Request};

/// A running container. Killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its name, unique in the pod.
    pub(crate) name: String,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _process: KillOnDrop,
}

impl Container {
    /// Takes over a freshly started `flatpod container-init` with piped stdin and stdout.
    pub(crate) fn adopt(name: &str, mut process: KillOnDrop) -> Result<Self> {
        let stdin = process.child().stdin.take().context("the container's stdin is piped")?;
        let stdout = process.child().stdout.take().context("the container's stdout is piped")?;
        let stdout = BufReader::new(stdout);
        Ok(Self { name: name.to_owned(), stdin, stdout, _process: process })
    }

    /// Asks the container to do something. The inner result is its answer, the outer one whether
    /// there was any.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Result<Answer, Refusal>> {
        let died = || anyhow!("container {} does not answer", self.name);
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stdin.write_all(line.as_bytes()).with_context(died)?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).with_context(died)?;
        serde_json::from_str(&answer).with_context(died)
    }
}
