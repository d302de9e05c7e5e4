//! Where the programs are that make a simulated node's network.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// The plugin and the agent.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) flatnet: PathBuf,
    pub(crate) flatnetd: PathBuf,
}

impl Programs {
    /// The programs in `dir`, or beside our own executable file.
    pub(crate) fn find(dir: Option<&Path>) -> Result<Self> {
        let own = std::env::current_exe().context("find flatpod's own executable file")?;
        let dir = dir.or(own.parent()).unwrap_or(Path::new("/"));
        let dir = dir.canonicalize().with_context(|| format!("look in {}", dir.display()))?;
        let find = |name: &str| {
            let path = dir.join(name);
            let hint = || format!("no {name} in {}: build it, or say --bin-dir", dir.display());
            if path.is_file() { Ok(path) } else { Err(anyhow!(hint())) }
        };
        Ok(Self { flatnet: find("flatnet")?, flatnetd: find("flatnetd")? })
    }
}
