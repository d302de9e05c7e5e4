//! `top`: what pods use of CPUs and memory.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use flatpod::status::is_over;

use super::{
    Found,
    get::{Which, columns, selected},
};
use crate::{
    cgroup::{Cgroup, Usage},
    shim::Order,
    state::{Root, read_json},
};

/// Between the two looks, of which the second less the first is the time that was used.
const SPAN: Duration = Duration::from_secs(1);
const UNKNOWN: &str = "<unknown>";

/// Whose.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    which: Which,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// Without the line that names the columns
    #[arg(long)]
    no_headers: bool,
}

/// A container that runs.
struct Looked {
    namespace: String,
    pod: String,
    name: String,
    cgroup: Cgroup,
    first: Usage,
    at: Instant,
}

/// What a line tells.
struct Line {
    place: [String; 3],
    /// Thousandths of a CPU.
    cpu: Option<u128>,
    memory: Option<u64>,
}

/// Shows it, after two looks.
pub(crate) fn run(root: &Root, args: &TopArgs) -> Result<ExitCode> {
    let mut which = args.which.clone();
    which.names = super::pod_names(&which.names).to_vec();
    let mut all = vec![];
    for found in selected(root, &which)? {
        let running = looked_at(&found)?;
        if running.is_empty() && !which.names.is_empty() {
            bail!("no container of pod {} is running", found.pod.metadata.name.unwrap_or_default());
        }
        all.extend(running);
    }
    if all.is_empty() {
        writeln!(io::stderr(), "No pods are running").context("write to stderr")?;
        return Ok(ExitCode::SUCCESS);
    }
    pause();
    let mut lines: Vec<Line> = vec![];
    for line in all.iter().map(Looked::again) {
        match lines.last_mut() {
            Some(last) if !args.containers && last.place[..2] == line.place[..2] => last.add(&line),
            _ => lines.push(line),
        }
    }
    let shown = columns(&rows(args, &lines));
    io::stdout().write_all(shown.as_bytes()).context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "time has to pass between two looks, nothing is waited for")]
fn pause() {
    thread::sleep(SPAN);
}

/// The containers of a pod that run.
fn looked_at(found: &Found) -> Result<Vec<Looked>> {
    let mut all = vec![];
    if found.dir.status()?.as_ref().is_some_and(is_over) {
        return Ok(all);
    }
    for name in found.containers()? {
        let Some(attempt) = found.running(&name)? else { continue };
        let Some(order) = read_json::<Order>(&attempt.file("order.json"))? else { continue };
        let cgroup = Cgroup::at(&order.cgroup)?;
        let (first, at) = (cgroup.usage(), Instant::now());
        let metadata = &found.pod.metadata;
        let [namespace, pod] =
            [&metadata.namespace, &metadata.name].map(|name| name.clone().unwrap_or_default());
        all.push(Looked { namespace, pod, name, cgroup, first, at });
    }
    Ok(all)
}

impl Looked {
    fn again(&self) -> Line {
        let (usage, span) = (self.cgroup.usage(), self.at.elapsed());
        let used = self.first.cpu.zip(usage.cpu).and_then(|(first, second)| second.checked_sub(first));
        // Rounded up, as by kubectl: something is not nothing.
        let cpu = used.map(|used| (used.as_nanos() * 1000).div_ceil(span.as_nanos().max(1)));
        let place = [self.namespace.clone(), self.pod.clone(), self.name.clone()];
        Line { place, cpu, memory: usage.memory }
    }
}

impl Line {
    /// Adds another container of the same pod. Of what is not known of one the sum is that of the others.
    fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.into_iter().chain(other.cpu).reduce(|a, b| a + b);
        self.memory = self.memory.into_iter().chain(other.memory).reduce(|a, b| a + b);
    }
}

fn rows(args: &TopArgs, lines: &[Line]) -> Vec<Vec<String>> {
    let head = match (args.no_headers, args.containers) {
        (true, _) => None,
        (false, true) => Some(["NAMESPACE", "POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]),
        (false, false) => Some(["NAMESPACE", "NAME", "", "CPU(cores)", "MEMORY(bytes)"]),
    };
    let row = |line: &Line| {
        let cpu = line.cpu.map_or_else(|| UNKNOWN.to_owned(), |cpu| format!("{cpu}m"));
        let memory = line.memory.map_or_else(|| UNKNOWN.to_owned(), |bytes| format!("{}Mi", bytes >> 20));
        let [namespace, pod, name] = line.place.clone();
        [namespace, pod, name, cpu, memory]
    };
    let all = head.map(|head| head.map(str::to_owned)).into_iter().chain(lines.iter().map(row));
    let is_shown = |at: usize| match at {
        0 => args.which.all_namespaces,
        2 => args.containers,
        _ => true,
    };
    all.map(|row| row.into_iter().enumerate().filter(|(at, _)| is_shown(*at)).map(|(_, cell)| cell).collect())
        .collect()
}
