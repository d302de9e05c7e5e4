//! The short way: few nodes that come, change or go are served without a look at the kernel, where the last one
//! left nothing to do and nothing was heard since. The look follows, unhurried, and sees whether it was right.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::settled::{Change, Settled};

use super::{Asked, Reconciler, Why};
use crate::store::StoreState;
use crate::turn::{self, Changes};

impl Reconciler {
    /// Serves what the store says now where the short way leads there. Answers whether it does; if not, a look
    /// has to.
    pub(super) async fn take_short_way(&mut self) -> anyhow::Result<bool> {
        let start = Instant::now();
        let undisturbed = match self.asked {
            None => !self.drain()?,
            Some(asked) => asked.why == Why::Echo,
        };
        let state = self.store.borrow_and_update().clone();
        if !undisturbed || !self.status.ready || !self.is_as_ever(&state) {
            return Ok(false);
        }
        let Some(cluster) = self.in_use.admit(&state).map(|admitted| admitted.cluster) else {
            return Ok(false);
        };
        let Some((change, settled)) = self.way_to(&cluster) else { return Ok(false) };
        // Written first: what the kernel gets, a next run knows of.
        match self.memory.add(&self.config.state_dir, &change, &cluster) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                tracing::debug!(%error, "the change of the cluster in use is not remembered");
                return Ok(false);
            }
        }
        self.walk(start, change, settled).await?;
        Ok(true)
    }

    /// Nothing but the cluster may be another.
    fn is_as_ever(&self, state: &StoreState) -> bool {
        let same_settings = state.settings.as_ref().is_none_or(|settings| *settings == self.config.settings);
        same_settings && state.error.is_none() && state.alarm.is_none()
    }

    /// What was settled is forgotten where no short way leads on from it.
    fn way_to(&mut self, cluster: &Arc<Cluster>) -> Option<(Change, Settled)> {
        let settled = self.made_for.leave_for(cluster)?;
        settled.towards(&self.config.settings, cluster)
    }

    async fn walk(&mut self, start: Instant, change: Change, settled: Settled) -> anyhow::Result<()> {
        let mut kernel = self.kernel.take().context("the last turn did not end")?;
        let work = move || {
            let mut changes = Changes::default();
            let failed = turn::apply(&mut kernel, &change.steps, &mut changes);
            let failed = failed.into_iter().next().map(|(_, error)| error);
            (kernel, changes, failed)
        };
        let (kernel, changes, failed) = tokio::task::spawn_blocking(work).await.context("change")?;
        self.kernel = Some(kernel);
        let took = start.elapsed();
        let result = if failed.is_none() { "short" } else { "short failed" };
        self.voice.metrics.note_changes(result, &changes);
        if !changes.is_empty() {
            self.status.note_change(&changes, took.as_millis());
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(took_ms, changes = %changes, "reconciled, without a look yet");
        }
        let now = Instant::now();
        if let Some(error) = failed {
            // What the kernel is like now, only a look tells.
            tracing::debug!(%error, "looking at once");
            self.asked = Some(Asked { at: now, why: Why::Event });
            return Ok(());
        }
        self.made_for.note_short(settled);
        self.pacing.note_change(now);
        self.ask(Why::Echo);
        Ok(())
    }
}
