//! Becoming a container: join the pod's namespaces, make the container's own, become PID 1.

use std::{fs::File, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use nix::{
    sched::CloneFlags,
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};

use super::program;
use crate::enclosure;

/// Which namespaces to join, by path.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The pod's network namespace
    #[arg(long)]
    net: PathBuf,
    /// The pod's IPC namespace
    #[arg(long)]
    ipc: PathBuf,
    /// The pod's UTS namespace
    #[arg(long)]
    uts: PathBuf,
}

/// Runs as a container until stdin is closed. The process itself stays outside as the shim: a process
/// cannot change its own PID namespace, only its children's.
#[expect(unsafe_code, reason = "fork")]
#[expect(clippy::disallowed_methods, reason = "a container is made by entering its namespaces")]
pub(crate) fn init(args: &InitArgs) -> Result<ExitCode> {
    die_with_parent()?;
    let shared = [
        (&args.net, CloneFlags::CLONE_NEWNET),
        (&args.ipc, CloneFlags::CLONE_NEWIPC),
        (&args.uts, CloneFlags::CLONE_NEWUTS),
    ];
    for (path, kind) in shared {
        let at = || format!("join namespace {}", path.display());
        nix::sched::setns(File::open(path).with_context(at)?, kind).with_context(at)?;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)
        .context("make the container's PID and mount namespaces")?;
    // SAFETY: the process has one thread, so the child may do whatever it likes.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(match waitpid(child, None).context("wait")? {
            WaitStatus::Exited(_, 0) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }),
        ForkResult::Child => {
            die_with_parent()?;
            enclosure::private_mounts()?;
            program::run(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn die_with_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie to the parent process")
}
