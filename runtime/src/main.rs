//! `flatpod`: a pod runtime for real and simulated nodes.
//!
//! One executable file is the command line, the supervisor of a pod, the shim of a container, and, in the
//! built-in image, the programs that containers run. The pure parts are in the library.

mod admission;
mod attach;
mod base64;
mod carriage;
mod carry;
mod cgroup;
mod cli;
mod cni;
mod commands;
mod container;
mod controller;
mod demo;
mod doctor;
mod enclosure;
mod entrance;
mod explain;
mod image;
mod log;
mod observed;
mod ourselves;
mod placement;
mod print;
mod probe;
mod programs;
mod sandbox;
mod seccomp;
mod shim;
mod signals;
mod socket;
mod state;
mod supervisor;
mod terminal;
mod tools;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    match tools::called_as(&args) {
        Some(result) => cli::exit_code(result),
        None => cli::run(cli::Cli::parse()),
    }
}
