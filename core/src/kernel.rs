//! The kernel as the rest of the house sees it: steps go in, outcomes come out.

use std::io;

use crate::step::{Outcome, Step};

/// A kernel that steps can be applied to: the real one, or the model in tests.
pub trait Kernel {
    /// Applies `steps` in order and answers with one result per step. Neighbouring steps of one namespace
    /// travel as one batch; a batch is not a transaction: steps after a failed one may still have been
    /// applied, and their results say so.
    fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>>;
}

/// A request that the kernel refused, or that never reached it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {reason}")]
pub struct KernelError {
    /// What was tried, on which object: "add route 10.1.2.0/24 dev eth0 on pod".
    pub action: String,
    /// The error number, where the kernel gave one.
    pub errno: Option<i32>,
    /// The errno's text, with the kernel's own words (extended acknowledgement) when it gave any.
    pub reason: String,
}

impl KernelError {
    /// An error the kernel answered with.
    #[must_use]
    pub fn from_errno(action: impl ToString, errno: i32, detail: Option<&str>) -> Self {
        let text = io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        let reason = match detail {
            Some(detail) if !detail.is_empty() => format!("{text} ({detail})"),
            _ => text,
        };
        Self { action: action.to_string(), errno: Some(errno), reason }
    }

    /// A failure of the conversation itself.
    #[must_use]
    pub fn from_io(action: impl ToString, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::from_errno(action, errno, None),
            None => Self::new(action, error),
        }
    }

    /// A failure without an error number.
    #[must_use]
    pub fn new(action: impl ToString, reason: impl ToString) -> Self {
        Self { action: action.to_string(), errno: None, reason: reason.to_string() }
    }

    /// Whether trying again later may help: out of memory or buffers, interrupted, busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        const EINTR: i32 = 4;
        const EAGAIN: i32 = 11;
        const ENOMEM: i32 = 12;
        const EBUSY: i32 = 16;
        const ENOBUFS: i32 = 105;
        matches!(self.errno, Some(EINTR | EAGAIN | ENOMEM | EBUSY | ENOBUFS))
    }
}
