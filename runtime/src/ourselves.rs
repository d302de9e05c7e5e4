//! This program, started again as something else.

use std::{
    fs::File,
    process::{Command, Stdio},
};

/// Where the running program is, whatever has become of its file. Never `argv[0]`, which may be another by now.
pub(crate) const PATH: &str = "/proc/self/exe";

/// A command that runs this program.
#[expect(clippy::disallowed_methods, reason = "this is where the program starts itself")]
pub(crate) fn command() -> Command {
    Command::new(PATH)
}

/// A command that runs it with nobody to talk to but `log`.
pub(crate) fn in_background(log: File) -> Command {
    let mut command = command();
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}
