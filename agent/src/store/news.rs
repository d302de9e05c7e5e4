//! What was said lately, so that no cause fills the log, however often it comes and with whatever others it
//! takes turns.

use std::time::{Duration, Instant};

/// The same is said again after so long.
const AGAIN: Duration = Duration::from_secs(600);
/// So many different things are told apart; more are said at most once in a while too.
const KNOWN: usize = 32;

/// What was said, and when.
#[derive(Debug, Default)]
pub(super) struct News(Vec<(String, Instant)>);

impl News {
    /// Whether `text` is worth saying now.
    pub(super) fn is_new(&mut self, text: &str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < AGAIN);
        let new = self.0.len() < KNOWN && self.0.iter().all(|(said, _)| said != text);
        if new {
            self.0.push((text.to_owned(), now));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_trouble_is_a_few_lines() {
        let start = Instant::now();
        let mut news = News::default();
        let endpoints = ["a: refused", "b: refused", "c: no answer"];
        let said = (0..86_400 / 5).filter(|i: &usize| {
            let now = start + Duration::from_secs(5) * u32::try_from(*i).unwrap();
            news.is_new(endpoints[i % 3], now)
        });
        assert_eq!(said.count(), 3 * 144);
        let mut news = News::default();
        let said = (0..1_000).filter(|i| news.is_new(&format!("revision {i}"), start)).count();
        assert_eq!(said, KNOWN);
    }
}
