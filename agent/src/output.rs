//! The only place that prints: answers to standard output, complaints to standard error.

use std::io::Write as _;

/// Prints an answer.
pub(crate) fn say(text: &str) {
    // A reader that has gone away (`flatnetd status | head -1`) is no failure of ours.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints why a command failed.
pub(crate) fn complain(text: &str) {
    // There is nowhere left to report that standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "flatnetd: {text}");
}
