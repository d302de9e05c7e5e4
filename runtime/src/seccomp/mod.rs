//! Filters of system calls (seccomp(2)), in programs for the kernel that are made here, without a library in C.
//!
//! The launcher knows nothing of them: who starts a container's process gives it an [`executor`] that puts the process
//! under its filter. Without no_new_privs only CAP_SYS_ADMIN may do that, and programs with the set-user-ID bit are to go
//! on working; so the configuration leaves the process that one capability, and the executor takes it away again.

mod filter;
mod launch;
mod list;

use clap::Args;
use serde::{Deserialize, Serialize};

pub(crate) use launch::{Filtering, executor};
pub(crate) use list::ADMIN;

/// What a container's processes may ask of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Profile {
    /// Anything: the kernel decides by their rights.
    #[default]
    Unconfined,
    /// What is on the list.
    RuntimeDefault,
}

/// What containers of a node are held to that do not say, on the command line.
#[derive(Debug, Args)]
pub(crate) struct SeccompArgs {
    /// Hold containers to the list of allowed system calls (RuntimeDefault) whose pods have no seccompProfile
    #[arg(long)]
    seccomp_default: bool,
}

impl SeccompArgs {
    pub(crate) fn profile(&self) -> Profile {
        if self.seccomp_default { Profile::RuntimeDefault } else { Profile::Unconfined }
    }
}
