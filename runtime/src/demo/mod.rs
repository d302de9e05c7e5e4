//! `flatpod demo`: a cluster of simulated nodes with the examples on it, built, proven and removed, by the commands
//! that a user would give.

mod examples;
mod fault;
mod reach;
mod removal;
mod report;
mod stage;
mod wire;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};

use self::{
    report::{Report, Row, Section},
    stage::Stage,
};
use crate::{
    carriage::{Backend, Carriage},
    cgroup::Cgroup,
    cli::{DemoArgs, Output},
    commands::check::container,
    enclosure,
    print::Style,
    programs::Programs,
    state::Root,
};

/// Something hangs when it takes this long: it is a matter of seconds.
const LIMIT: Duration = Duration::from_secs(120);
/// The labels of the example that is on every node.
const SERVERS: &str = "app=server";
const CLIENTS: &str = "app=client";
const ALL_PODS: &str = "app in (server, client)";
/// The node behind the router.
const FAR: &str = "n3";

/// A look at the running cluster.
type Check = fn(&Stage, Carriage) -> Result<Vec<Section>>;

/// What is looked at, in this order: a node fails after all else, and everything is removed in the end.
const CHECKS: [(&str, Check); 8] = [
    ("every pod to every other one, by TCP, UDP and ping", |stage, _| reach::check(stage)),
    ("every client asks every server", |stage, _| Ok(vec![examples::spread_out(stage)?])),
    ("capturing on the fabric", |stage, how| Ok(vec![wire::check(stage, how)?])),
    ("the other examples", |stage, _| examples::small(stage)),
    ("namespaces of pods and containers", |stage, _| Ok(vec![isolation(stage)?])),
    ("a node fails", |stage, _| Ok(vec![fault::fail(stage)?])),
    ("it is healed", |stage, _| Ok(vec![fault::heal(stage)?])),
    ("removing everything", |stage, _| Ok(vec![removal::check(stage)?])),
];

/// Runs the demonstration in an enclosure that leaves nothing behind.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let carriage = args.carriage.carriage()?;
    let programs = Programs::find(args.bin_dir.as_deref())?;
    let dir = programs.flatnet.parent().context("a program is in a directory")?;
    // On a tmpfs of its own, but its cgroups are beside those of others.
    let root = PathBuf::from(format!("/run/flatpod-demo-{}", std::process::id()));
    let inside = || match show(args.output, carriage, dir, &root) {
        Ok(code) => code,
        Err(error) => {
            // There is nowhere else to say that stderr is closed.
            let _ = writeln!(io::stderr(), "flatpod: {error:#}");
            ExitCode::FAILURE
        }
    };
    enclosure::run(LIMIT, inside, || remove_cgroups(&root))
}

/// Removes what no namespace takes with it.
fn remove_cgroups(root: &Path) -> Result<()> {
    let cgroup = Cgroup::at(&Root::cgroup_of(root))?;
    cgroup.kill()?;
    cgroup.remove()
}

fn show(output: Output, carriage: Carriage, bin_dir: &Path, root: &Path) -> Result<ExitCode> {
    let stage = Stage::new(root)?;
    up(&stage, carriage, bin_dir)?;
    examples::spread(&stage)?;
    let mut sections = vec![];
    for (doing, check) in CHECKS {
        stage.say(doing)?;
        let checked = check(&stage, carriage);
        sections.extend(checked.unwrap_or_else(|error| vec![Section::broken(doing, &error)]));
    }
    let report = Report::new(carriage.backend.name(), sections, stage.since.elapsed());
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

/// Three nodes, the last one behind a router, which knows no pod routes.
fn up(stage: &Stage, carriage: Carriage, bin_dir: &Path) -> Result<()> {
    let bin_dir = bin_dir.to_str().context("--bin-dir has no plain name")?;
    let far = if carriage.backend == Backend::Direct { "0" } else { "1" };
    let nodes = ["up", "--nodes", "3", "--far", far, "--node-grace", "1", "--bin-dir", bin_dir];
    stage.flatpod(&[&nodes[..], &carriage.options()].concat()).map(drop)
}

/// What a pod's containers share, and what each has for itself.
fn isolation(stage: &Stage) -> Result<Section> {
    let mut rows = vec![];
    for name in ["web-and-content", "log-tailer", "localhost-proxy"] {
        let proofs = container::proofs(&stage.subject(name)?)?;
        rows.extend(
            proofs
                .into_iter()
                .map(|proof| Row::new(format!("{name}: {}", proof.claim), proof.evidence, proof.ok)),
        );
    }
    let claim = "Containers of a pod share its net, ipc and uts namespaces; each has its own pid and mnt";
    Ok(Section::new(claim, "pod", rows))
}
