//! The verbs. Each reads facts, lets `flatnet_core` decide, and acts.

pub(crate) mod add;
pub(crate) mod del;
pub(crate) mod check;
pub(crate) mod gc;
pub(crate) mod status;
