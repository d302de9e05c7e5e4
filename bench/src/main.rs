//! `cni-bench`: whole-process time of ADD and DEL, side by side with the reference plugins in one run.
//!
//! Every round runs every contender once, in turning order, so that whatever the machine does meanwhile
//! falls on all of them. Figures are ratios first: milliseconds belong to a machine.

mod contender;
mod timing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use netns_fixtures::NetNs;

use contender::{Contender, Verb};
use timing::Sample;

/// Measure ADD and DEL of flatnet against Debian's reference plugins, as whole processes.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the flatnet binary is.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Where the reference plugins are.
    #[arg(long, default_value = "/usr/lib/cni")]
    reference_dir: PathBuf,
    /// Rounds; each runs every contender once.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// How the figures are printed.
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
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

fn run(args: &Args) -> Result<()> {
    // Every contender keeps its state on a tmpfs, as under /run on a real node.
    let state = tempfile::tempdir_in("/dev/shm").context("make a state directory")?;
    let contenders = contender::all(&args.bin_dir, &args.reference_dir, state.path())?;
    let node = NetNs::new().context("make the node's namespace")?;
    let mut samples: BTreeMap<(Verb, usize), Vec<f64>> = BTreeMap::new();
    let mut floor = Vec::new();
    // The kernel dismantles a namespace in the background, holding the lock that the next measurement
    // needs: none is let go before the last figure is taken.
    let mut pods = Vec::new();
    for round in 0..args.rounds {
        contender::settle();
        floor.push(contender::floor(&node)?);
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let pod = NetNs::new().context("make a pod's namespace")?;
            for verb in [Verb::Add, Verb::Del] {
                contender::settle();
                let ms = contenders[index].time(verb, &node, &pod, round)?;
                samples.entry((verb, index)).or_default().push(ms);
            }
            pods.push(pod);
        }
    }
    report(args, &contenders, &samples, floor)
}

fn report(
    args: &Args,
    contenders: &[Contender],
    samples: &BTreeMap<(Verb, usize), Vec<f64>>,
    floor: Vec<f64>,
) -> Result<()> {
    let floor = Sample::of(floor);
    let mut rows = Vec::new();
    for verb in [Verb::Add, Verb::Del] {
        let ours = Sample::of(samples.get(&(verb, 0)).cloned().unwrap_or_default());
        for (index, contender) in contenders.iter().enumerate() {
            let sample = Sample::of(samples.get(&(verb, index)).cloned().unwrap_or_default());
            rows.push(timing::Row {
                verb: verb.as_str(),
                name: contender.name.clone(),
                sample,
                to_ours: sample.median / ours.median,
                to_floor: sample.median / floor.median,
            });
        }
    }
    let text = if args.output == "json" {
        timing::json(args.rounds, floor, &rows)?
    } else {
        timing::table(args.rounds, floor, &rows)
    };
    #[expect(clippy::print_stdout, reason = "the figures are the program's output")]
    {
        println!("{text}");
    }
    Ok(())
}
