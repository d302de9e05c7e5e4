//! Container logs as the Container Runtime Interface has them, written by shims and read by everybody.
//!
//! The log of a run is `N.log` and what was rotated away before it: `N.log.1`, `N.log.2` and so on, the highest number
//! the newest. A file never changes its number, so that a reader knows what comes after the one that it has open.

mod reader;
mod record;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::container::quantity;

pub(crate) use reader::{Reader, last};
pub(crate) use record::Record;
pub(crate) use writer::CriLog;

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limits {
    /// The size of a file in bytes, at which another one is begun.
    pub(crate) max_size: u64,
    /// So many files are kept, with the one that is written to.
    pub(crate) max_files: u64,
}

/// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
impl Default for Limits {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5 }
    }
}

/// How much of its containers' logs a node keeps, on the command line.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    /// The size of a container's log file at which it is rotated
    #[arg(long, value_name = "SIZE", default_value = "10Mi", value_parser = size)]
    container_log_max_size: u64,
    /// How many files of a container's log are kept
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..))]
    container_log_max_files: u64,
}

impl LimitsArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits { max_size: self.container_log_max_size, max_files: self.container_log_max_files }
    }
}

fn size(text: &str) -> Result<u64, String> {
    quantity(text).filter(|size| *size > 0).ok_or_else(|| "expected a size as 10Mi or 100k".to_owned())
}

/// Removes the log at `path`, with what was rotated away; what is not there needs no removing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let all = rotated(path)?.into_iter().map(|number| rotated_file(path, number));
    for file in all.chain([path.to_owned()]) {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The numbers of the files that were rotated away and are still there, oldest first.
fn rotated(path: &Path) -> Result<Vec<u64>> {
    let told = || format!("list the files of {}", path.display());
    let dir = path.parent().context("a file is in a directory").with_context(told)?;
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e).with_context(told),
    };
    let number = |name: &str| name.strip_prefix(&prefix)?.parse().ok();
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut all: Vec<u64> = names.filter_map(|name| number(&name.to_string_lossy())).collect();
    all.sort_unstable();
    Ok(all)
}

fn rotated_file(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
