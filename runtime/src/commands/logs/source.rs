//! A container's log, from run to run.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};

use super::page::{Page, Voice};
use crate::{
    commands::Found,
    log::{self, Reader, Record},
    state::{Attempt, PodDir},
};

/// A place in what a container wrote.
#[derive(Debug)]
pub(super) struct Source {
    dir: PodDir,
    container: String,
    attempt: Attempt,
    number: u32,
    reader: Reader,
    voice: Voice,
    /// Whether the run is known to have ended.
    ended: bool,
}

/// What became of a look at a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Something,
    Nothing,
    /// There will never be more.
    Over,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// With the run before the newest.
    pub(super) previous: bool,
    /// With so many lines before the end.
    pub(super) tail: Option<usize>,
}

impl Source {
    /// What a container of a pod wrote; what `start` skips is skipped, what is to be shown at once is on the page.
    pub(super) fn open(
        found: &Found,
        container: &str,
        start: Start,
        mut voice: Voice,
        page: &mut Page,
    ) -> Result<Self> {
        let pod = found.pod.metadata.name.as_deref().unwrap_or_default();
        let Some(record) = found.dir.container(container)? else {
            bail!("container {container} in pod {pod:?} is waiting to start");
        };
        let number = if start.previous {
            let before = record.attempt.checked_sub(1);
            before.with_context(|| {
                format!("previous terminated container {container} in pod {pod:?} not found")
            })?
        } else {
            record.attempt
        };
        let open = |number| {
            let attempt = found.dir.attempt(container, number);
            opened(&attempt, start.tail)
                .map(|opened| opened.map(|(text, reader)| (attempt, number, text, reader)))
        };
        // While a run is only being made, the one before is the newest that has said something.
        let newest = match (open(number)?, number.checked_sub(1)) {
            (None, Some(before)) if !start.previous => open(before)?,
            (newest, _) => newest,
        };
        let Some((attempt, number, text, reader)) = newest else {
            bail!("container {container} in pod {pod:?} is waiting to start");
        };
        let skipped = start.tail.map_or(0, |tail| tail_start(&text, tail));
        voice.feed(text.get(skipped..).unwrap_or_default(), page);
        let (dir, container) = (found.dir.clone(), container.to_owned());
        Ok(Self { dir, container, attempt, number, reader, voice, ended: false })
    }

    /// Prints what there is by now.
    pub(super) fn print(&mut self, page: &mut Page) -> Result<()> {
        while self.read(page)? {}
        self.voice.finish(page);
        page.print()
    }

    /// Prints a piece of what was added, also by the runs that follow.
    pub(super) fn go_on(&mut self, page: &mut Page) -> Result<Look> {
        // In this order: what is written before the end is read after it was seen.
        self.ended = self.attempt.ended()?.is_some();
        if self.read(page)? {
            return Ok(Look::Something);
        }
        if self.voice.is_spent() {
            return Ok(Look::Over);
        }
        if !self.ended {
            return Ok(if self.dir.path().exists() { Look::Nothing } else { Look::Over });
        }
        self.voice.finish(page);
        page.print()?;
        self.next()
    }

    /// Goes to the next run, if there is to be one.
    fn next(&mut self) -> Result<Look> {
        let record = self.dir.container(&self.container)?;
        let Some(record) = record.filter(|record| record.attempt > self.number) else {
            return Ok(Look::Over);
        };
        // In this order: a run that has ended has begun its log, or could not be started.
        let is_lost = self.dir.attempt(&self.container, record.attempt).ended()?.is_some();
        if let Some((number, reader)) = self.next_run(self.number + 1..=record.attempt)? {
            (self.number, self.reader) = (number, reader);
            self.attempt = self.dir.attempt(&self.container, number);
            self.ended = false;
            return Ok(Look::Something);
        }
        if is_lost {
            self.number = record.attempt;
        }
        Ok(Look::Nothing)
    }

    /// The first of these runs that has a log: those before the last one may be forgotten already.
    fn next_run(&self, mut numbers: RangeInclusive<u32>) -> Result<Option<(u32, Reader)>> {
        numbers
            .find_map(|number| {
                let log = self.dir.attempt(&self.container, number);
                let opened = Reader::oldest(log.log()).transpose()?;
                Some(opened.map(|reader| (number, reader)))
            })
            .transpose()
    }

    /// Whether there is something to go on with.
    pub(super) fn has_grown(&self) -> bool {
        self.reader.has_more() || !self.ended && self.attempt.ended().is_ok_and(|ended| ended.is_some())
    }

    /// Prints a piece; answers whether there was one.
    fn read(&mut self, page: &mut Page) -> Result<bool> {
        if self.voice.is_spent() {
            return Ok(false);
        }
        let bytes = self.reader.read()?;
        self.voice.feed(&bytes, page);
        page.print()?;
        Ok(!bytes.is_empty())
    }
}

/// The text from which on the last lines are to be looked for, and a reader of what comes after it.
fn opened(attempt: &Attempt, tail: Option<usize>) -> Result<Option<(Vec<u8>, Reader)>> {
    match tail {
        None => Ok(Reader::oldest(attempt.log())?.map(|reader| (vec![], reader))),
        Some(count) => log::last(attempt.log(), |text| count == 0 || tail_start(text, count) > 0),
    }
}

/// Where the last `count` whole lines begin.
fn tail_start(text: &[u8], count: usize) -> usize {
    let mut ends = vec![];
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        start += line.len();
        if Record::of(line).is_end {
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
