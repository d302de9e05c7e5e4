//! Acting is boring: apply a plan, and on failure take back what was done.

use std::fmt;

use crate::kernel::{Kernel, KernelError};
use crate::step::{Outcome, Step};

/// A plan that failed. What was done has been taken back, but for `undo_failures`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecError {
    /// Position of the first failed step, counted from zero.
    pub index: usize,
    /// Steps in the plan.
    pub total: usize,
    /// What the kernel said to it.
    pub cause: KernelError,
    /// What could not be taken back, each with the reason.
    pub undo_failures: Vec<KernelError>,
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        for failure in &self.undo_failures {
            write!(f, "; and left behind: {failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ExecError {}

/// Applies `plan`; on the first failure takes back, newest first, every step that was done.
///
/// # Errors
/// The first failed step, and whatever could not be taken back.
pub fn execute<K: Kernel>(kernel: &mut K, plan: &[Step]) -> Result<(), ExecError> {
    let results = kernel.apply(plan);
    let Some((index, cause)) =
        results.iter().enumerate().find_map(|(i, r)| r.as_ref().err().map(|e| (i, e.clone())))
    else {
        return Ok(());
    };
    let undo: Vec<Step> = plan
        .iter()
        .zip(&results)
        .rev()
        .filter(|(_, result)| matches!(result, Ok(Outcome::Done)))
        .filter_map(|(step, _)| step.undo())
        .collect();
    let undo_failures = clear(kernel, &undo);
    Err(ExecError { index, total: plan.len(), cause, undo_failures })
}

/// Applies every step of `plan` whatever happens to the others, and answers with all failures.
pub fn clear<K: Kernel>(kernel: &mut K, plan: &[Step]) -> Vec<KernelError> {
    if plan.is_empty() {
        return Vec::new();
    }
    kernel.apply(plan).into_iter().filter_map(Result::err).collect()
}
