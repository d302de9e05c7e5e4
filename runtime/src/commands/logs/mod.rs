//! `logs`: what containers wrote.

mod page;
mod source;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use flatpod::workload::Selector;
use jiff::{SignedDuration, Timestamp};
use netns_fixtures::wait_until;

use super::{Found, NamespaceArg, find, get};
use crate::{
    attach::Stream,
    log::{Reader, Record},
    state::{Attempt, Root},
};
use page::{Page, Rules, Voice};
use source::{Look, Source, Start};

/// How long to wait for more output before looking whether the containers still run.
const LOOK: Duration = Duration::from_millis(200);
/// So many lines of each container are shown of pods that are selected, as by kubectl.
const TAIL: usize = 10;

/// Whose output, and what of it.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The pod, or KIND/NAME for the first one of a workload
    #[arg(required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<String>,
    /// All pods with these labels
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<Selector>,
    /// The container [default: the first]
    #[arg(long, short, conflicts_with = "all_containers")]
    container: Option<String>,
    /// All containers: init containers, the pod's own, debuggers
    #[arg(long)]
    all_containers: bool,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// Go on until the containers end
    #[arg(long, short)]
    follow: bool,
    /// Of the run before the newest
    #[arg(long, short)]
    previous: bool,
    /// Only the last lines; -1 for all [default: all, with -l 10]
    #[arg(long, allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only what is newer than this: 10s, 5m, 1h30m
    #[arg(long, value_name = "AGE", value_parser = age)]
    since: Option<SignedDuration>,
    /// Only what is newer than this: 2026-11-21T03:11:02Z
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    since_time: Option<Timestamp>,
    /// No more bytes than this of each container
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    limit_bytes: Option<u64>,
    /// With the pod and the container of each line
    #[arg(long)]
    prefix: bool,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
}

fn age(text: &str) -> Result<SignedDuration, String> {
    let found = text.parse().ok().filter(SignedDuration::is_positive);
    found.ok_or_else(|| "expected a time as 10s, 5m or 1h30m".to_owned())
}

impl LogsArgs {
    /// Where a container's log is shown from.
    fn start(&self) -> Start {
        let by_default = self.selector.as_ref().map(|_| TAIL);
        let tail = self.tail.map_or(by_default, |tail| usize::try_from(tail).ok());
        Start { previous: self.previous, tail }
    }

    /// What is shown of a container.
    fn rules(&self, found: &Found, container: &str) -> Rules {
        let pod = found.pod.metadata.name.as_deref().unwrap_or_default();
        let prefix = if self.prefix { format!("[pod/{pod}/{container}] ") } else { String::new() };
        let since = self.since.and_then(|age| Timestamp::now().checked_sub(age).ok()).or(self.since_time);
        Rules { prefix: prefix.into_bytes(), timestamps: self.timestamps, since, limit: self.limit_bytes }
    }

    fn pods(&self, root: &Root) -> Result<Vec<Found>> {
        match (&self.selector, &self.pod) {
            (Some(selector), _) => get::labelled(root, &self.namespace, selector),
            (None, Some(pod)) => Ok(vec![find(root, &self.namespace.namespace, pod)?]),
            (None, None) => Ok(vec![]),
        }
    }

    /// The names of those of a pod's containers that were asked for.
    fn containers(&self, found: &Found) -> Result<Vec<String>> {
        if !self.all_containers {
            return Ok(vec![found.container(self.container.as_deref())?.name]);
        }
        found.containers()
    }
}

/// Prints it. Of several containers, those that have said nothing yet are told on stderr, which is a failure.
pub(crate) fn run(root: &Root, args: &LogsArgs) -> Result<ExitCode> {
    let mut chosen = vec![];
    let pods = args.pods(root)?;
    for found in &pods {
        chosen.extend(args.containers(found)?.into_iter().map(|container| (found, container)));
    }
    if chosen.is_empty() {
        let namespace = &args.namespace.namespace;
        writeln!(io::stderr(), "No pods with these labels in namespace {namespace}")
            .context("write to stderr")?;
    }
    let (mut page, mut sources, mut code) = (Page::default(), vec![], ExitCode::SUCCESS);
    for (number, (found, container)) in chosen.iter().enumerate() {
        let voice = Voice::new(number, args.rules(found, container));
        match Source::open(found, container, args.start(), voice, &mut page) {
            Ok(source) if args.follow => sources.push(source),
            Ok(mut source) => source.print(&mut page)?,
            Err(error) if chosen.len() == 1 => return Err(error),
            Err(error) => {
                writeln!(io::stderr(), "error: {error:#}").context("write to stderr")?;
                code = ExitCode::FAILURE;
            }
        }
    }
    follow(sources, &mut page)?;
    Ok(code)
}

/// Prints what is added, from run to run, until the pods run the containers no more.
fn follow(mut sources: Vec<Source>, page: &mut Page) -> Result<()> {
    while !sources.is_empty() {
        let mut idle = true;
        let mut left = vec![];
        for mut source in sources {
            let seen = source.go_on(page)?;
            idle &= seen != Look::Something;
            if seen != Look::Over {
                left.push(source);
            }
        }
        sources = left;
        if idle && !sources.is_empty() {
            // Whether it came true does not matter.
            let _ = wait_until("more output", LOOK, || sources.iter().any(Source::has_grown).then_some(()));
        }
    }
    Ok(())
}

/// Prints all that a run has written so far, each stream to its own, as who is attached sees it.
pub(super) fn print_apart(attempt: &Attempt) -> Result<()> {
    let Some(mut reader) = Reader::oldest(attempt.log())? else { return Ok(()) };
    let mut rest = vec![];
    loop {
        let bytes = reader.read()?;
        if bytes.is_empty() {
            return Ok(());
        }
        rest.extend_from_slice(&bytes);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for record in Record::all(rest.get(..end).unwrap_or_default()) {
            let text = [record.text, if record.is_end { b"\n" } else { b"" }].concat();
            match record.stream {
                Stream::Stdout => io::stdout().write_all(&text).context("write to stdout")?,
                Stream::Stderr => io::stderr().write_all(&text).context("write to stderr")?,
            }
        }
        rest.drain(..end);
        io::stdout().flush().context("write to stdout")?;
    }
}
