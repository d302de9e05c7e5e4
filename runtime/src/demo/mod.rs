//! `flatpod demo`: a flat pod network, built, proven and removed.

mod cluster;
mod cni_exec;
pub(crate) mod container;
mod detach;
mod fault;
mod isolation;
mod node;
mod plan;
mod ports;
mod reach;
mod report;
mod sandbox;
mod wire;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    cli::{DemoArgs, Output},
    enclosure,
    print::Style,
};
use cluster::Cluster;
pub(crate) use node::Programs;
use plan::Carriage;
use report::{Report, Section};

/// Something hangs when it takes this long: it is a matter of seconds.
const LIMIT: Duration = Duration::from_secs(90);

/// The exit status for a command line that contradicts itself, as clap's own.
const WRONG_USAGE: u8 = 2;

/// A look at the running cluster.
type Check = fn(&Cluster, Carriage) -> Result<Vec<Section>>;

/// What is looked at, in this order: detaching the pods comes last.
const CHECKS: [(&str, Check); 7] = [
    ("every pod to every other one, by TCP, UDP and ping", |cluster, _| reach::check(cluster)),
    ("ports and localhost", |cluster, _| Ok(vec![ports::check(cluster)?])),
    ("namespaces of pods and containers", |cluster, _| Ok(vec![isolation::check(cluster)?])),
    ("capturing on the fabric", |cluster, how| Ok(vec![wire::check(cluster, how)?])),
    ("cutting node n2 off", |cluster, _| Ok(vec![fault::cut(cluster)?])),
    ("healing node n2", |cluster, _| Ok(vec![fault::heal(cluster)?])),
    ("detaching the pods", |cluster, _| Ok(vec![detach::check(cluster)?])),
];

/// Runs the demonstration in an enclosure that leaves nothing behind.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let carriage = match Carriage::new(args.backend, args.underlay) {
        Ok(carriage) => carriage,
        Err(contradiction) => {
            writeln!(io::stderr(), "flatpod: {contradiction:#}").context("write the error")?;
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let programs = Programs::find(args.bin_dir.as_deref())?;
    enclosure::run(LIMIT, || match show(args.output, carriage, &programs) {
        Ok(code) => code,
        Err(error) => {
            // There is nowhere else to say that stderr is closed.
            let _ = writeln!(io::stderr(), "flatpod: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn show(output: Output, carriage: Carriage, programs: &Programs) -> Result<ExitCode> {
    let progress = Progress::start();
    progress.say("building the fabric, starting flatnetd on three nodes")?;
    let mut cluster = Cluster::build(carriage, programs)?;
    progress.say("starting five pods by the CNI protocol")?;
    cluster.start_pods()?;
    progress.say("waiting until the agents' routes carry packets")?;
    let mut sections = Vec::new();
    if let Err(error) = cluster.settle() {
        sections.push(Section::broken("The agents' routes carry packets", &error));
    }
    for (doing, check) in CHECKS {
        progress.say(doing)?;
        let checked = check(&cluster, carriage);
        sections.extend(checked.unwrap_or_else(|error| vec![Section::broken(doing, &error)]));
    }
    let report = Report::new(carriage.backend.name(), sections, progress.since.elapsed());
    let mut out = io::stdout().lock();
    match output {
        Output::Table => {
            writeln!(out)?;
            report.write(&mut out, Style::of(&io::stdout()))
        }
        Output::Json => report.write_json(&mut out),
    }
    .and_then(|()| out.flush())
    .context("write the report")?;
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line on stderr for each thing begun, so that nobody wonders what is going on.
struct Progress {
    since: Instant,
    style: Style,
}

impl Progress {
    fn start() -> Self {
        Self { since: Instant::now(), style: Style::of(&io::stderr()) }
    }

    fn say(&self, doing: &str) -> Result<()> {
        let at = self.style.faint(&format!("{:5.1}s", self.since.elapsed().as_secs_f64()));
        writeln!(io::stderr(), "{at}  {doing}").context("write progress")
    }
}
