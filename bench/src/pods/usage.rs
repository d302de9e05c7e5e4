//! What running a program costs, as `launch` counts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What one program, or several one after another, cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Milliseconds from start to end.
    pub(crate) wall: f64,
    /// Milliseconds of CPU, of the process and of the children it waited for.
    pub(crate) cpu: f64,
    /// Largest resident set in MiB.
    pub(crate) memory: f64,
}

impl Usage {
    /// One after the other.
    pub(crate) fn then(self, next: Self) -> Self {
        Self { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, memory: self.memory.max(next.memory) }
    }

    fn read(report: &str) -> Option<Self> {
        let mut figures = report.split_whitespace().map(|word| word.parse::<f64>().ok());
        let mut next = || figures.next().flatten();
        Some(Self { wall: next()? / 1e6, cpu: next()? / 1e3, memory: next()? / 1024.0 })
    }
}

/// The small static program that starts all others.
#[derive(Debug, Clone)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) report: PathBuf,
}

impl Launcher {
    /// A command that runs `program`; arguments, environment and standard input are the caller's to add.
    pub(crate) fn command(&self, program: &Path) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        let mut command = Command::new(&self.program);
        command.arg(&self.report).arg(program);
        command
    }

    /// Runs it to its end and answers with what it cost and what it printed.
    ///
    /// # Errors
    /// It could not be run, or failed: then the error has what it printed.
    pub(crate) fn measure(&self, command: &mut Command) -> Result<(Usage, String)> {
        let out = command.stderr(Stdio::inherit()).output()?;
        let printed = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(out.status.success(), "{}: {}", out.status, printed.trim());
        let report = fs::read_to_string(&self.report).context("read what launch wrote")?;
        let usage = Usage::read(&report).with_context(|| format!("launch wrote {report:?}"))?;
        Ok((usage, printed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_nanoseconds_microseconds_and_kibibytes() {
        let usage = Usage::read("2500000 1500 2048\n").unwrap();
        assert_eq!(usage, Usage { wall: 2.5, cpu: 1.5, memory: 2.0 });
        assert_eq!(Usage::read("1 2"), None);
    }
}
