//! Kubernetes without Kubernetes: an API server that knows nodes only and speaks to whoever connects as the
//! real one does, with faults to order, and agents on a fabric that have it as their store.

mod nodes;
mod serve;
mod server;
mod world;

pub use nodes::KubeNodes;
pub use server::ApiServer;
pub use world::{Asked, Faults};
