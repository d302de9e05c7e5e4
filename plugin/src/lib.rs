//! One CNI invocation: parameters and configuration in, one answer out. A one-shot process without
//! daemon or network.

mod dispatch;
mod by_hand;
mod repair;
mod context;
mod settings;
mod seen;
mod loopback;
mod delegate;
mod lease;
mod ipam;
mod ports;
mod verbs;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

/// The process's surroundings, injected so that a verb is a function.
pub struct Io<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The file name the program was started under: `loopback` makes it that plugin.
    pub name: String,
    /// Arguments after the program's name; runtimes pass none.
    pub args: Vec<String>,
    /// Where the network configuration comes from.
    pub stdin: &'a mut dyn Read,
    /// Where the one answer goes.
    pub stdout: &'a mut dyn Write,
    /// Where everything else goes.
    pub stderr: &'a mut dyn Write,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("args", &self.args).finish_non_exhaustive()
    }
}

/// Runs one invocation: as a CNI plugin when `CNI_COMMAND` is set, for a person otherwise.
pub fn run(io: &mut Io<'_>) -> ExitCode {
    if (io.env)("CNI_COMMAND").is_some() { dispatch::run(io) } else { by_hand::run(io) }
}
