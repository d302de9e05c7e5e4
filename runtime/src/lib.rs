//! The pure parts of `flatpod`: what a manifest says, and what the state of a pod is.
//!
//! Nothing here starts a process or touches the kernel; the only input and output is the reading of manifests in
//! [`manifest::source`]. Both sides speak Kubernetes' own types, from `k8s-openapi`.

pub mod manifest;
pub mod status;
