//! `cni-bench agent`: what a large cluster costs one node's agent, from outside: the time until the kernel has
//! every route, the time until one more node is reached, CPU time and memory. Nodes are simulated, the agent,
//! the store and the kernel are real.

mod agent;
mod case;
mod chart;
mod cluster;
mod plain;
mod process;
mod report;
mod routes;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Fabric, Node, Segment};

use report::Report;
use store::Kind;

/// Measure the agent in clusters of many simulated nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where flatnetd is.
    #[arg(long, default_value = "target/release")]
    bin_dir: PathBuf,
    /// How many other nodes there are, case by case.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000, 10_000, 20_000],
        value_parser = clap::value_parser!(u16).range(1..=i64::from(cluster::MOST)))]
    nodes: Vec<u16>,
    /// Where they are written down.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Kind::File, Kind::Json, Kind::Etcd])]
    store: Vec<Kind>,
    /// How many nodes the peer programs, case by case.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000, 10_000],
        value_parser = clap::value_parser!(u16).range(1..=i64::from(cluster::MOST)))]
    plain: Vec<u16>,
    /// How many nodes join, one by one.
    #[arg(long, default_value_t = 200)]
    samples: usize,
    /// For how many seconds the idle agent is watched.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// How the figures are printed.
    #[arg(long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
    /// Draw the figures into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Measures all cases and prints the figures.
///
/// # Errors
/// A case cannot be measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!((1..=20_000).contains(&args.samples), "--samples {}: from 1 to 20000", args.samples);
    let mut report = Report::new(args);
    // The kernel dismantles a namespace in the background: none is let go before the last figure is taken.
    let mut used = Vec::new();
    for nodes in &args.plain {
        let place = Place::new()?;
        report.plain.push(case::measure_plain(*nodes, &place.node, place.dir.path())?);
        used.push(place);
    }
    for store in &args.store {
        for nodes in &args.nodes {
            let place = Place::new()?;
            report.cases.push(case::measure(args, (*store, *nodes), &place.node, place.dir.path())?);
            used.push(place);
        }
    }
    if let Some(file) = &args.svg {
        chart::draw(&report, file)?;
    }
    let text = if args.output == "json" { report.json()? } else { report.to_string() };
    #[expect(clippy::print_stdout, reason = "the figures are the program's output")]
    {
        println!("{text}");
    }
    Ok(())
}

/// A node with an uplink, and a folder on a tmpfs, as `/run` is one on a real node.
struct Place {
    node: Node,
    dir: tempfile::TempDir,
    _fabric: Fabric,
}

impl Place {
    fn new() -> Result<Self> {
        let segment = Segment::new("a").v4("192.0.2.0/24");
        let mut fabric = Fabric::builder().segment(segment).build().context("make a fabric")?;
        let node = fabric.node("me", "a").context("make the node")?;
        let dir = tempfile::tempdir_in("/dev/shm").context("make a folder")?;
        Ok(Self { node, dir, _fabric: fabric })
    }
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "what is measured has its own pace")]
    std::thread::sleep(time);
}
