//! The CNI contract (SPEC 1.1.0): what comes in, checked; what goes out, in the asked version's shape.

pub mod version;
pub mod error;
pub mod env;
pub mod conf;
mod value;
mod bandwidth;
mod port_mappings;
pub mod result;
pub mod ipam;
pub mod check;
