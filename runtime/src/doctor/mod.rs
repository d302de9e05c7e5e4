//! `doctor`: whether this machine has what pods need. Each thing is tried as pods would use it, where nobody else sees it,
//! and is gone afterwards.

mod machine;
mod network;
mod storage;

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::{cli::Output, print::Style};

/// What the doctor can be told.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// How the findings are printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How it is about one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Something cannot be used here, and pods that do not ask for it do without.
    Note,
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    state: State,
    /// What is there, or what is wrong.
    evidence: String,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(subject: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self { subject: subject.into(), state: State::Ok, evidence: evidence.into(), remedy: None }
    }

    fn missing(subject: impl Into<String>, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { subject: subject.into(), state: State::Missing, evidence: evidence.into(), remedy }
    }

    fn note(subject: impl Into<String>, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::missing(subject, evidence, remedy) }
    }

    /// What was tried is there when it worked.
    fn of(subject: impl Into<String>, tried: Result<String>, remedy: &str) -> Self {
        match tried {
            Ok(evidence) => Self::ok(subject, evidence),
            Err(error) => Self::missing(subject, format!("{error:#}"), remedy),
        }
    }
}

/// Looks at everything; fails when something is missing that pods need.
pub(crate) fn run(root: &Path, args: &DoctorArgs) -> Result<ExitCode> {
    let mut findings = machine::findings();
    findings.extend(storage::findings(root));
    findings.extend(network::findings(root));
    show(&findings, args.output)?;
    let is_missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(findings: &[Finding], output: Output) -> Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, findings).context("write to stdout")?;
        return writeln!(out).context("write to stdout");
    }
    let style = Style::of(&io::stdout());
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "MISSING",
        };
        let remedy = finding.remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
        let line = format!("{state:<7}  {:<width$}  {}{remedy}", finding.subject, finding.evidence);
        let line = if finding.state == State::Missing { style.alarm(&line) } else { line };
        writeln!(out, "{line}").context("write to stdout")?;
    }
    Ok(())
}
