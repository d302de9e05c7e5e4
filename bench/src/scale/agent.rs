//! The agent under test: a real process, asked over HTTP and watched from outside.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netns_fixtures::{KillOnDrop, NetNs};

use super::process::{Cpu, Memory};
use super::{cluster, pause};

const LISTEN: &str = "127.0.0.1:9473";
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two questions: it costs the agent next to nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// A running agent. All its methods want to be called inside its namespace.
pub(crate) struct Agent {
    process: KillOnDrop,
    /// The moment before it was started.
    pub(crate) started: Instant,
    log: PathBuf,
}

/// How many turns the agent took, and how long they took together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Turns {
    pub(crate) count: f64,
    /// Seconds.
    pub(crate) sum: f64,
}

impl Agent {
    /// Starts `program` with its files below `dir`; `store` is a line of its configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(program: &Path, ns: &NetNs, dir: &Path, store: &str) -> Result<Self> {
        let config = dir.join("agent.yaml");
        let text = format!(
            "node: {}\nstateDir: {}\nlisten: {LISTEN}\nbackend: {{ type: vxlan }}\n{store}\n",
            cluster::ME,
            dir.join("state").display()
        );
        std::fs::write(&config, text).context("write the agent's configuration")?;
        let log = dir.join("agent.log");
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        ns.enter_for_child(&mut command)?;
        let started = Instant::now();
        let process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { process: KillOnDrop::new(process), started, log })
    }

    /// Waits until it says it is ready and `look` agrees; answers with when it said so, and what CPU time it
    /// had used by then.
    ///
    /// # Errors
    /// It ended, or is not ready after minutes: then the error has the end of its log.
    pub(crate) fn ready(&mut self, look: impl Fn() -> Result<bool>) -> Result<(Duration, Cpu)> {
        while self.started.elapsed() < PATIENCE {
            if let Some(status) = self.process.ended() {
                bail!("the agent ended with {status}: {}", self.log());
            }
            if get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                let (after, cpu) = (self.started.elapsed(), self.cpu()?);
                if look()? {
                    return Ok((after, cpu));
                }
            }
            pause(PAUSE);
        }
        bail!("the agent is not ready: {}", self.log())
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.process.id())
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.process.id())
    }

    /// Turns so far.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) fn turns(&self) -> Result<Turns> {
        let text = get("/metrics").with_context(|| self.log())?;
        Turns::read(&text).with_context(|| format!("no reconcile durations in {text}"))
    }

    /// Waits for turns after `before`, and until there are no more for `quiet`.
    ///
    /// # Errors
    /// It does not answer, or takes no turn.
    pub(crate) fn turns_after(&self, before: Turns, quiet: Duration) -> Result<Turns> {
        let start = Instant::now();
        let (mut last, mut changed) = (before, Instant::now());
        while start.elapsed() < PATIENCE {
            let now = self.turns()?;
            if now != last {
                (last, changed) = (now, Instant::now());
            }
            if last != before && changed.elapsed() >= quiet {
                return Ok(last);
            }
            pause(PAUSE);
        }
        bail!("the agent takes no turn, or no end of turns: {}", self.log())
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Turns {
    /// Before the first.
    pub(crate) const NONE: Self = Self { count: 0.0, sum: 0.0 };

    fn read(metrics: &str) -> Option<Self> {
        let value = |what: &str| {
            let name = format!("flatnet_reconcile_duration_seconds_{what} ");
            metrics.lines().find_map(|line| line.strip_prefix(&name))?.trim().parse().ok()
        };
        Some(Self { count: value("count")?, sum: value("sum")? })
    }
}

fn get(path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(LISTEN)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_read_from_the_histogram() {
        let text =
            "flatnet_reconcile_duration_seconds_sum 0.25\r\nflatnet_reconcile_duration_seconds_count 3\r\n";
        assert_eq!(Turns::read(text), Some(Turns { count: 3.0, sum: 0.25 }));
        assert_eq!(Turns::read("flatnet_ready 1"), None);
    }
}
