//! A child process that never outlives its owner.

use std::process::{Child, ExitStatus};

/// Kills and reaps its process when dropped, also during a panic.
#[derive(Debug)]
pub struct KillOnDrop(Child);

impl KillOnDrop {
    /// Takes responsibility for `child`.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The exit status, when the process has already ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only when the process is already reaped, which is the aim.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
