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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::{self, Extras};
    use crate::step::{LinkRef, Ns};
    use std::collections::HashSet;

    /// Remembers what it was told to make, and refuses the n-th request. Taking a link away takes away
    /// what hangs on it, as the kernel does.
    #[derive(Default)]
    struct Refusing {
        made: HashSet<Step>,
        asked: usize,
        refuse: HashSet<usize>,
        log: Vec<String>,
    }

    impl Kernel for Refusing {
        fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
            steps.iter().map(|step| self.one(step)).collect()
        }
    }

    impl Refusing {
        fn one(&mut self, step: &Step) -> Result<Outcome, KernelError> {
            let number = self.asked;
            self.asked += 1;
            self.log.push(step.to_string());
            if self.refuse.contains(&number) {
                return Err(KernelError::from_errno(step, 12, Some("made to fail")));
            }
            let undone: Vec<Step> =
                self.made.iter().filter(|made| made.undo().as_ref() == Some(step)).cloned().collect();
            for made in &undone {
                self.made.remove(made);
            }
            if matches!(step, Step::DeleteLink(_)) {
                self.made.clear();
            } else if step.undo().is_some() {
                self.made.insert(step.clone());
            }
            Ok(Outcome::Done)
        }
    }

    fn plan() -> Vec<Step> {
        let attachment = attach::tests::attachment(&["10.22.0.5", "fd00:22::5"]);
        attach::plan_add(&attachment, &Extras::default())
    }

    #[test]
    fn a_failure_at_any_step_leaves_nothing() {
        for index in 0..plan().len() {
            let mut kernel = Refusing { refuse: HashSet::from([index]), ..Refusing::default() };
            let e = execute(&mut kernel, &plan()).unwrap_err();
            assert_eq!((e.index, e.total), (index, plan().len()));
            assert!(e.to_string().contains("made to fail") && e.undo_failures.is_empty(), "{e}");
            assert_eq!(kernel.made, HashSet::new(), "step {index}");
        }
    }

    /// Rules do not go with the link.
    #[test]
    fn a_further_interface_that_fails_leaves_no_rule() {
        let mut attachment = attach::tests::attachment(&["10.22.0.5"]);
        attachment.metric = Some(2048);
        attachment.sysctls.insert("net/core/none".to_owned(), "1".to_owned());
        let plan = attach::plan_add(&attachment, &Extras::of(&attachment));
        let mut kernel = Refusing { refuse: HashSet::from([plan.len() - 1]), ..Refusing::default() };
        execute(&mut kernel, &plan).unwrap_err();
        assert!(kernel.log.iter().any(|asked| asked.starts_with("delete rule from 10.22.0.5")));
        assert_eq!(kernel.made, HashSet::new());
    }

    #[test]
    fn what_cannot_be_taken_back_is_named_beside_the_first_error() {
        let total = plan().len();
        let mut kernel = Refusing { refuse: HashSet::from([total - 1, total]), ..Refusing::default() };
        let e = execute(&mut kernel, &plan()).unwrap_err();
        assert_eq!(e.index, total - 1);
        assert_eq!(e.undo_failures.len(), 1);
        assert!(e.to_string().contains("left behind: delete route"), "{e}");
    }

    #[test]
    fn undo_goes_newest_first_and_the_link_last() {
        let last_route = plan().len() - 2;
        let mut kernel = Refusing { refuse: HashSet::from([last_route]), ..Refusing::default() };
        execute(&mut kernel, &plan()).unwrap_err();
        let undone = &kernel.log[plan().len()..];
        assert!(undone[0].starts_with("delete route 0.0.0.0/0"), "{undone:?}");
        assert!(undone.last().unwrap().starts_with("delete link"), "{undone:?}");
    }

    #[test]
    fn clearing_goes_on_after_a_failure() {
        let link = |name: &str| Step::DeleteLink(LinkRef { ns: Ns::Node, name: name.parse().unwrap() });
        let mut kernel = Refusing { refuse: HashSet::from([0]), ..Refusing::default() };
        assert_eq!(clear(&mut kernel, &[link("a"), link("b")]).len(), 1);
        assert_eq!(kernel.log.len(), 2);
    }
}
