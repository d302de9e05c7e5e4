//! Errors of the layers below, as CNI errors.

use std::io::ErrorKind;

use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::execute::ExecError;
use flatnet_core::kernel::KernelError;
use flatnet_core::step::Step;
use flatnet_kernel::NetnsError;
use flatnet_node_state::{PoolError, StateError};

const EEXIST: i32 = 17;

pub(crate) fn kernel(e: &KernelError) -> CniError {
    CniError::new(if e.is_transient() { Code::TryAgain } else { Code::Kernel }, e)
}

pub(crate) fn io(action: &str, e: &std::io::Error) -> CniError {
    kernel(&KernelError::from_io(action, e))
}

/// `plan` is what was executed: the port of another pod is a conflict, not a failure of the kernel.
pub(crate) fn exec(plan: &[Step], e: &ExecError) -> CniError {
    let error = match plan.get(e.index) {
        Some(Step::PutHostPorts(_)) if e.cause.errno == Some(EEXIST) => {
            CniError::new(Code::Conflict, &e.cause)
        }
        _ => kernel(&e.cause),
    };
    if e.undo_failures.is_empty() {
        return error;
    }
    let left: Vec<String> = e.undo_failures.iter().map(ToString::to_string).collect();
    error.with(format!("left behind: {}", left.join("; ")))
}

pub(crate) fn state(e: &StateError) -> CniError {
    match e {
        StateError::Locked { .. } => CniError::new(Code::TryAgain, e),
        StateError::Io { path, source, .. }
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            let place = path.parent().unwrap_or(path).display();
            CniError::new(Code::TryAgain, e).with(format!("make room on the file system of {place}"))
        }
        StateError::Io { .. } | StateError::Damaged { .. } => CniError::new(Code::Io, e),
    }
}

pub(crate) fn pool(e: &PoolError) -> CniError {
    match e {
        PoolError::Exhausted { .. } => {
            CniError::new(Code::TryAgain, e).with("remove pods, or give the node a larger subnet")
        }
        PoolError::Taken(_) => CniError::new(Code::Conflict, e),
        PoolError::Outside { .. } => CniError::new(Code::InvalidConfig, e),
        PoolError::State(e) => state(e),
    }
}

pub(crate) fn netns(e: &NetnsError) -> CniError {
    CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS: {e}"))
}
