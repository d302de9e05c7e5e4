//! The caller's side of CNI: which network, which plugins, in which order, with what on stdin, and what to
//! remember so that the same can be taken back (the CNI specification 1.1.0, section 2 to 5; libcni's files).

mod cache;
mod call;
mod capabilities;
mod conf;
mod network;

pub(crate) use capabilities::Capabilities;
pub(crate) use network::{Attachment, Network};

/// The interface that a pod gets.
pub(crate) const IFNAME: &str = "eth0";
