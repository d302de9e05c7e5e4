//! A child process that never outlives its owner.

use std::{
    io::{self, Read},
    process::{Child, ExitStatus, Output},
    thread,
};

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

    /// Waits for its end, collecting what it writes to a piped stdout and stderr.
    ///
    /// # Errors
    /// When a pipe cannot be read.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        let (out, err) = (self.0.stdout.take(), self.0.stderr.take());
        let (stdout, stderr) = thread::scope(|scope| {
            let err = scope.spawn(|| drain(err));
            (drain(out), err.join())
        });
        let stderr = stderr.map_err(|_| io::Error::other("the reader of stderr panicked"))?;
        Ok(Output { status: self.0.wait()?, stdout: stdout?, stderr: stderr? })
    }
}

fn drain(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes))?;
    Ok(bytes)
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only when the process is already reaped, which is the aim.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
