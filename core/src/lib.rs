//! Flatnet's pure heart: values that cannot be wrong, and decisions over them.
//!
//! Nothing here touches the world: no netlink, no files, no clock, no environment. Effects are described
//! as [`step::Step`]s and applied by whoever implements [`kernel::Kernel`].

pub mod names;
pub mod link;
pub mod step;
pub mod kernel;
pub mod execute;
pub mod overlay;
pub mod node;
pub mod attach;
pub mod hostport;
pub mod beside;
pub mod repair;
pub mod life;
pub mod pool;
pub mod rate;
pub mod shaping;
pub mod cni;
