//! Puts a container's process under its filter, as the last thing before its program.

use anyhow::{Context, Result};
use libcontainer::{
    capabilities::drop_privileges,
    oci_spec::runtime::Spec,
    syscall::syscall::create_syscall,
    workload::{Executor, ExecutorError, ExecutorValidationError, default::DefaultExecutor},
};
use nix::errno::Errno;
use seccompiler::{BpfProgram, TargetArch};
use serde_json::Value;

use super::{Profile, filter::programs};

/// Runs the program of a container under filters.
#[derive(Debug, Clone)]
pub(crate) struct Filtering {
    filters: Vec<BpfProgram>,
}

/// What runs the program of an OCI process under that profile.
pub(crate) fn executor(profile: Profile, process: &Value) -> Result<Filtering> {
    let filters = match profile {
        Profile::Unconfined => vec![],
        Profile::RuntimeDefault => {
            let held = process["capabilities"]["bounding"].as_array().into_iter().flatten();
            let held: Vec<&str> = held.filter_map(Value::as_str).collect();
            let arch = TargetArch::try_from(std::env::consts::ARCH);
            let arch = arch.context("seccompProfile RuntimeDefault: use Unconfined on this machine")?;
            programs(&held, arch)?.into()
        }
    };
    Ok(Filtering { filters })
}

impl Executor for Filtering {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        DefaultExecutor {}.exec(spec)
    }

    /// The launcher's last step whose errors reach who started it. What is left to do then, to wait for the word to
    /// start and to start, is on the list.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        DefaultExecutor {}.validate(spec)?;
        self.confine(spec).map_err(|e| ExecutorValidationError::ArgValidationError(format!("{e:#}")))
    }
}

impl Filtering {
    fn confine(&self, spec: &Spec) -> Result<()> {
        if self.filters.is_empty() {
            return Ok(());
        }
        for filter in &self.filters {
            install(filter).context("install a filter of system calls")?;
        }
        // The one that was lent for this goes before the wait for the word to start: others in the same PID namespace
        // may have the right to look into this process.
        let process = spec.process().as_ref().context("a container has a process")?;
        let mut held = process.capabilities().clone().context("a container's capabilities are listed")?;
        let at_most = held.bounding().clone();
        held.set_effective(at_most.clone()).set_permitted(at_most);
        drop_privileges(&held, create_syscall().as_ref()).context("give up what installing a filter needs")
    }
}

#[expect(unsafe_code, reason = "seccomp has no safe wrapper that leaves no_new_privs alone")]
fn install(filter: &BpfProgram) -> Result<()> {
    let len = u16::try_from(filter.len()).context("a filter has at most 4096 instructions")?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel reads `len` instructions, which are laid out as it has them, and keeps no pointer.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(done).map(drop).context("seccomp")
}
