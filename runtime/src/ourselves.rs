//! This program, started again as something else.

use std::{
    fs::File,
    io::{self, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
};

/// Where the running program is, whatever has become of its file. Never `argv[0]`, which may be another by now.
pub(crate) const PATH: &str = "/proc/self/exe";

/// A command that runs this program.
#[expect(clippy::disallowed_methods, reason = "this is where the program starts itself")]
pub(crate) fn command() -> Command {
    Command::new(PATH)
}

/// What one of our processes that has ended said was wrong, or else how it ended.
pub(crate) fn complaint(child: &mut Child, status: ExitStatus) -> io::Result<String> {
    let mut told = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut told)?;
    }
    let told = told.trim().trim_start_matches("flatpod: ");
    Ok(if told.is_empty() { status.to_string() } else { told.to_owned() })
}

/// A command that runs it with nobody to talk to but `log`.
pub(crate) fn in_background(log: File) -> Command {
    let mut command = command();
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}
