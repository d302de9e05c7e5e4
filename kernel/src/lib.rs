//! Everything Flatnet asks of the Linux kernel, and the only crate that knows netlink, `setns` and
//! `/proc/sys`. Interface indexes exist in here and nowhere else.

pub mod netns;
pub mod batch;
pub mod sysctl;
pub mod facts;
pub mod attachment;
pub mod nat;
mod conntrack;
mod tunnel_filter;
pub mod apply;
pub mod overlay_snapshot;
pub mod events;
mod read;
mod msg;

pub use apply::NetlinkKernel;
pub use netns::{NetnsError, NetnsFd};
