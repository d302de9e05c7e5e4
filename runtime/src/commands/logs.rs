//! `logs`: what a container wrote.

use std::{
    io::{self, Write as _},
    ops::RangeInclusive,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use netns_fixtures::wait_until;

use super::Found;
use crate::{
    log::{self, Reader},
    state::{Attempt, Root},
};

/// How long to wait for more output before looking whether the container still runs.
const LOOK: Duration = Duration::from_millis(200);

/// Whose output.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    of: super::ContainerArg,
    /// Go on until the container ends
    #[arg(long, short)]
    follow: bool,
    /// Of the run before the newest
    #[arg(long, short)]
    previous: bool,
    /// Only the last lines
    #[arg(long)]
    tail: Option<usize>,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
}

/// Prints it.
pub(crate) fn run(root: &Root, args: &LogsArgs) -> Result<ExitCode> {
    let found = args.of.find(root)?;
    let container = found.container(args.of.container.as_deref())?.name.clone();
    let Some(record) = found.dir.container(&container)? else {
        bail!("container {container} in pod {:?} is waiting to start", args.of.pod);
    };
    let number = if args.previous {
        let before = record.attempt.checked_sub(1);
        before.with_context(|| {
            format!("previous terminated container {container} in pod {:?} not found", args.of.pod)
        })?
    } else {
        record.attempt
    };
    let open = |number| {
        let attempt = found.dir.attempt(&container, number);
        opened(&attempt, args.tail).map(|opened| opened.map(|(text, reader)| (attempt, number, text, reader)))
    };
    // While a run is only being made, the one before is the newest that has said something.
    let newest = match (open(number)?, number.checked_sub(1)) {
        (None, Some(before)) if !args.previous => open(before)?,
        (newest, _) => newest,
    };
    let Some((attempt, number, text, mut reader)) = newest else {
        bail!("container {container} in pod {:?} is waiting to start", args.of.pod);
    };
    let skipped = args.tail.map_or(0, |tail| tail_start(&text, tail));
    let mut printer = Printer::new(args.timestamps);
    printer.feed(text.get(skipped..).unwrap_or_default())?;
    printer.print(&mut reader)?;
    if args.follow {
        follow(&found, &container, (attempt, number), (reader, printer))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The text from which on the last lines are to be looked for, and a reader of what comes after it.
fn opened(attempt: &Attempt, tail: Option<usize>) -> Result<Option<(Vec<u8>, Reader)>> {
    match tail {
        None => Ok(Reader::oldest(attempt.log())?.map(|reader| (vec![], reader))),
        Some(count) => log::last(attempt.log(), |text| count == 0 || tail_start(text, count) > 0),
    }
}

/// Prints all that a run has written so far.
pub(super) fn print(attempt: &Attempt) -> Result<()> {
    match Reader::oldest(attempt.log())? {
        Some(mut reader) => Printer::new(false).print(&mut reader).map(drop),
        None => Ok(()),
    }
}

/// Prints what is added, from run to run, until the pod runs the container no more.
fn follow(
    found: &Found,
    container: &str,
    (mut attempt, mut number): (Attempt, u32),
    (mut reader, mut printer): (Reader, Printer),
) -> Result<()> {
    loop {
        // In this order: what is written before the end is read after it was seen.
        let over = attempt.ended()?.is_some();
        if printer.print(&mut reader)? {
            continue;
        }
        if over {
            let record = found.dir.container(container)?;
            let Some(record) = record.filter(|record| record.attempt > number) else {
                return Ok(());
            };
            let next = || next_run(found, container, number + 1..=record.attempt).transpose();
            if let Ok(next) = wait_until("the next run's log", LOOK, next) {
                (number, reader) = next?;
                attempt = found.dir.attempt(container, number);
            } else if found.dir.attempt(container, record.attempt).ended()?.is_some() {
                // It could not even be started.
                number = record.attempt;
            }
        }
        // Whether it came true does not matter.
        let _ = wait_until("more output", LOOK, || grown(&reader, &attempt).then_some(()));
        if !found.dir.path().exists() {
            return Ok(());
        }
    }
}

/// The first of these runs that has a log: those before the last one may be forgotten already.
fn next_run(
    found: &Found,
    container: &str,
    mut numbers: RangeInclusive<u32>,
) -> Result<Option<(u32, Reader)>> {
    numbers
        .find_map(|number| {
            let opened = Reader::oldest(found.dir.attempt(container, number).log()).transpose()?;
            Some(opened.map(|reader| (number, reader)))
        })
        .transpose()
}

fn grown(reader: &Reader, attempt: &Attempt) -> bool {
    reader.has_more() || attempt.ended().is_ok_and(|ended| ended.is_some())
}

/// Where the last `count` whole lines begin.
fn tail_start(text: &[u8], count: usize) -> usize {
    let mut ends = vec![];
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.splitn(4, |byte| *byte == b' ').nth(2).is_some_and(|tag| tag == b"F");
        start += line.len();
        if whole {
            ends.push(start);
        }
    }
    // An unfinished line at the end is a line.
    if ends.last() != Some(&text.len()) {
        ends.push(text.len());
    }
    match ends.len().checked_sub(count) {
        None | Some(0) => 0,
        Some(skipped) => ends.get(skipped - 1).copied().unwrap_or(0),
    }
}

/// Takes records apart again.
struct Printer {
    timestamps: bool,
    pending: Vec<u8>,
    fresh_line: bool,
}

impl Printer {
    fn new(timestamps: bool) -> Self {
        Self { timestamps, pending: vec![], fresh_line: true }
    }

    /// Prints what there is by now; answers whether that was something.
    fn print(&mut self, reader: &mut Reader) -> Result<bool> {
        let mut some = false;
        loop {
            let bytes = reader.read()?;
            if bytes.is_empty() {
                return Ok(some);
            }
            some = true;
            self.feed(&bytes)?;
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let records: Vec<u8> = self.pending.drain(..end).collect();
        let (mut out, mut err) = (vec![], vec![]);
        for record in records.split(|byte| *byte == b'\n').filter(|record| !record.is_empty()) {
            let mut fields = record.splitn(4, |byte| *byte == b' ');
            let (time, stream, tag) = (fields.next(), fields.next(), fields.next());
            let into = if stream == Some(b"stderr") { &mut err } else { &mut out };
            if self.timestamps && self.fresh_line {
                into.extend_from_slice(time.unwrap_or_default());
                into.push(b' ');
            }
            into.extend_from_slice(fields.next().unwrap_or_default());
            self.fresh_line = tag == Some(b"F");
            if self.fresh_line {
                into.push(b'\n');
            }
        }
        io::stdout().write_all(&out).and_then(|()| io::stdout().flush()).context("write to stdout")?;
        io::stderr().write_all(&err).context("write to stderr")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines() {
        let text = b"t stdout F one\nt stdout P tw\nt stdout F o\nt stdout P thr\n";
        let tail = |count| String::from_utf8_lossy(&text[tail_start(text, count)..]).into_owned();
        assert_eq!(tail(1), "t stdout P thr\n");
        assert_eq!(tail(2), "t stdout P tw\nt stdout F o\nt stdout P thr\n");
        assert_eq!(tail(9), String::from_utf8_lossy(text));
        assert_eq!(tail(0), "");
    }
}
