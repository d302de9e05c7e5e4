//! A process tree that leaves nothing behind.
//!
//! The outer process does nothing but wait. Its one child is PID 1 of a PID namespace, in a mount and a
//! network namespace of its own, with an empty tmpfs on `/run`; everything else happens in there. When
//! PID 1 ends, for whatever reason, the kernel ends every process of its namespace, and with them go
//! the mounts and the network namespaces. The child dies with the outer process, even a killed one.

use std::{
    io::{self, PipeReader},
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::CloneFlags,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

/// Runs `inside` in an enclosure and returns its exit code: 128 + n when a signal n ended it or us,
/// failure when it took longer than `limit`. Call it before any thread exists.
#[expect(unsafe_code, reason = "fork")]
#[expect(clippy::disallowed_methods, reason = "this is the module that makes the enclosure")]
pub(crate) fn run(limit: Duration, inside: impl FnOnce() -> ExitCode) -> Result<ExitCode> {
    // Blocked before the fork, so that no signal can come between it and the first wait.
    let watched: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), Some(&mut before)).context("block signals")?;
    let (alive, ours) = io::pipe().context("make a pipe")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace (this needs root)")?;
    // SAFETY: the process has one thread, so the child may do whatever it likes.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => {
            drop(alive);
            // `ours` stays open until the end: its closing is how the child would learn of ours.
            let code = watch(child, &watched, limit);
            drop(ours);
            code
        }
        ForkResult::Child => {
            drop(ours);
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).context("restore signals")?;
            enter(&alive)?;
            Ok(inside())
        }
    }
}

/// Waits for the child's end, and brings it about when we are told to end ourselves.
fn watch(child: Pid, watched: &SigSet, limit: Duration) -> Result<ExitCode> {
    let signals = SignalFd::with_flags(watched, SfdFlags::SFD_CLOEXEC).context("watch signals")?;
    let end = Instant::now() + limit;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)).context("wait for the enclosure")? {
            WaitStatus::Exited(_, code) => return Ok(ExitCode::from(u8::try_from(code)?)),
            WaitStatus::Signaled(_, signal, _) => return Ok(code_of(signal)),
            _ => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            stop(child);
            bail!("gave up after {limit:?}");
        }
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
            && let Some(info) = signals.read_signal().context("read a signal")?
            && let Ok(signal) = Signal::try_from(i32::try_from(info.ssi_signo)?)
            && signal != Signal::SIGCHLD
        {
            stop(child);
            return Ok(code_of(signal));
        }
    }
}

/// Ends the whole enclosure; when this returns, none of its processes is left.
fn stop(child: Pid) {
    // Both fail only when it has ended already.
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
}

/// What a shell would show for a process that `signal` ended.
fn code_of(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX))
}

/// Makes the calling process, PID 1 of a new PID namespace, at home there.
#[expect(clippy::disallowed_methods, reason = "this is the module that makes the enclosure")]
fn enter(alive: &PipeReader) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie to the outer process")?;
    // The outer process may have died before the line above; then the pipe's other end is closed.
    let mut fds = [PollFd::new(alive.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::ZERO).context("look for the outer process")? > 0 {
        bail!("the outer process is gone");
    }
    // A terminal's Ctrl-C is for the outer process, which then ends all of us at once.
    nix::unistd::setsid().context("leave the terminal's process group")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("make a mount and a network namespace")?;
    private_mounts()?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
        .context("mount a tmpfs on /run")
}

/// Cuts the mount namespace off from the one it was copied from, and gives it the `/proc` of the
/// calling process's PID namespace.
pub(crate) fn private_mounts() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make the mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).context("mount /proc")
}
