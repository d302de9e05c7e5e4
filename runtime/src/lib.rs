//! The pure parts of `flatpod`: what a manifest says, what the state of a pod is, and what a workload
//! needs next.
//!
//! Nothing here starts a process or touches the kernel; the only input and output is the reading of manifests in
//! [`manifest::source`]. Both sides speak Kubernetes' own types, from `k8s-openapi`.

pub mod letters;
pub mod manifest;
pub mod status;
pub mod workload;
