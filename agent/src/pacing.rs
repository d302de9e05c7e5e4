//! When to look again: at once after a change, later after a failure, and not too often when something
//! keeps changing what we change back.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

/// A change is often several events; this long after the first one we look.
const GATHER: Duration = Duration::from_millis(5);
/// First wait after a failure; doubles up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// So many repairs within [`FIGHT_WINDOW`] are a fight.
const FIGHT: usize = 30;
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// How long we wait between repairs in a fight.
const FIGHT_PAUSE: Duration = Duration::from_secs(1);
/// Looking may take this share of the time at most: one part in so many.
const SHARE: u32 = 4;

/// Remembers how the last turns went.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    failures: u32,
    repairs: VecDeque<Instant>,
    last: Option<(Instant, Duration)>,
}

impl Pacing {
    /// Notes a turn that started at `start`.
    pub(crate) fn note(&mut self, start: Instant, took: Duration, changed: Changed, outcome: Outcome) {
        self.last = Some((start, took));
        self.failures = match outcome {
            Outcome::Settled => 0,
            Outcome::Failed => self.failures.saturating_add(1),
        };
        if changed == Changed::Something {
            self.repairs.push_back(start);
        }
        while self.repairs.front().is_some_and(|old| start.duration_since(*old) > FIGHT_WINDOW) {
            self.repairs.pop_front();
        }
    }

    /// Notes a change that took no look: the look that is to see whether it was right comes as unhurried as if
    /// there had been one.
    pub(crate) fn note_change(&mut self, now: Instant) {
        if let Some((start, _)) = &mut self.last {
            *start = now;
        }
    }

    /// Whether somebody keeps undoing our work.
    pub(crate) fn is_fight(&self) -> bool {
        self.repairs.len() >= FIGHT
    }

    /// What to tell about that.
    pub(crate) fn fight(&self) -> Option<String> {
        self.is_fight().then(|| {
            format!(
                "something keeps undoing what the agent puts right ({FIGHT} times and more in {} s), so it is put \
                 right about once a second only; `ip monitor` and `nft monitor` show who is at work",
                FIGHT_WINDOW.as_secs()
            )
        })
    }

    /// How long to gather events before the next turn. After a quiet while the answer to an event comes at
    /// once, however long looking takes.
    pub(crate) fn gather(&self, now: Instant) -> Duration {
        if self.is_fight() {
            return less_up_to_a_quarter(FIGHT_PAUSE);
        }
        let busy_until = self.last.map_or(now, |(start, took)| start + took * SHARE);
        busy_until.saturating_duration_since(now).clamp(GATHER, FIGHT_PAUSE)
    }

    /// When to look again without being asked; `None` where all is well.
    pub(crate) fn retry(&self) -> Option<Duration> {
        if self.failures == 0 && self.is_fight() {
            // To see that it is over.
            return Some(FIGHT_WINDOW);
        }
        let doublings = self.failures.checked_sub(1)?.min(16);
        let full = RETRY_LEAST.saturating_mul(1 << doublings).min(RETRY_MOST);
        Some(less_up_to_a_quarter(full))
    }
}

/// Whether a turn changed the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Nothing,
    Something,
}

/// Whether a turn did all it wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Settled,
    Failed,
}

/// So that the nodes of a cluster do not all come at once.
fn less_up_to_a_quarter(full: Duration) -> Duration {
    full - full.mul_f64(0.25 * random_fraction())
}

/// Any number; the standard library seeds its hashers at random.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 to 1.
pub(crate) fn random_fraction() -> f64 {
    f64::from(u32::try_from(random() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_grow_and_stop_growing() {
        let mut pacing = Pacing::default();
        let now = Instant::now();
        assert_eq!(pacing.retry(), None);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            pacing.note(now, GATHER, Changed::Nothing, Outcome::Failed);
            let next = pacing.retry().unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        (0..100).for_each(|_| pacing.note(now, GATHER, Changed::Nothing, Outcome::Failed));
        assert!((RETRY_MOST.mul_f64(0.7)..=RETRY_MOST).contains(&pacing.retry().unwrap()));
        pacing.note(now, GATHER, Changed::Nothing, Outcome::Settled);
        assert_eq!(pacing.retry(), None);
    }

    #[test]
    fn a_fight_is_slowed_down_and_forgotten() {
        let mut pacing = Pacing::default();
        let start = Instant::now();
        for _ in 0..FIGHT {
            assert!(pacing.gather(start) < Duration::from_millis(200));
            pacing.note(start, Duration::from_millis(1), Changed::Something, Outcome::Settled);
        }
        assert!(pacing.is_fight());
        let later = start + FIGHT_WINDOW * 2;
        pacing.note(later, Duration::from_millis(1), Changed::Nothing, Outcome::Settled);
        assert!(!pacing.is_fight());
    }

    #[test]
    fn the_look_after_a_change_waits_as_if_there_had_been_one() {
        let mut pacing = Pacing::default();
        let (start, took) = (Instant::now(), Duration::from_millis(50));
        pacing.note(start, took, Changed::Nothing, Outcome::Settled);
        let later = start + Duration::from_secs(9);
        pacing.note_change(later);
        assert_eq!(pacing.gather(later), took * SHARE);
    }

    #[test]
    fn expensive_looking_happens_less_often() {
        let mut pacing = Pacing::default();
        let start = Instant::now();
        let took = Duration::from_millis(100);
        pacing.note(start, took, Changed::Nothing, Outcome::Settled);
        assert_eq!(pacing.gather(start + took), took * 3);
        assert_eq!(pacing.gather(start + Duration::from_secs(1)), GATHER, "after a quiet while");
    }
}
