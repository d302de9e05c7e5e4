//! What connecting and disconnecting a pod costs, beside the reference plugins.

mod contender;
mod field;
mod table;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::NetNs;
use serde_json::json;

use crate::output::Output;
use crate::sample::Sample;
use contender::{Contender, Place, Round, Verb};
use table::{AtOnce, Report, Row};
use usage::{Launcher, Usage};

/// How the cost of pods is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the flatnet binary is.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// Where `floor` and `launch` are.
    #[arg(long, default_value = "target/bench")]
    c_dir: PathBuf,
    /// Where the reference plugins are.
    #[arg(long, default_value = "/usr/lib/cni")]
    reference_dir: PathBuf,
    /// Netavark.
    #[arg(long, default_value = "/usr/lib/podman/netavark")]
    netavark: PathBuf,
    /// Rounds; each runs every contender once.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// How often a hundred pods are added at once.
    #[arg(long, default_value_t = 5)]
    at_once_rounds: usize,
    /// Only contenders whose name has this in it, beside flatnet and the floors.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints.
///
/// # Errors
/// A program is missing or fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0 measures nothing");
    let state = tempfile::tempdir_in("/dev/shm").context("make a state directory")?;
    let place = place(args, state.path())?;
    let mut contenders = field::all(state.path(), &args.c_dir.join("floor"), &args.netavark)?;
    if let Some(only) = &args.only {
        let always = [field::PROCESS, field::FLOOR, field::OURS];
        contenders.retain(|c| always.contains(&c.name.as_str()) || c.name.contains(only));
    }
    let rows = rounds(args.rounds, &contenders, &place)?;
    let at_once = at_once(args.at_once_rounds, &place)?;
    let report = Report { rounds: args.rounds, rows, at_once };
    args.output.publish(&report)
}

fn place(args: &Args, state: &Path) -> Result<Place> {
    let program = args.c_dir.join("launch");
    ensure!(program.exists(), "{} is not there (make bench builds it)", program.display());
    Ok(Place {
        launcher: Launcher { program, report: state.join("usage") },
        plugins: vec![args.bin_dir.clone(), args.reference_dir.clone()],
        state: state.to_owned(),
    })
}

/// Every contender once a round, each time with a pod of its own.
fn rounds(rounds: usize, contenders: &[Contender], place: &Place) -> Result<Vec<Row>> {
    let node = NetNs::new().context("make the node's namespace")?;
    let mut samples: BTreeMap<(Verb, usize), Vec<Usage>> = BTreeMap::new();
    // The kernel dismantles a namespace in the background, holding the lock that the next measurement
    // needs: none is let go before the last figure is taken.
    let mut pods = Vec::new();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let pod = NetNs::new().context("make a pod's namespace")?;
            let id = format!("bench{round}");
            for verb in [Verb::Add, Verb::Del] {
                settle();
                let cost = contenders[index].run(verb, place, Round { node: &node, pod: &pod, id: &id })?;
                samples.entry((verb, index)).or_default().push(cost);
            }
            pods.push(pod);
        }
    }
    let row = |((verb, index), usages): ((Verb, usize), Vec<Usage>)| {
        let sample = |figure: fn(&Usage) -> f64| Sample::of(&usages.iter().map(figure).collect::<Vec<_>>());
        Row {
            verb,
            name: contenders[index].name.clone(),
            wall: sample(|u| u.wall),
            cpu: sample(|u| u.cpu),
            memory: sample(|u| u.memory),
        }
    };
    Ok(samples.into_iter().map(row).collect())
}

/// Lets the kernel finish what the last contender left it: a deletion that starts while the grace period
/// of another is running waits for two.
fn settle() {
    #[expect(clippy::disallowed_methods, reason = "there is no event for the end of a grace period")]
    std::thread::sleep(Duration::from_millis(40));
}

/// A hundred pods at once, on a node of their own each time.
fn at_once(rounds: usize, place: &Place) -> Result<Vec<AtOnce>> {
    const PODS: usize = 100;
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut kept = Vec::new();
    for round in 0..rounds {
        let state = |name: &str| place.state.join(format!("{name}-at-once-{round}"));
        let flatnet = json!({ "type": "flatnet", "cniVersion": "1.0.0", "name": "atonce", "mtu": 1500,
            "stateDir": state("flatnet"), "subnets": ["10.40.0.0/16"] });
        let ipam = json!({ "type": "host-local", "dataDir": state("bridge"),
            "ranges": [[{ "subnet": "10.41.0.0/16" }]] });
        let bridge = json!({ "type": "bridge", "cniVersion": "1.0.0", "name": "atonce", "bridge": "br0",
            "isGateway": true, "ipam": ipam });
        for (name, conf) in [("flatnet", flatnet), ("bridge+host-local", bridge)] {
            let node = NetNs::new()?;
            let pods = (0..PODS).map(|_| NetNs::new()).collect::<Result<Vec<_>, _>>()?;
            settle();
            let ms = contender::all_at_once(&conf, place, &node, &pods)?;
            times.entry(name).or_default().push(ms);
            kept.push((node, pods));
        }
    }
    Ok(times.into_iter().map(|(name, all)| AtOnce { name, wall: Sample::of(&all), pods: PODS }).collect())
}
