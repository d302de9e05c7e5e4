//! A cluster file as it was read last, with the place of every node in it: of a file in which few nodes are
//! others, only those are read. Where that is not certain to give what reading the whole gives, it is not done.

use std::ops::Range;
use std::sync::Arc;

use flatnet_core::overlay::cluster::{Cluster, RawNode};

use crate::yaml;

/// In YAML these can tie one place of a text to another: anchors, aliases, block scalars, escapes.
const TIES: &[u8] = b"&*|>\\";

/// A file that was read, and what it says.
#[derive(Debug)]
pub(super) struct Listing {
    text: String,
    cluster: Arc<Cluster>,
    form: Form,
    /// Where each node begins, and where the list ends.
    marks: Vec<usize>,
}

/// How nodes are told apart. Each begins on a line of its own, all as far to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    indent: usize,
    /// What a node begins with.
    start: &'static str,
}

impl Form {
    const YAML: &str = "- ";
    const JSON: &str = "{";

    /// Of the node that the line begins, if it begins one.
    fn of(line: &str, start: &'static str) -> Option<Self> {
        let indent = line.bytes().take_while(|byte| *byte == b' ').count();
        line[indent..].starts_with(start).then_some(Self { indent, start })
    }

    /// How many bytes show that a node begins.
    const fn width(self) -> usize {
        self.indent + self.start.len()
    }

    fn starts(self, line: &str) -> bool {
        Self::of(line, self.start) == Some(self)
    }

    /// Whether a line can be part of a list of nodes, or says nothing.
    fn is_inside(self, line: &str) -> bool {
        let rest = line.trim_start_matches(' ');
        rest.trim_end().is_empty() || line.len() - rest.len() > self.indent || self.starts(line)
    }

    /// Reads a part of the list, which `ends` it or not.
    fn read(self, part: &str, ends: bool) -> Option<Vec<RawNode>> {
        if self.start == Self::YAML {
            return yaml::read(part).ok();
        }
        let (inner, more) = part.trim_end().strip_suffix(',').map_or((part, false), |inner| (inner, true));
        (more != ends).then(|| serde_json::from_str(&format!("[{inner}]")).ok())?
    }
}

/// The lines of `text`, each with where it begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    })
}

impl Listing {
    /// Of `text`, which says `cluster`. `None` where it is not written one node after the other.
    pub(super) fn of(text: String, cluster: Arc<Cluster>) -> Option<Self> {
        let json = text.trim_start().starts_with('{');
        let start = if json { Form::JSON } else { Form::YAML };
        if !json && text.bytes().any(|byte| TIES.contains(&byte)) {
            return None;
        }
        // The first line of JSON begins the whole.
        let (_, form) = lines(&text).skip(1).find_map(|(at, line)| Some((at, Form::of(line, start)?)))?;
        let mut marks: Vec<usize> =
            lines(&text).skip(1).filter(|(_, line)| form.starts(line)).map(|(at, _)| at).collect();
        // Braces in a list are a node's; others follow the name of what they are.
        let in_list = |mark: &usize| !json || text[..*mark].trim_end().ends_with(['[', ',']);
        if marks.len() != cluster.nodes.len() || !marks.iter().all(in_list) {
            return None;
        }
        let last = *marks.last()?;
        // A brace that closes the last node of JSON is as far to the right as the one that opens it.
        let closes = |line: &str| json && line.as_bytes().get(form.indent) == Some(&b'}');
        let end = lines(&text[last..]).skip(1).find(|(_, line)| !form.is_inside(line) && !closes(line));
        marks.push(end.map_or(text.len(), |(at, _)| last + at));
        Some(Self { text, cluster, form, marks })
    }

    /// Reads `text`, which differs in few nodes. `None` where the whole has to be read.
    pub(super) fn follow(&self, text: &str) -> Option<Self> {
        let which = self.changed(text.as_bytes())?;
        let (from, mark) = (*self.marks.get(which.start)?, *self.marks.get(which.end)?);
        let to = text.len() - (self.text.len() - mark);
        let ends = which.end + 1 == self.marks.len();
        let part = text.get(from..to)?;
        let whole = match part.chars().next_back() {
            None => !ends,
            Some(last) => last == '\n' || to == text.len(),
        };
        let json = self.form.start == Form::JSON;
        let inside = |part: &str| {
            let ties = part.bytes().any(|byte| TIES.contains(&byte));
            !ties && lines(part).all(|(_, line)| self.form.is_inside(line))
        };
        if !whole || !json && !inside(part) {
            return None;
        }
        let raw = if part.is_empty() { Vec::new() } else { self.form.read(part, ends)? };
        let inner = lines(part).filter(|(_, line)| self.form.starts(line)).map(|(at, _)| from + at);
        let mut marks = self.marks[..which.start].to_vec();
        marks.extend(inner);
        if marks.len() != which.start + raw.len() {
            return None;
        }
        marks.extend(self.marks[which.end..].iter().map(|after| after - mark + to));
        let cluster = Arc::new(self.cluster.splice(which, &raw)?);
        Some(Self { text: text.to_owned(), cluster, form: self.form, marks })
    }

    /// Which nodes are others in `new`: all before them, and all after them with the rest of the text, are the
    /// same bytes, and begin where a node begins.
    fn changed(&self, new: &[u8]) -> Option<Range<usize>> {
        let old = self.text.as_bytes();
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        // The last that begins as it did may go on in another way.
        let begin = self.marks.partition_point(|mark| mark + self.form.width() <= same);
        let first = begin.min(self.marks.len() - 1).checked_sub(1)?;
        let from = *self.marks.get(first)?;
        let most = (old.len() - from).min(new.len() - from);
        let same = old.iter().rev().zip(new.iter().rev()).take(most);
        let same = same.take_while(|(old, new)| old == new).count();
        let last = first + self.marks[first..].partition_point(|mark| old.len() - mark > same);
        (last < self.marks.len()).then_some(first..last)
    }

    /// What it says.
    pub(super) const fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

#[cfg(test)]
mod tests;
