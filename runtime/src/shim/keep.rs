//! While a container runs: its output is written down and passed on to who is attached, their input and the
//! supervisor's signals are passed on to it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{Order, Run, SIGKILL_CODE};
use crate::{
    attach::{Asked, Attachers},
    cgroup::Cgroup,
    log::CriLog,
    state::{Attempt, ExitRecord},
};

/// Processes that left the container may hold its output open; nobody waits for them longer.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A container that is kept.
pub(super) struct Kept<'a> {
    order: &'a Order,
    run: Run,
    log: CriLog,
    attachers: Attachers,
}

/// What there is to do.
struct Ready {
    streams: Vec<PollFlags>,
    attachers: Vec<PollFlags>,
}

impl<'a> Kept<'a> {
    pub(super) fn new(attempt: &Attempt, order: &'a Order, run: Run, attachers: Attachers) -> Result<Self> {
        Ok(Self { order, run, log: CriLog::open(attempt.log(), order.log)?, attachers })
    }

    /// Until the container has ended.
    pub(super) fn keep(mut self) -> Result<(ExitRecord, Attachers)> {
        let mut status = None;
        let mut until: Option<Instant> = None;
        loop {
            if status.is_none() {
                status = exit_code(self.run.init)?;
                if status.is_some() {
                    until = Some(Instant::now() + LAST_WORDS);
                    // With a PID namespace of its own the kernel has done it already.
                    Cgroup::at(&self.order.cgroup)?.kill()?;
                }
            }
            let left = until.map(|end| end.saturating_duration_since(Instant::now()));
            let is_done = self.run.streams.are_silent() || left.is_some_and(|left| left.is_zero());
            if status.is_some() && is_done {
                break;
            }
            let ready = self.wait(left)?;
            for (stream, bytes) in self.run.streams.read(&ready.streams) {
                self.log.write(stream, &bytes);
                self.attachers.output(stream, &bytes);
            }
            for asked in self.attachers.serve(&ready.attachers) {
                match asked {
                    Asked::Input(bytes) => self.run.streams.give(&bytes),
                    Asked::InputEnd => self.run.streams.end_input(),
                    Asked::Resize(size) => self.run.streams.resize(size),
                }
            }
            self.obey(status.is_none())?;
        }
        self.log.finish();
        let code = status.unwrap_or(SIGKILL_CODE);
        let ended = ExitRecord {
            exit_code: code,
            reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
            message: None,
            started_at: Some(self.run.started_at),
            finished_at: Timestamp::now(),
        };
        Ok((ended, self.attachers))
    }

    fn wait(&self, left: Option<Duration>) -> Result<Ready> {
        use std::os::fd::AsFd as _;
        let timeout =
            left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds = vec![PollFd::new(self.run.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.run.streams.interests());
        let streams = fds.len() - 1;
        fds.extend(self.attachers.interests(self.run.streams.take_input()));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for output"),
        }
        let mut flags = fds.iter().skip(1).map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let streams = flags.by_ref().take(streams).collect();
        Ok(Ready { streams, attachers: flags.collect() })
    }

    /// Does what signals ask for.
    fn obey(&self, running: bool) -> Result<()> {
        while let Ok(Some(info)) = self.run.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGTERM) if running => {
                    let stop = stop_signal(&self.order.stop_signal);
                    // Fails only when it has ended meanwhile.
                    let _ = kill(self.run.init, stop);
                }
                Some(Signal::SIGINT) if running => {
                    let _ = kill(self.run.init, Signal::SIGKILL);
                    Cgroup::at(&self.order.cgroup)?.kill()?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The signal of that name or number; SIGTERM when there is none.
fn stop_signal(name: &str) -> Signal {
    let by_number = name.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    by_number.or_else(|| full.parse().ok()).unwrap_or(Signal::SIGTERM)
}

fn exit_code(init: Pid) -> Result<Option<i32>> {
    Ok(match waitpid(init, Some(WaitPidFlag::WNOHANG)).context("wait for the container")? {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_by_name_and_number() {
        for (name, signal) in [
            ("SIGUSR1", Signal::SIGUSR1),
            ("INT", Signal::SIGINT),
            ("3", Signal::SIGQUIT),
            ("", Signal::SIGTERM),
            ("nonsense", Signal::SIGTERM),
        ] {
            assert_eq!(stop_signal(name), signal, "{name}");
        }
    }
}
