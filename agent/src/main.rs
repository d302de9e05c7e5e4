//! `flatnetd`: the per-node agent. Learns the other nodes from a store and makes the kernel match.

mod cli;
mod config;
mod yaml;
mod store;
mod in_use;
mod facts;
mod turn;
mod segments;
mod pod_routes;
mod daemon;
mod collector;
mod pacing;
mod complaints;
mod readable;
mod shutdown;
mod metrics;
mod health;
mod host_ports;
mod notify;
mod status;
mod view;
mod cleanup;
mod run_lock;
mod state_watch;
mod check;
mod install;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
