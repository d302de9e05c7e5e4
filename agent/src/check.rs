//! `flatnetd check-config`: is everything written correctly?

use crate::config::{Config, Overrides};
use crate::output;
use crate::store::file;

/// Checks the configuration and the cluster file it names. Changes nothing.
///
/// # Errors
/// All that is wrong.
pub(crate) fn run(overrides: Overrides) -> Result<(), String> {
    let config = Config::load(overrides).map_err(|e| e.to_string())?;
    let cluster = file::load(&config.cluster_file, &config.settings.node)?;
    output::say(&format!(
        "good: node {}, backend {}, cluster of {} nodes in {}",
        config.settings.node,
        config.settings.backend,
        cluster.nodes.len(),
        config.cluster_file.display()
    ));
    Ok(())
}
