//! Where the output of several containers comes together: every line whole, none in the middle of another.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::{attach::Stream, log::Record};

/// A line that is longer in bytes is shown in pieces: nobody knows whether it ever ends.
const LINE: usize = 1 << 20;

/// What is about to be printed.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: Vec<u8>,
    /// Whose line has not ended yet.
    open: Option<(usize, Stream)>,
}

impl Page {
    /// Adds to a line, or begins one with its prefix.
    fn put(&mut self, from: (usize, Stream), prefix: &[u8], text: &[u8]) {
        if self.open != Some(from) {
            if self.open.is_some() {
                self.text.push(b'\n');
            }
            self.text.extend_from_slice(prefix);
        }
        self.text.extend_from_slice(text);
        self.open = (!text.ends_with(b"\n")).then_some(from);
    }

    /// Prints it.
    pub(super) fn print(&mut self) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.text).and_then(|()| out.flush()).context("write to stdout")?;
        self.text.clear();
        Ok(())
    }
}

/// What is shown of a container's output, and how.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// What every line begins with.
    pub(super) prefix: Vec<u8>,
    pub(super) timestamps: bool,
    /// Lines before are left out.
    pub(super) since: Option<Timestamp>,
    /// So many bytes at most, without prefixes.
    pub(super) limit: Option<u64>,
}

/// The output of one container: records that become lines.
#[derive(Debug)]
pub(super) struct Voice {
    /// Which of those who share the page.
    number: usize,
    rules: Rules,
    /// The beginning of a record.
    record: Vec<u8>,
    lines: BTreeMap<Stream, Line>,
}

/// A line that has not ended yet.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    /// Whether it is too old to be shown.
    is_hidden: bool,
}

impl Voice {
    pub(super) fn new(number: usize, rules: Rules) -> Self {
        Self { number, rules, record: vec![], lines: BTreeMap::new() }
    }

    /// Whether there may be no more of it.
    pub(super) fn is_spent(&self) -> bool {
        self.rules.limit == Some(0)
    }

    /// Takes what was read from a log, and puts the lines that end in it onto the page.
    pub(super) fn feed(&mut self, bytes: &[u8], page: &mut Page) {
        self.record.extend_from_slice(bytes);
        let end = self.record.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let records: Vec<u8> = self.record.drain(..end).collect();
        for record in Record::all(&records) {
            let line = self.lines.entry(record.stream).or_insert_with(|| self.rules.begun(record.time));
            line.text.extend_from_slice(record.text);
            if record.is_end {
                line.text.push(b'\n');
            }
            if record.is_end || line.text.len() > LINE {
                put(page, (self.number, record.stream), &mut self.rules, line);
            }
            if record.is_end {
                self.lines.remove(&record.stream);
            }
        }
    }

    /// Puts lines that have no end onto the page.
    pub(super) fn finish(&mut self, page: &mut Page) {
        for (stream, line) in &mut self.lines {
            put(page, (self.number, *stream), &mut self.rules, line);
        }
    }
}

impl Rules {
    /// A line that begins with a record of this time.
    fn begun(&self, time: &[u8]) -> Line {
        let written = || str::from_utf8(time).ok()?.parse::<Timestamp>().ok();
        let is_hidden = self.since.is_some_and(|since| written().is_some_and(|written| written < since));
        let text = if self.timestamps { [time, b" "].concat() } else { vec![] };
        Line { text, is_hidden }
    }
}

/// Puts what there is of a line onto the page, as far as it may be shown.
fn put(page: &mut Page, from: (usize, Stream), rules: &mut Rules, line: &mut Line) {
    let mut text = std::mem::take(&mut line.text);
    if line.is_hidden || text.is_empty() {
        return;
    }
    if let Some(left) = &mut rules.limit {
        text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left = left.saturating_sub(text.len().try_into().unwrap_or(u64::MAX));
        if text.is_empty() {
            return;
        }
    }
    page.put(from, &rules.prefix, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voices(rules: &Rules) -> [Voice; 2] {
        [0, 1].map(|number| {
            Voice::new(number, Rules { prefix: format!("{number}: ").into_bytes(), ..rules.clone() })
        })
    }

    fn text(page: &Page) -> &str {
        str::from_utf8(&page.text).unwrap()
    }

    #[test]
    fn lines_of_several_stay_whole() {
        let (mut page, [mut a, mut b]) = (Page::default(), voices(&Rules::default()));
        a.feed(b"t stdout P on\nt stderr F other\nt stdout F e\nt stdout P la", &mut page);
        b.feed(b"t stdout F two\n", &mut page);
        a.feed(b"st\n", &mut page);
        a.finish(&mut page);
        b.feed(b"t stdout F \nt stdout F three\n", &mut page);
        assert_eq!(text(&page), "0: other\n0: one\n1: two\n0: last\n1: \n1: three\n");
    }

    #[test]
    fn what_does_not_end_is_shown_in_pieces() {
        let (mut page, [mut a, mut b]) = (Page::default(), voices(&Rules::default()));
        let piece = format!("t stdout P {}\n", "x".repeat(LINE / 2 + 1));
        (0..4).for_each(|_| a.feed(piece.as_bytes(), &mut page));
        assert_eq!(
            text(&page),
            format!("0: {}", "x".repeat(2 * LINE + 4)),
            "one line as long as nobody disturbs it"
        );
        b.feed(b"t stdout F b\n", &mut page);
        a.feed(b"t stdout F end\n", &mut page);
        assert!(text(&page).ends_with("x\n1: b\n0: end\n"));
    }

    #[test]
    fn times_and_limits() {
        let since = Some("2026-11-21T03:11:02.5Z".parse().unwrap());
        let (mut page, rules) =
            (Page::default(), Rules { since, timestamps: true, limit: Some(40), ..Rules::default() });
        let [mut a, mut b] = voices(&rules);
        a.feed(
            b"2026-11-21T03:11:02.4Z stdout P old\n2026-11-21T03:11:02.6Z stdout F , still old\n",
            &mut page,
        );
        assert_eq!(text(&page), "");
        a.feed(b"2026-11-21T03:11:02.500000000Z stdout F new\n", &mut page);
        a.feed(b"2026-11-21T03:11:02.500000000Z stdout F newer\n", &mut page);
        assert!(a.is_spent() && !b.is_spent());
        b.feed(b"2026-11-21T03:11:03.000000000Z stdout F b\n", &mut page);
        let shown = "0: 2026-11-21T03:11:02.500000000Z new\n0: 2026-\n1: 2026-11-21T03:11:03.000000000Z b\n";
        assert_eq!(text(&page), shown);
    }
}
