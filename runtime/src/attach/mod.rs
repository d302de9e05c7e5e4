//! Attaching to a container that runs: its shim serves a socket in the run's directory, through which others read its
//! output and write its input.
//!
//! Nobody who is attached can hold the container up: who does not read misses output, and is told so. All of the
//! output is in the log.

mod client;
mod message;
mod server;

pub(crate) use client::{Session, attach};
pub(crate) use message::{Size, Stream};
pub(crate) use server::{Asked, Attachers};

/// The socket's name in the directory of a run.
const SOCKET: &str = "attach.sock";
