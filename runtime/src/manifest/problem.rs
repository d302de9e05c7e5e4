//! What is wrong with a manifest, and what in it has no effect here.

use std::{collections::BTreeMap, fmt};

use super::path::Path;

/// Where something was read: a file or `stdin`, and the object in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The file's path, or `stdin`.
    pub file: String,
    /// The object as `kind/name`, if that much could be read.
    pub object: Option<String>,
}

/// One thing that keeps a manifest from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The line in the file, from 1.
    pub line: Option<usize>,
    /// The field; the root if it is the whole object.
    pub path: Path,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(object) = &self.place.object {
            write!(f, ": {object}")?;
        }
        if self.path != Path::root() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A field that is accepted but has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The object as `kind/name`.
    pub object: String,
    /// The field.
    pub path: Path,
    /// Why it has no effect.
    pub why: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: no effect here: {}", self.object, self.path, self.why)
    }
}

/// Collects what is found in one object.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Problems as path and message, in the order they were found.
    problems: Vec<(Path, Option<usize>, String)>,
    /// Fields without effect, and why.
    notices: Vec<(Path, String)>,
    /// On which line each field is.
    lines: BTreeMap<Path, usize>,
    /// Whether a field could not be read at all.
    broken: bool,
}

impl Report {
    /// Remembers on which line `path` is.
    pub(super) fn at(&mut self, path: &Path, line: usize) {
        self.lines.insert(path.clone(), line);
    }

    /// Something is wrong with `path`.
    pub(super) fn problem(&mut self, path: &Path, message: impl Into<String>) {
        let line = self.line(path);
        self.problems.push((path.clone(), line, message.into()));
    }

    /// Something is wrong with `path` on a line that need not be the field's own.
    pub(super) fn problem_on(&mut self, line: usize, path: &Path, message: impl Into<String>) {
        self.problems.push((path.clone(), Some(line), message.into()));
    }

    /// A value is missing.
    pub(super) fn required(&mut self, path: &Path, why: &str) {
        self.problem(
            path,
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") },
        );
    }

    /// A value is not one that there can be.
    pub(super) fn invalid(&mut self, path: &Path, value: impl fmt::Debug, why: &str) {
        self.problem(path, format!("Invalid value: {value:?}: {why}"));
    }

    /// A value is not one of a list.
    pub(super) fn unsupported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        self.problem(path, format!("Unsupported value: {value:?}: supported values: {}", list.join(", ")));
    }

    /// A value that must be unique is not.
    pub(super) fn duplicate(&mut self, path: &Path, value: &str) {
        self.problem(path, format!("Duplicate value: {value:?}"));
    }

    /// A value that must name something names nothing.
    pub(super) fn not_found(&mut self, path: &Path, value: &str) {
        self.problem(path, format!("Not found: {value:?}"));
    }

    /// A field must not be there.
    pub(super) fn forbidden(&mut self, path: &Path, why: &str) {
        self.problem(path, format!("Forbidden: {why}"));
    }

    /// `path` has no effect.
    pub(super) fn notice(&mut self, path: &Path, why: impl Into<String>) {
        self.notices.push((path.clone(), why.into()));
    }

    /// A field is unknown or of the wrong type, so that what was read is not what was meant.
    pub(super) fn unreadable(&mut self, line: usize, path: &Path, message: impl Into<String>) {
        self.broken = true;
        self.problem_on(line, path, message);
    }

    /// Whether checking further would only complain about what follows from unreadable fields.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// Whether something is wrong with `path` or a part of it.
    pub(super) fn has_below(&self, path: &Path) -> bool {
        self.problems.iter().any(|(at, _, _)| at.is_within(path))
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The line of the field or of what it would be in.
    fn line(&self, path: &Path) -> Option<usize> {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(line) = self.lines.get(&path) {
                return Some(*line);
            }
            at = path.parent();
        }
        None
    }

    /// What was found, in the order of the file.
    pub(super) fn finish(self, place: &Place) -> (Vec<Problem>, Vec<Notice>) {
        let mut problems: Vec<Problem> = self
            .problems
            .into_iter()
            .map(|(path, line, message)| Problem { place: place.clone(), line, path, message })
            .collect();
        problems.sort_by_key(|problem| problem.line);
        let object = place.object.clone().unwrap_or_default();
        let notices = self
            .notices
            .into_iter()
            .map(|(path, why)| Notice { object: object.clone(), path, why })
            .collect();
        (problems, notices)
    }
}
