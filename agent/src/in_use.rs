//! Which cluster the node works with: what the store lists, and whoever the guard keeps. Remembered below
//! `STATEDIR`, so that neither a restart nor a store that is away makes the node forget.

mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::guard::{Guard, Health, Held};

use crate::config::Config;
use crate::status;
use crate::store::StoreState;

pub(crate) use memory::{Memory, changes_path, path, remembered};

/// How many peers are kept is not said again for so long.
const SAID: Duration = Duration::from_secs(10);

/// The guard with a clock, a memory and a voice.
#[derive(Debug)]
pub(crate) struct InUse {
    guard: Guard,
    start: Instant,
    /// What an earlier run worked with, until the store has said something.
    remembered: Option<Arc<Cluster>>,
    held: Option<Held>,
    said: Said,
}

/// How many peers were said to be kept, and when.
#[derive(Debug, Default)]
struct Said(Option<(usize, Instant)>);

impl Said {
    /// Whether it is worth saying that so many are kept: at first, where they are twice as many, and now and
    /// then. Nodes that come back one by one are not a line each.
    fn is_news(&mut self, kept: usize, now: Instant) -> bool {
        let known = |(count, at): (usize, Instant)| kept < count * 2 && now.duration_since(at) < SAID;
        let news = !self.0.is_some_and(known);
        if news {
            self.0 = Some((kept, now));
        }
        news
    }
}

/// A cluster to work with.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) cluster: Arc<Cluster>,
    /// What deserves attention about it.
    pub(crate) remark: Option<String>,
    /// Peers that are kept though the store does not list them.
    pub(crate) kept: usize,
}

impl InUse {
    /// Recalls what an earlier run worked with. A damaged memory is reported and forgotten.
    pub(crate) fn recall(config: &Config) -> Self {
        let remembered = remembered(&config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error, "the last cluster is forgotten");
            None
        });
        let remembered = remembered.map(Arc::new);
        Self {
            guard: Guard::new(config.guard, config.settings.node.clone(), remembered.clone()),
            start: Instant::now(),
            remembered,
            held: None,
            said: Said::default(),
        }
    }

    /// What to work with now; `None` while nothing is known at all.
    pub(crate) fn admit(&mut self, state: &StoreState) -> Option<Admitted> {
        let Some(listed) = &state.cluster else {
            // Before its first word a store may just need a moment.
            let cluster = self.remembered.clone().filter(|_| state.error.is_some())?;
            let remark = Some("working with the cluster of the run before".to_owned());
            return Some(Admitted { cluster, remark, kept: 0 });
        };
        let health = if state.error.is_none() { Health::Good } else { Health::Bad };
        let verdict = self.guard.admit(listed, health, self.start.elapsed());
        self.say(verdict.held);
        self.held = verdict.held;
        let remark = verdict.held.map(|held| self.remark(held));
        let kept = verdict.held.map_or(0, |held| held.kept);
        Some(Admitted { cluster: verdict.cluster, remark, kept })
    }

    /// When the guard has something to decide again.
    pub(crate) fn next(&self) -> Option<Duration> {
        let held = self.held?;
        // A store that is not well confirms nothing: its recovery wakes us, this is for the rest.
        Some(held.until.saturating_sub(self.start.elapsed()).max(Duration::from_millis(100)))
    }

    fn remark(&self, held: Held) -> String {
        let left = held.until.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return format!("{held} until the store can be read again");
        }
        format!("{held} until {}", time_of_day(SystemTime::now() + left))
    }

    fn say(&mut self, held: Option<Held>) {
        if let Some(held) = held.filter(|held| self.held != Some(*held))
            && self.said.is_news(held.kept, Instant::now())
        {
            tracing::warn!("{}", self.remark(held));
        }
        if let (Some(before), None) = (self.held, held) {
            self.said = Said::default();
            tracing::info!(kept = before.kept, "no peer is kept any more: all are listed again, or gone");
        }
    }
}

/// `12:00:30 UTC`.
fn time_of_day(at: SystemTime) -> String {
    let seconds = (status::seconds(at) + u64::from(status::rounds_up(at))) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_that_go_and_come_back_are_a_few_lines() {
        let (start, mut said) = (Instant::now(), Said::default());
        let mut count = |kept: usize, i: u64| said.is_news(kept, start + Duration::from_millis(20 * i));
        let going = (0..1_000).filter(|i| count(4 + usize::try_from(*i).unwrap(), *i)).count();
        assert_eq!(going, 8, "4, 8, 16 and so on up to 512");
        let coming = (1_000..2_000).filter(|i| count(2_000 - usize::try_from(*i).unwrap(), *i)).count();
        assert_eq!(coming, 2, "one in ten seconds");
        let flapping = (2_000..2_400).filter(|i| count(7 + usize::try_from(*i % 2).unwrap(), *i)).count();
        assert_eq!(flapping, 1);
    }

    #[test]
    fn times_of_day_are_of_utc() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 9 + 43_230);
        assert_eq!(time_of_day(noon), "12:00:30 UTC");
        assert_eq!(time_of_day(noon + Duration::from_millis(1)), "12:00:31 UTC");
    }
}
