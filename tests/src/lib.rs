//! What the whole-system tests share: the built programs, a plugin driver that behaves like a runtime,
//! and an oracle that is not ours (iproute2's view of the kernel).

pub mod dice;
pub mod entry;
pub mod oracle;
pub mod plugin;
pub mod chain;
pub mod containerd;
pub mod agent;
pub mod host_ports;
pub mod etcd;
pub mod kubernetes;
pub mod manifest;
pub mod kill_sweep;
pub mod site;
pub mod streams;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

/// A program of this workspace, built beside the test that runs (`make build`, or
/// `cargo build --release --bins`, before the tests).
///
/// # Panics
/// It has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.parent().and_then(|deps| deps.parent()).expect("tests run from target/*/deps");
    let program = built.join(name);
    assert!(program.exists(), "{} is not built; run the tests with `make test`", program.display());
    program
}

/// Runs a program of the system to its end; what it wrote to stdout.
///
/// # Panics
/// It cannot be run, or fails.
pub fn tool(name: impl AsRef<OsStr>, args: &[&str]) -> String {
    let name = name.as_ref();
    #[expect(clippy::disallowed_methods, reason = "tests use the system's programs")]
    let output = Command::new(name).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", name.display()));
    assert!(
        output.status.success(),
        "{} {args:?}: {}",
        name.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
