//! Waiting for a condition: the only place in this crate that sleeps.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::FixtureError;

/// Time between two looks: short enough not to slow a test, long enough not to burn a core.
const PAUSE: Duration = Duration::from_millis(5);

/// Polls `look` until it yields a value, and gives up after `within`. `what` names the condition in
/// the error.
///
/// # Errors
/// [`FixtureError::Timeout`] when the condition did not come true.
#[expect(clippy::disallowed_methods, reason = "the one polling loop; everything else waits here")]
pub fn wait_until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, FixtureError> {
    let end = Instant::now() + within;
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if Instant::now() >= end {
            return Err(FixtureError::Timeout { what: what.to_owned(), within });
        }
        thread::sleep(PAUSE);
    }
}
