//! Colour, where it helps: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).

use std::io::IsTerminal;

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

impl Style {
    /// What suits `stream` and the user's wish.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if stream.is_terminal() && !unwanted { Self::Coloured } else { Self::Plain }
    }

    /// A mark for what is so, and one for what is not.
    pub(crate) fn verdict(self, so: bool) -> String {
        if so { self.paint("32", "ok") } else { self.paint("1;31", "NOT SO") }
    }

    /// For headings.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For column names.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// For a table's row that is wrong.
    pub(crate) fn alarm(self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
