//! What the path between two pods carries, beside bridges with plain routes or VXLAN.

mod bridge;
mod field;
mod flatnet;
mod nodes;
mod table;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::output::Output;
use bridge::BridgeNetfilter;
use field::Contender;
use table::{Report, Row};
use wire::{Core, Stream, Trips};

/// How the data path is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the flatnet and flatnetd binaries are.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Rounds; each measures every contender once.
    #[arg(long, default_value_t = 30)]
    rounds: u32,
    /// Seconds of traffic for each figure of a contender, all rounds together.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The processor for both ends; without it the last one.
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints.
///
/// # Errors
/// A program is missing or fails, or a path is broken.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0 measures nothing");
    let lasting = Duration::try_from_secs_f64(args.seconds / f64::from(args.rounds))
        .with_context(|| format!("--seconds {}", args.seconds))?;
    ensure!(!lasting.is_zero(), "--seconds {} is too short", args.seconds);
    let core = Core::choose(args.core)?;
    let state = tempfile::tempdir_in("/dev/shm").context("make a state directory")?;
    let field = field::all(&args.bin_dir, state.path())?;
    let measured = rounds(&field.contenders, core, (args.rounds, lasting))?;
    let bridge_netfilter = BridgeNetfilter::read()?;
    let rows = field.contenders.iter().zip(measured).map(|(c, m)| row(c, &m)).collect::<Result<_>>()?;
    args.output.publish(&Report { rounds: args.rounds, bridge_netfilter, rows })
}

/// Every contender once a round, whose turn comes first moving on.
fn rounds(
    contenders: &[Contender],
    core: Core,
    (rounds, lasting): (u32, Duration),
) -> Result<Vec<Vec<(Stream, Trips)>>> {
    let mut all = vec![Vec::new(); contenders.len()];
    for round in 0..usize::try_from(rounds)? {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let Contender { way, name, wire, .. } = &contenders[index];
            let both = || Ok::<_, anyhow::Error>((wire.stream(core, lasting)?, wire.trips(core, lasting)?));
            all[index].push(both().with_context(|| format!("{}, {name}", way.as_str()))?);
        }
    }
    Ok(all)
}

fn row(contender: &Contender, measured: &[(Stream, Trips)]) -> Result<Row> {
    let from = &contender.wire.from;
    // The second is of what goes out over IPv4.
    let [_, segment, ..] = from.ns.segment_sizes(from.link)?;
    let all = |figure: fn(&(Stream, Trips)) -> f64| measured.iter().map(figure).collect();
    Ok(Row {
        way: contender.way,
        name: contender.name,
        peer: contender.peer,
        segment,
        packet: all(|(stream, _)| stream.packet),
        rate: all(|(stream, _)| stream.rate),
        trip: all(|(_, trips)| trips.median),
        p99: all(|(_, trips)| trips.p99),
    })
}
