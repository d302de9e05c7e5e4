//! Errors of the layers below, as CNI errors.

use std::io::ErrorKind;

use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::execute::ExecError;
use flatnet_core::kernel::KernelError;
use flatnet_kernel::NetnsError;
use flatnet_node_state::{PoolError, StateError};

pub(crate) fn kernel(e: &KernelError) -> CniError {
    CniError::new(if e.is_transient() { Code::TryAgain } else { Code::Kernel }, e)
}

pub(crate) fn io(action: &str, e: &std::io::Error) -> CniError {
    kernel(&KernelError::from_io(action, e))
}

pub(crate) fn exec(e: &ExecError) -> CniError {
    let error = kernel(&e.cause);
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
