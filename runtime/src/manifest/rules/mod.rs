//! The rules of Kubernetes' API server, with its words.
//!
//! After `pkg/apis/core/validation/validation.go` and `staging/src/k8s.io/apimachinery/pkg/util/validation`. Where
//! flatpod is stricter it says so: a mount path is absolute, a named port exists, a capability is one that Linux has,
//! because what Kubernetes accepts there only fails later.
//!
//! Values that the table requires are not asked for again: `decode` has reported those that are missing.

mod container;
pub(super) mod data;
mod env;
pub(super) mod metadata;
pub(super) mod names;
pub(super) mod pod;
mod ports;
mod probe;
mod resources;
mod security;
mod volume;
pub(super) mod workload;

/// The elements of a list that may be absent.
fn each<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
