//! Quantities of a checked manifest as numbers.

use anyhow::{Result, bail};
use flatpod::manifest::Quantity;
use k8s_openapi::api::core::v1::ResourceRequirements;

/// Thousandths of the unit: `250m` is 250, `2` is 2000. `None` when it is no quantity, or negative.
pub(crate) fn milli(text: &str) -> Option<u64> {
    text.parse::<Quantity>().ok().and_then(|found| u64::try_from(found.milli()).ok())
}

/// Whole units, rounded up: `64Mi` is 67108864.
pub(crate) fn quantity(text: &str) -> Option<u64> {
    text.parse::<Quantity>().ok().and_then(|found| u64::try_from(found.units()).ok())
}

/// Which of a container's lists.
#[derive(Clone, Copy)]
pub(super) enum List {
    Requests,
    Limits,
}

/// What one of the lists has under a name, if it has that.
pub(super) fn listed(
    resources: Option<&ResourceRequirements>,
    list: List,
    name: &str,
    parse: fn(&str) -> Option<u64>,
) -> Result<Option<u64>> {
    let list = resources.and_then(|all| match list {
        List::Requests => all.requests.as_ref(),
        List::Limits => all.limits.as_ref(),
    });
    let Some(found) = list.and_then(|list| list.get(name)) else { return Ok(None) };
    match parse(&found.0) {
        None => bail!("{:?} is no quantity", found.0),
        number => Ok(number),
    }
}

/// Thousandths of a CPU that a container asks for: as many as it may have, unless it says otherwise.
pub(super) fn cpu_request(resources: Option<&ResourceRequirements>) -> Result<Option<u64>> {
    let of = |list| listed(resources, list, "cpu", milli);
    Ok(of(List::Requests)?.or(of(List::Limits)?))
}
