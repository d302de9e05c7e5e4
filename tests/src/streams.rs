//! Numbered traffic between two namespaces: datagrams that show what was lost and for how long, and bytes
//! of which each is compared.

mod bytes;
mod datagrams;

pub use bytes::{Bytes, Carried};
pub use datagrams::Datagrams;

use std::net::IpAddr;

use netns_fixtures::NetNs;
use netns_fixtures::probe::Ping;

use crate::agent::SOON;

/// One end of a stream: a namespace and the address in it.
pub type End<'a> = (&'a NetNs, IpAddr);

/// Waits until the way is there, so that no stream begins with what a first packet costs.
fn meet((from, source): End<'_>, (_, to): End<'_>) {
    let first = netns_fixtures::wait_until("a first answer", SOON, || {
        Ping::to(to).from(source).send(from, SOON).ok()
    });
    assert!(first.is_ok(), "{source} to {to}: {first:?}");
}
