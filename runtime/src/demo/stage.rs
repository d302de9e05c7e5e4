//! Where the demonstration plays: a root directory of its own, and flatpod's own commands, told as they are given.

use std::{
    io::{self, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use flatpod::manifest::NAMESPACE;
use serde_json::Value;

use crate::{
    commands::check::{Subject, subject},
    ourselves,
    print::Style,
    state::Root,
};

/// The stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) root: Root,
    pub(super) since: Instant,
    style: Style,
}

/// What became of a command.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) succeeded: bool,
    pub(super) told: String,
    pub(super) complained: String,
}

impl Stage {
    /// With everything below `root`.
    pub(super) fn new(root: &Path) -> Result<Self> {
        Ok(Self { root: Root::open(root)?, since: Instant::now(), style: Style::of(&io::stderr()) })
    }

    /// One line on stderr for each thing begun, so that nobody wonders what is going on.
    pub(super) fn say(&self, doing: &str) -> Result<()> {
        let at = self.style.faint(&format!("{:5.1}s", self.since.elapsed().as_secs_f64()));
        writeln!(io::stderr(), "{at}  {doing}").context("write progress")
    }

    /// Gives a command, which must succeed.
    pub(super) fn flatpod(&self, line: &[&str]) -> Result<String> {
        self.say(&format!("flatpod {}", line.join(" ")))?;
        self.quietly(line)
    }

    /// The same, and says nothing of it.
    pub(super) fn quietly(&self, line: &[&str]) -> Result<String> {
        let attempt = self.attempt(line)?;
        if !attempt.succeeded {
            bail!("flatpod {}: {}", line.join(" "), attempt.complained.trim());
        }
        Ok(attempt.told)
    }

    /// Gives a command that may fail.
    pub(super) fn attempt(&self, line: &[&str]) -> Result<Attempt> {
        let output = self.command(line).stdin(Stdio::null()).output();
        attempt(output.with_context(|| format!("flatpod {}", line.join(" ")))?)
    }

    /// Applies a manifest, which in a clone is this file.
    pub(super) fn apply(&self, file: &str, manifest: &str) -> Result<()> {
        self.say(&format!("flatpod apply -f {file}"))?;
        let mut command = self.command(&["apply", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("flatpod apply")?;
        let mut stdin = child.stdin.take().context("flatpod apply reads")?;
        stdin.write_all(manifest.as_bytes()).context("flatpod apply reads")?;
        drop(stdin);
        let done = attempt(child.wait_with_output().context("flatpod apply")?)?;
        if !done.succeeded {
            bail!("flatpod apply -f {file}: {}", done.complained.trim());
        }
        Ok(())
    }

    /// The pods with these labels, as `get -o json` shows them.
    pub(super) fn pods(&self, labels: &str) -> Result<Vec<Value>> {
        let list = self.quietly(&["get", "pods", "-l", labels, "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&list).context("read a list of pods")?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            other => bail!("pods are {other}"),
        }
    }

    /// The same, where they can be looked at.
    pub(super) fn subjects(&self, labels: &str) -> Result<Vec<Subject>> {
        let pods = self.pods(labels)?;
        let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        names.map(|name| self.subject(name)).collect()
    }

    /// One pod, where it can be looked at.
    pub(super) fn subject(&self, name: &str) -> Result<Subject> {
        subject(&self.root, NAMESPACE, name)
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = ourselves::command();
        command.args(line).env("FLATPOD_ROOT", self.root.path());
        command
    }
}

impl Attempt {
    /// What was to be read, on one line.
    pub(super) fn shown(&self) -> String {
        let lines = self.told.lines().chain(self.complained.lines()).collect::<Vec<_>>();
        if lines.is_empty() { "nothing".to_owned() } else { lines.join(", ") }
    }
}

fn attempt(output: Output) -> Result<Attempt> {
    Ok(Attempt {
        succeeded: output.status.success(),
        told: String::from_utf8(output.stdout).context("read what flatpod says")?,
        complained: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
