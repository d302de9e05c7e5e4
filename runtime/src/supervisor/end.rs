//! The end of a pod: because it shall go, because its time is up, or because nothing of it runs any more.

use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::{Supervisor, decide::Outcome};
use crate::{cgroup::Cgroup, container::unmount_volumes};

/// How long containers have to end, unless the manifest says otherwise, in seconds.
pub(super) const GRACE: i64 = 30;
pub(super) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";
/// The longest wait before the network is asked again to let a pod go.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Why a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Deleted,
    Deadline,
    Over(Outcome),
}

/// A pod is ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) why: Why,
    /// When its containers are killed.
    pub(super) deadline: Timestamp,
    grace: SignedDuration,
    /// How long to wait after the network refused to let go.
    retry: Duration,
    retry_at: Option<Timestamp>,
}

impl End {
    /// It begins now.
    pub(super) fn after(why: Why, grace: SignedDuration) -> Self {
        let deadline = Timestamp::now().checked_add(grace).unwrap_or(Timestamp::MAX);
        Self { why, deadline, grace, retry: Duration::from_secs(1), retry_at: None }
    }

    /// It shall go as well, and perhaps sooner.
    pub(super) fn delete(self, grace: SignedDuration) -> Self {
        if self.why == Why::Deleted && self.grace <= grace {
            return self;
        }
        let fresh = Self::after(Why::Deleted, grace);
        Self { deadline: self.deadline.min(fresh.deadline), ..fresh }
    }
}

impl Supervisor {
    /// How the pod is over, when it is.
    pub(super) fn outcome(&self) -> Outcome {
        match self.end.as_ref().map(|end| end.why) {
            Some(Why::Over(outcome)) => outcome,
            _ => Outcome::Failed,
        }
    }

    /// Takes down what is left when no container runs; answers whether all is done.
    pub(super) fn finish(&mut self) -> Result<bool> {
        let Some(end) = self.end.clone() else {
            return Ok(false);
        };
        if end.retry_at.is_some_and(|at| Timestamp::now() < at) {
            return Ok(false);
        }
        self.stop_pause()?;
        Cgroup::at(&self.cgroup)?.kill()?;
        if let Err(error) = self.sandbox_of().remove() {
            self.events.warning("FailedKillPod", &format!("error killing pod: {error:#}"));
            let retry_at =
                Timestamp::now() + SignedDuration::try_from(end.retry).unwrap_or(SignedDuration::ZERO);
            let retry = (end.retry * 2).min(LONGEST_RETRY);
            self.end = Some(End { retry, retry_at: Some(retry_at), ..end });
            return Ok(false);
        }
        self.sandbox = None;
        Cgroup::at(&self.cgroup)?.remove()?;
        match end.why {
            Why::Deleted => self.remove()?,
            Why::Deadline | Why::Over(_) => self.put_final_status()?,
        }
        Ok(true)
    }

    /// Gives the name back and removes the pod's files.
    fn remove(&self) -> Result<()> {
        unmount_volumes(&self.dir.file("volumes"));
        let meta = &self.pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref());
        self.root.release(namespace, name.unwrap_or_default(), self.dir.uid())?;
        self.root.remove_pod(&self.dir)
    }
}
