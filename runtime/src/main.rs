//! `flatpod`: a minimal pod runtime for real and simulated nodes.
//!
//! Its first verb, `demo`, builds a cluster of simulated nodes, starts pods on it by the CNI protocol
//! and shows that the network is flat. `apply` and `explain` read manifests; the pure parts are in the library.

mod apply;
mod cli;
mod cni_exec;
mod container;
mod demo;
mod enclosure;
mod explain;
mod node;
mod print;
mod sandbox;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
