//! Quantities of a checked manifest as numbers.

use flatpod::manifest::Quantity;

/// Thousandths of the unit: `250m` is 250, `2` is 2000. `None` when it is no quantity, or negative.
pub(crate) fn milli(text: &str) -> Option<u64> {
    text.parse::<Quantity>().ok().and_then(|found| u64::try_from(found.milli()).ok())
}

/// Whole units, rounded up: `64Mi` is 67108864.
pub(crate) fn quantity(text: &str) -> Option<u64> {
    text.parse::<Quantity>().ok().and_then(|found| u64::try_from(found.units()).ok())
}
