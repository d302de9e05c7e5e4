//! What pods cost as a user sees them: from asking for them to all of them running, and to all of them gone.

mod field;
mod flatpod;
mod table;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use flatnet_tests::tool;

use crate::output::Output;
use field::{ByContainerd, Pods};
use flatpod::ByFlatpod;
use table::{Call, Report, Row};

/// How pods are measured from asked for to running, and to gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where flatpod and flatnet are.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Rounds; each runs and removes one pod, and then many at once, by every contender.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How many pods are asked for at once.
    #[arg(long, default_value_t = 50)]
    many: usize,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints.
///
/// # Errors
/// A program is missing, or a pod is refused.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0 && args.many > 0, "no rounds and no pods measure nothing");
    let version = tool("containerd", &["--version"]);
    let containerd = version.split_whitespace().nth(2).unwrap_or("of unknown version").to_owned();
    let ours = ByFlatpod::start(&args.bin_dir)?;
    let theirs = ByContainerd::start(&args.bin_dir)?;
    let field: [&dyn Pods; 2] = [&ours, &theirs];
    // Nobody's first pod is measured: a node has things from it on.
    for contender in field {
        once(contender, &["first".to_owned()]).with_context(|| contender.name())?;
    }
    let mut rows = Vec::new();
    for count in [1, args.many] {
        rows.extend(rounds(args.rounds, count, field)?);
    }
    let idle = idle_memory(&ours, args.many)?;
    args.output.publish(&Report { rounds: args.rounds, containerd, rows, idle })
}

/// Milliseconds until all ran, and until all were gone.
struct Took {
    running: f64,
    gone: f64,
}

fn rounds(rounds: usize, count: usize, field: [&dyn Pods; 2]) -> Result<Vec<Row>> {
    let mut all: [Vec<Took>; 2] = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let names: Vec<_> = (0..count).map(|at| format!("pod{round}-{at}")).collect();
        for turn in 0..field.len() {
            let index = (round + turn) % field.len();
            let contender = field[index];
            all[index].push(once(contender, &names).with_context(|| contender.name())?);
        }
    }
    let mut rows = Vec::new();
    for call in [Call::Running, Call::Gone] {
        let figures = all.each_ref().map(|took| took.iter().map(|took| call.of(took)).collect::<Vec<_>>());
        for (contender, figures_of_it) in field.iter().zip(&figures) {
            let [_, theirs] = &figures;
            rows.push(Row::new(call, count, contender.name(), figures_of_it, theirs));
        }
    }
    Ok(rows)
}

fn once(contender: &dyn Pods, names: &[String]) -> Result<Took> {
    settle();
    let running = timed(|| contender.run(names))?;
    settle();
    let gone = timed(|| contender.remove(names))?;
    Ok(Took { running, gone })
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// Lets the kernel finish with the last pods: it dismantles network namespaces in the background, holding the lock
/// that the next pods' links need.
fn settle() {
    #[expect(clippy::disallowed_methods, reason = "there is no event for the end of a namespace")]
    std::thread::sleep(std::time::Duration::from_millis(500));
}

/// Memory in MiB that an idle pod's own processes hold, of many.
fn idle_memory(ours: &ByFlatpod, count: usize) -> Result<f64> {
    let names: Vec<_> = (0..count).map(|at| format!("idle-{at}")).collect();
    ours.run(&names)?;
    settle();
    let each = ours.memory_of_pods()?;
    ours.remove(&names)?;
    ensure!(each.len() >= 2 * count, "{} processes keep {count} pods", each.len());
    let pods = u32::try_from(count).context("too many pods")?;
    Ok(each.iter().sum::<f64>() / f64::from(pods))
}
