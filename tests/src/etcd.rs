//! A real etcd for tests, and nodes whose agents have it as their store.

mod certificates;
mod member;
mod nodes;
mod tables;

pub use certificates::Certificates;
pub use member::{CLIENT_PORT, Member};
pub use nodes::EtcdNodes;
pub use tables::{Entry, Tables};
