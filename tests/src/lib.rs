//! What the whole-system tests share: the built programs, a plugin driver that behaves like a runtime,
//! and an oracle that is not ours (iproute2's view of the kernel).

pub mod oracle;
pub mod plugin;
pub mod chain;
pub mod agent;
pub mod etcd;

use std::path::PathBuf;

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
