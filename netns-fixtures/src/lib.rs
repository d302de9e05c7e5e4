//! Nodes as network namespaces on a fabric, for tests, benches and simulated clusters.
//!
//! This crate is the oracle: it depends on nothing it is used to judge. A namespace here is a file
//! descriptor, never a name or a mount, so that whatever ends the holder (a panic, `kill -9`) also
//! removes every namespace, link and route with it.
//!
//! Start with [`Fabric`]; pods are plain [`NetNs`]; [`probe`] shows who talks to whom and under
//! which source address; [`Capture`] shows what was on the wire.

pub mod gate;
pub mod probe;

mod capture;
mod error;
mod fabric;
mod link;
mod namespace;
mod packet;
mod process;
mod segment;
mod wait;
mod vxlan;

pub use capture::Capture;
pub use error::FixtureError;
pub use fabric::{Cable, Fabric, FabricBuilder, Node, UPLINK, set_cable};
pub use link::try_kinds;
pub use namespace::NetNs;
pub use packet::{Headers, Mac, Packet, Transport, Vxlan, decode};
pub use process::KillOnDrop;
pub use segment::Segment;
pub use vxlan::VxlanFrame;
pub use wait::wait_until;
