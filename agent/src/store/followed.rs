//! What stores that are followed over the network have in common: how it is said how they are, and when they are tried
//! again.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::StoreState;
use super::news::News;
use crate::pacing::{Changed, Outcome, Pacing, random_fraction};

/// A session that held so long was a good one.
const HELD: Duration = Duration::from_secs(10);

/// How a store is, for the reconciler and for the log.
pub(super) struct Voice {
    store: &'static str,
    pub(super) state: watch::Sender<StoreState>,
    news: News,
    /// How often this node's entry was changed lately.
    pacing: Pacing,
}

impl Voice {
    /// Of the store of that name.
    pub(super) fn new(store: &'static str, state: watch::Sender<StoreState>) -> Self {
        Self { store, state, news: News::default(), pacing: Pacing::default() }
    }

    /// Whether `text` is worth logging now.
    pub(super) fn is_new(&mut self, text: &str) -> bool {
        self.news.is_new(text, Instant::now())
    }

    /// Logs a complaint that is news.
    pub(super) fn say(&mut self, text: &str) {
        if self.is_new(text) {
            tracing::warn!(store = self.store, "{text}");
        }
    }

    /// It does not serve this node.
    pub(super) fn note_unreachable(&mut self, text: String) {
        self.say(&text);
        let now = SystemTime::now();
        self.state.send_if_modified(|state| {
            let known = state.unreachable.is_some() && state.error.as_ref() == Some(&text);
            state.unreachable.get_or_insert(now);
            state.error = Some(text);
            !known
        });
    }

    /// Something about this node or what the store holds, not about reaching it, keeps it from being followed.
    pub(super) fn note_trouble(&mut self, text: String) {
        self.say(&text);
        self.state.send_if_modified(|state| {
            let changed = state.error.as_ref() != Some(&text);
            state.error = Some(text);
            changed
        });
    }

    /// Whether somebody keeps changing this node's entry, which must not become a race of writers.
    pub(super) fn is_fight(&mut self, changed: Changed) -> bool {
        self.pacing.note(Instant::now(), Duration::ZERO, changed, Outcome::Settled);
        self.pacing.is_fight()
    }
}

/// When a store is tried again.
pub(super) struct Retry {
    /// First wait after a session that failed; doubles up to `most`.
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Retry {
    /// After `least`, then after twice as long, up to `most`.
    pub(super) const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// Notes the end of a session that has taken so long. One that only begins anew is no failure. Answers how many in a row
    /// were.
    pub(super) fn note(&mut self, took: Duration, is_failure: bool) -> u32 {
        self.failures = if took > HELD || !is_failure { 0 } else { self.failures.saturating_add(1) };
        self.failures
    }

    /// How long to wait: half to all of what it is, so that the nodes of a cluster do not all come at once.
    pub(super) fn pause(&self) -> Duration {
        let full = self.least.saturating_mul(1 << self.failures.min(16)).min(self.most);
        full.mul_f64(0.5 + 0.5 * random_fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest_and_a_good_session_makes_them_short_again() {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut retry = Retry::new(least, most);
        for failures in 1..=5 {
            assert_eq!(retry.note(Duration::ZERO, true), failures);
            let full = least * (1 << failures);
            assert!((full / 2..=full).contains(&retry.pause()));
        }
        (0..100).for_each(|_| assert!(retry.note(Duration::ZERO, true) > 5));
        assert!((most / 2..=most).contains(&retry.pause()));
        assert_eq!(retry.note(Duration::ZERO, false), 0, "what is stale is read again at once");
        retry.note(Duration::ZERO, true);
        assert_eq!(retry.note(HELD * 2, true), 0);
    }

    #[test]
    fn who_listens_is_woken_by_news_only() {
        let (sender, mut heard) = watch::channel(StoreState::default());
        let mut voice = Voice::new("etcd", sender);
        voice.note_unreachable("no answer".to_owned());
        assert!(heard.has_changed().unwrap());
        let since = heard.borrow_and_update().unreachable;
        voice.note_unreachable("no answer".to_owned());
        assert!(!heard.has_changed().unwrap());
        voice.note_trouble("no subnet is free".to_owned());
        assert!(heard.has_changed().unwrap());
        assert_eq!(heard.borrow_and_update().unreachable, since, "that is for who reaches it to say");
        voice.note_trouble("no subnet is free".to_owned());
        assert!(!heard.has_changed().unwrap());
    }
}
