//! What is logged about problems: each cause when it comes up, not every time it is found, and a cause that
//! comes and goes not more than once a minute.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A cause that was logged is not logged again for so long.
const QUIET: Duration = Duration::from_secs(60);
/// So many are logged at once; `flatnetd status` has them all.
const AT_ONCE: usize = 5;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    said: HashMap<String, Instant>,
    standing: HashSet<String>,
}

/// What to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToSay {
    pub(crate) problems: Vec<String>,
    /// How many more there are.
    pub(crate) more: usize,
    /// There were problems, and there are none now.
    pub(crate) all_gone: bool,
}

impl Complaints {
    /// Decides what to say where `problems` are all there are at the time `now`.
    pub(crate) fn note(&mut self, problems: &[String], now: Instant) -> ToSay {
        self.said.retain(|_, at| now.duration_since(*at) < QUIET);
        let mut to_say = ToSay::default();
        let mut standing = HashSet::with_capacity(problems.len());
        for problem in problems {
            let cause = cause(problem);
            let known = self.standing.contains(&cause) || self.said.contains_key(&cause);
            if !standing.insert(cause.clone()) || known {
                continue;
            }
            if to_say.problems.len() < AT_ONCE {
                self.said.insert(cause, now);
                to_say.problems.push(problem.clone());
            } else {
                to_say.more += 1;
            }
        }
        to_say.all_gone = standing.is_empty() && !self.standing.is_empty();
        self.standing = standing;
        to_say
    }
}

/// The problem but for what counts up: times, sizes, durations.
fn cause(problem: &str) -> String {
    // Addresses and names carry digits that matter; numbers that stand alone do not.
    let words = problem.split(' ').filter(|word| !word.chars().all(|c| c.is_ascii_digit() || c == ':'));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(complaints: &mut Complaints, problems: &[&str], now: Instant) -> ToSay {
        complaints.note(&problems.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), now)
    }

    #[test]
    fn a_cause_is_said_once_however_its_numbers_change() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        assert_eq!(note(&mut complaints, &["keeping 3 until 12:00:30 UTC"], now).problems.len(), 1);
        assert_eq!(note(&mut complaints, &["keeping 4 until 12:00:31 UTC"], now), ToSay::default());
        assert!(note(&mut complaints, &[], now).all_gone);
    }

    #[test]
    fn what_comes_and_goes_is_said_once_a_minute_and_others_meanwhile() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let mut said = 0;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            let problems: &[&str] = if second % 2 == 0 { &["peer n2: down"] } else { &[] };
            said += note(&mut complaints, problems, now).problems.len();
        }
        assert_eq!(said, 2);
        let now = start + Duration::from_secs(119);
        assert_eq!(note(&mut complaints, &["peer n3: down"], now).problems, ["peer n3: down"]);
    }

    #[test]
    fn many_at_once_are_counted() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        let all: Vec<String> = (0..50).map(|i| format!("peer n{i}: down")).collect();
        let to_say = complaints.note(&all, now);
        assert_eq!((to_say.problems.len(), to_say.more), (AT_ONCE, 45));
    }
}
