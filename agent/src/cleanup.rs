//! Takes away everything the agent made, and nothing else.

use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use flatnet_core::overlay::desired::Desired;
use flatnet_core::overlay::diff::diff;
use flatnet_core::overlay::snapshot::Observe as _;
use flatnet_core::step::Step;
use flatnet_kernel::NetlinkKernel;

use crate::config::Local;
use crate::run_lock::{self, RunLock};
use crate::turn::{Changes, apply};
use crate::{in_use, output, status, store};

/// Removes devices, routes and nexthops of ours, and the agent's files.
///
/// # Errors
/// An agent runs, or something could not be removed; the rest was.
pub(crate) fn run(local: &Local) -> anyhow::Result<()> {
    let state_dir = local.state_dir.as_path();
    // Held to the end, so that no agent starts meanwhile.
    let lock = state_dir.is_dir().then(|| RunLock::take(state_dir)).transpose()?;
    let mut kernel = NetlinkKernel::open_node().context("open netlink")?;
    let mut steps = diff(&Desired::nothing(), &kernel.snapshot()?);
    steps.push(Step::DropTable);
    let mut changes = Changes::default();
    let mut failures: Vec<String> =
        apply(&mut kernel, &steps, &mut changes).into_iter().map(|(_, error)| error.to_string()).collect();
    for step in &steps {
        if let Step::DeleteLink(link) = step {
            output::say(&format!("removed device {}", link.name));
        }
    }
    if !changes.is_empty() {
        output::say(&format!("removed from the kernel: {changes}"));
    }
    let files = [
        state_dir.join("node.json"),
        store::lease_path(state_dir),
        status::path(state_dir),
        in_use::path(state_dir),
        in_use::changes_path(state_dir),
        run_lock::path(state_dir),
    ];
    for file in files {
        match remove(&file) {
            Ok(true) => output::say(&format!("removed {}", file.display())),
            Ok(false) => {}
            Err(e) => failures.push(format!("remove {}: {e}", file.display())),
        }
    }
    drop(lock);
    if changes.is_empty() && failures.is_empty() {
        output::say("nothing of ours is in the kernel");
    }
    // Only an empty directory goes: what else is in there belongs to the plugin.
    let _ = std::fs::remove_dir(state_dir);
    if failures.is_empty() { Ok(()) } else { bail!("left behind: {}", failures.join("; ")) }
}

fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
