//! The verb `apply`: reads manifests, says what is wrong with them and what of them has no effect.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use flatpod::manifest::{self, Checked, source};

/// What `flatpod apply` can be told.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file, a directory (its .yaml, .yml and .json files, sorted) or - for standard input; may be repeated
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Only check the manifests
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_value_t = DryRun::None, default_missing_value = "client")]
    dry_run: DryRun,
    /// Print the objects, with defaults filled in, instead of a line for each
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The namespace of objects that name none; one that names another is refused
    #[arg(long, short)]
    namespace: Option<String>,
}

/// As kubectl spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DryRun {
    None,
    Client,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
    Name,
}

/// Checks the manifests; every problem goes to stderr, with file, line and path.
pub(crate) fn run(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    if args.dry_run == DryRun::None {
        bail!("this version checks manifests, but does not run them yet; add --dry-run");
    }
    let sources = source::read(&args.files, &mut io::stdin().lock())?;
    let found = manifest::check(&sources, args.namespace.as_deref());
    let mut err = io::stderr().lock();
    for notice in &found.notices {
        writeln!(err, "Warning: {notice}")?;
    }
    show(&found.objects, args.output, &mut io::stdout().lock()).context("write to stdout")?;
    for problem in &found.problems {
        writeln!(err, "error: {problem}")?;
    }
    Ok(if found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(objects: &[Checked], format: Option<Format>, out: &mut impl Write) -> anyhow::Result<()> {
    match format {
        None => objects.iter().try_for_each(|object| writeln!(out, "{object} valid (dry run)"))?,
        Some(Format::Name) => objects.iter().try_for_each(|object| writeln!(out, "{object}"))?,
        Some(Format::Yaml) => {
            for (index, object) in objects.iter().enumerate() {
                if index > 0 {
                    writeln!(out, "---")?;
                }
                write!(out, "{}", serde_saphyr::to_string(&object.to_json()?)?)?;
            }
        }
        Some(Format::Json) => {
            let objects = objects.iter().map(Checked::to_json).collect::<Result<Vec<_>, _>>()?;
            // One object stands alone, several are a list: as kubectl prints them.
            let document = match <[_; 1]>::try_from(objects) {
                Ok([object]) => object,
                Err(objects) => serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }),
            };
            writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        }
    }
    Ok(())
}
