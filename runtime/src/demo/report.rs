//! What the demonstration found: tables for people, one JSON document for programs.

use std::{io, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::print::{Style, table};

/// One claim, and the evidence for it.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    /// What is claimed.
    claim: String,
    /// What each row is about.
    #[serde(skip)]
    about: &'static str,
    rows: Vec<Row>,
}

/// One piece of evidence.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    subject: String,
    evidence: String,
    ok: bool,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    backend: &'static str,
    sections: Vec<Section>,
    pub(super) failures: Vec<String>,
    took_ms: u128,
}

impl Row {
    /// What was seen of `subject`, and whether it is as it should be.
    pub(super) fn new(subject: impl Into<String>, evidence: impl Into<String>, ok: bool) -> Self {
        Self { subject: subject.into(), evidence: evidence.into(), ok }
    }

    /// What was seen, which is as it should be, or what is wrong.
    pub(super) fn of(subject: impl Into<String>, seen: Result<String>) -> Self {
        match seen {
            Ok(evidence) => Self::new(subject, evidence, true),
            Err(error) => Self::new(subject, format!("{error:#}"), false),
        }
    }
}

impl Section {
    /// A claim with its evidence.
    pub(super) fn new(claim: impl Into<String>, about: &'static str, rows: Vec<Row>) -> Self {
        Self { claim: claim.into(), about, rows }
    }

    /// A claim that could not even be checked.
    pub(super) fn broken(claim: impl Into<String>, error: &anyhow::Error) -> Self {
        Self::new(claim, "", vec![Row::new("", format!("{error:#}"), false)])
    }

    fn failures(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter(|row| !row.ok).map(|row| format!("{}: {}", row.subject, row.evidence))
    }
}

impl Report {
    /// Collects sections, and the failures in them.
    pub(super) fn new(backend: &'static str, sections: Vec<Section>, took: Duration) -> Self {
        let failures = sections.iter().flat_map(Section::failures).collect();
        Self { backend, sections, failures, took_ms: took.as_millis() }
    }

    /// Writes it for a person.
    pub(super) fn write(&self, out: &mut impl io::Write, style: Style) -> io::Result<()> {
        for section in &self.sections {
            let mark = style.verdict(section.failures().next().is_none());
            writeln!(out, "{mark} {}", style.bold(&section.claim))?;
            let rows: Vec<(Vec<&str>, bool)> =
                section.rows.iter().map(|row| (vec![row.subject.as_str(), &row.evidence], row.ok)).collect();
            table(out, style, &[section.about, "seen"], &rows)?;
            writeln!(out)?;
        }
        let seconds = Duration::from_millis(u64::try_from(self.took_ms).unwrap_or(u64::MAX));
        match self.failures.len() {
            0 => writeln!(out, "{} all of it is so, in {:.1} s", style.verdict(true), seconds.as_secs_f64()),
            n => {
                writeln!(out, "{} {n} of it not so:", style.verdict(false))?;
                self.failures.iter().try_for_each(|failure| writeln!(out, "  {failure}"))
            }
        }
    }

    /// Writes it for a program.
    pub(super) fn write_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
