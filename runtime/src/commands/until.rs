//! Waiting for what supervisors and the controller bring about.

use std::time::Duration;

use anyhow::Result;
use netns_fixtures::wait_until;

/// Of so many looks, one is whether there is somebody to bring it about.
const LOOKS: u32 = 100;

/// Looks until something is seen; `None` when that was not so in time. Now and then `ensure` is called: who was killed
/// meanwhile gets a successor.
pub(super) fn until<T>(
    within: Duration,
    ensure: impl Fn() -> Result<()>,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let mut looks = 0_u32;
    let mut turn = || {
        looks += 1;
        if looks.is_multiple_of(LOOKS) {
            ensure()?;
        }
        look()
    };
    wait_until("it", within, || turn().transpose()).map_or(Ok(None), |seen| seen.map(Some))
}
