//! `cni-bench`: flatnet side by side with others in one run: what connecting a pod costs (`pods`), what it
//! costs through a real runtime (`runtime`), how long pods take as their user sees it (`apply`), and what the path
//! between pods carries (`path`).
//!
//! Every round runs every contender once, in turning order, so that whatever the machine does meanwhile
//! falls on all of them. Figures are ratios first: milliseconds and gigabits belong to a machine.

mod apply;
mod cni;
mod output;
mod path;
mod plot;
mod pods;
mod runtime;
mod sample;
mod scale;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measure flatnet side by side with others.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// ADD and DEL against the kernel's own time and against other plugins, as whole processes.
    Pods(pods::Args),
    /// Pods by containerd, against pods on the host's network and pods by other plugins.
    Runtime(runtime::Args),
    /// Pods from asked for to running, and to gone: flatpod against containerd.
    Apply(apply::Args),
    /// Throughput and latency between pods, against a bridge with plain routes or VXLAN as flannel makes it.
    Path(path::Args),
    /// What a cluster of thousands of nodes costs the agent.
    Agent(scale::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Pods(args) => pods::run(&args),
        What::Runtime(args) => runtime::run(&args),
        What::Apply(args) => apply::run(&args),
        What::Path(args) => path::run(&args),
        What::Agent(args) => scale::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            #[expect(clippy::print_stderr, reason = "the one place that reports failure")]
            {
                eprintln!("cni-bench: {e:#}");
            }
            ExitCode::FAILURE
        }
    }
}
