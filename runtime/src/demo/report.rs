//! What the demonstration found: tables for people, one JSON document for programs.

use std::{collections::BTreeMap, io, time::Duration};

use serde::{Serialize, Serializer};

use crate::print::{Style, table};

/// One claim, and the evidence for it.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    /// What is claimed.
    pub(super) claim: String,
    #[serde(skip)]
    columns: Vec<&'static str>,
    #[serde(serialize_with = "Section::rows")]
    rows: Vec<Row>,
}

/// One piece of evidence: a table's row, and what is wrong with it, if anything.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) cells: Vec<(&'static str, String)>,
    pub(super) failure: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) backend: &'static str,
    pub(super) sections: Vec<Section>,
    pub(super) failures: Vec<String>,
    pub(super) took_ms: u128,
}

impl Section {
    /// A claim with its evidence.
    pub(super) fn new(claim: impl Into<String>, rows: Vec<Row>) -> Self {
        let columns = rows.first().map(|r| r.cells.iter().map(|(name, _)| *name).collect());
        Self { claim: claim.into(), columns: columns.unwrap_or_default(), rows }
    }

    /// A claim that could not even be checked.
    pub(super) fn broken(claim: impl Into<String>, error: &anyhow::Error) -> Self {
        let why = format!("{error:#}");
        let row = Row { cells: vec![("error", why.clone())], failure: Some(why) };
        Self::new(claim, vec![row])
    }

    fn failures(&self) -> impl Iterator<Item = &String> {
        self.rows.iter().filter_map(|row| row.failure.as_ref())
    }

    fn rows<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rows.iter().map(|row| {
            let mut object: BTreeMap<&str, serde_json::Value> =
                row.cells.iter().map(|(name, cell)| (*name, cell.as_str().into())).collect();
            object.insert("ok", row.failure.is_none().into());
            object
        }))
    }
}

impl Report {
    /// Collects sections, and the failures in them.
    pub(super) fn new(backend: &'static str, sections: Vec<Section>, took: Duration) -> Self {
        let failures = sections.iter().flat_map(Section::failures).cloned().collect();
        Self { backend, sections, failures, took_ms: took.as_millis() }
    }

    /// Writes it for a person.
    pub(super) fn write(&self, out: &mut impl io::Write, style: Style) -> io::Result<()> {
        for section in &self.sections {
            let mark = style.verdict(section.failures().next().is_none());
            writeln!(out, "{mark} {}", style.bold(&section.claim))?;
            let rows: Vec<(Vec<&str>, bool)> = section
                .rows
                .iter()
                .map(|row| {
                    let cells = row.cells.iter().map(|(_, cell)| cell.as_str()).collect();
                    (cells, row.failure.is_none())
                })
                .collect();
            table(out, style, &section.columns, &rows)?;
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
