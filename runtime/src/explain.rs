//! The verb `explain`: the table of fields.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use flatpod::manifest::explain::{self, Depth};

use crate::print::{Style, table};

/// What `flatpod explain` can be told.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A kind, or the path of a field in it: pod.spec.containers.lifecycle
    #[arg(default_value = "pod.spec")]
    path: String,
    /// The fields of everything below, too
    #[arg(long)]
    recursive: bool,
    /// The whole table as the page docs/manifests.md
    #[arg(long, conflicts_with_all = ["path", "recursive"])]
    markdown: bool,
}

/// Prints the table.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if args.markdown {
        write!(out, "{}", explain::markdown())?;
        return Ok(ExitCode::SUCCESS);
    }
    let depth = if args.recursive { Depth::Everything } else { Depth::Fields };
    let rows = explain::rows(&args.path, depth)?;
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            (vec![row.path.as_str(), row.shape.as_str(), row.treatment.as_str(), row.note.as_str()], true)
        })
        .collect();
    table(&mut out, Style::Plain, &["field", "type", "treatment", "note"], &cells)?;
    Ok(ExitCode::SUCCESS)
}
