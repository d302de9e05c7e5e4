//! `flatnetd`: the per-node agent. Learns the other nodes from a store and makes the kernel match.

mod cli;
mod config;
mod yaml;
mod store;
mod facts;
mod turn;
mod daemon;
mod collector;
mod pacing;
mod readable;
mod shutdown;
mod metrics;
mod health;
mod status;
mod view;
mod cleanup;
mod run_lock;
mod check;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
