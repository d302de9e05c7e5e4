//! What a pod costs through a real runtime: containerd and runc, called as kubelet calls them.

mod field;
mod table;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flatnet_tests::tool;

use crate::output::Output;
use field::Contender;
use table::{Call, Report, Row};

/// How pods of a runtime are measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the flatnet binary is.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Where the reference plugins are.
    #[arg(long, default_value = "/usr/lib/cni")]
    reference_dir: PathBuf,
    /// Rounds; each runs and stops a pod of every contender.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// Milliseconds that containerd took for one pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    run: f64,
    stop: f64,
}

impl Took {
    const fn of(self, call: Call) -> f64 {
        match call {
            Call::Run => self.run,
            Call::Stop => self.stop,
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// A plugin is missing, or a pod is refused.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0 measures nothing");
    let version = tool("containerd", &["--version"]);
    let containerd = version.split_whitespace().nth(2).unwrap_or("of unknown version").to_owned();
    let field = field::all(&args.bin_dir, &args.reference_dir)?;
    for contender in &field {
        contender.prove().with_context(|| contender.name)?;
    }
    let took = rounds(args.rounds, &field)?;
    args.output.publish(&Report { rounds: args.rounds, containerd, rows: rows(&field, &took) })
}

/// A pod of every contender once a round, whose turn comes first moving on.
fn rounds(rounds: usize, field: &[Contender]) -> Result<Vec<Vec<Took>>> {
    let mut all = vec![Vec::new(); field.len()];
    for round in 0..rounds {
        for turn in 0..field.len() {
            // Back and forth, so that nobody always comes after the same one.
            let turn = if round % 2 == 0 { turn } else { field.len() - 1 - turn };
            let index = (round + turn) % field.len();
            let contender = &field[index];
            all[index].push(once(contender, &format!("pod{round}")).with_context(|| contender.name)?);
        }
    }
    Ok(all)
}

/// Runs and stops one pod.
fn once(contender: &Contender, name: &str) -> Result<Took> {
    let cri = &contender.containerd.cri;
    settle();
    let start = Instant::now();
    let id = cri.run_pod_on(name, contender.network)?;
    let run = milliseconds(start);
    settle();
    let start = Instant::now();
    cri.stop_pod(&id)?;
    cri.remove_pod(&id)?;
    Ok(Took { run, stop: milliseconds(start) })
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Lets the kernel finish with the last pod: it dismantles a network namespace in the background, holding the
/// lock that the next pod's links need.
fn settle() {
    #[expect(clippy::disallowed_methods, reason = "there is no event for the end of a namespace")]
    std::thread::sleep(Duration::from_millis(150));
}

/// The first contender is what all are compared with.
fn rows(field: &[Contender], took: &[Vec<Took>]) -> Vec<Row> {
    let figures = |call: Call, took: &[Took]| -> Vec<f64> { took.iter().map(|t| t.of(call)).collect() };
    let mut rows = Vec::new();
    for call in [Call::Run, Call::Stop] {
        for (index, contender) in field.iter().enumerate() {
            let other = (index > 0).then(|| figures(call, &took[0]));
            rows.push(Row::new(call, contender.name, &figures(call, &took[index]), other.as_deref()));
        }
    }
    rows
}
