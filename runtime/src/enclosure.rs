//! A process tree that leaves nothing behind.
//!
//! The outer process does nothing but wait. Its one child is PID 1 of a PID namespace, in a mount and a
//! network namespace of its own, with an empty tmpfs on `/run`; everything else happens in there. When
//! PID 1 ends, for whatever reason, the kernel ends every process of its namespace, and with them go
//! the mounts and the network namespaces. The child dies with the outer process, even a killed one.
//!
//! Cgroups are in no namespace that goes away. A caretaker, in a session of its own, waits until PID 1 is gone and
//! then takes away what has to be taken away by hand.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use netns_fixtures::wait_until;
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

use crate::state::ProcessId;

/// For the kernel to end an enclosure's processes.
const END: Duration = Duration::from_secs(30);

/// Runs `inside` in an enclosure and returns its exit code: 128 + n when a signal n ended it or us,
/// failure when it took longer than `limit`. After its end, whatever the end was, `after` is run outside, and waited
/// for unless this process was killed. Call it before any thread exists.
pub(crate) fn run(
    limit: Duration,
    inside: impl FnOnce() -> ExitCode,
    after: impl FnOnce() -> Result<()>,
) -> Result<ExitCode> {
    let (watching, lives) = io::pipe().context("make a pipe")?;
    let caretaker = match fork_once()? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(lives);
            take_care(watching, after)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    drop(watching);
    enclose(limit, inside, (lives, caretaker))
}

#[expect(unsafe_code, reason = "fork")]
fn fork_once() -> Result<ForkResult> {
    // SAFETY: the process has one thread, so the child may do whatever it likes.
    unsafe { fork() }.context("fork")
}

/// What the caretaker does: it waits for PID 1 to end, and cleans up.
fn take_care(mut watching: PipeReader, after: impl FnOnce() -> Result<()>) -> Result<()> {
    // It fails only for the leader of a process group, which a new process is not. Signals to the group are for others.
    let _ = nix::unistd::setsid();
    await_end(&mut watching)?;
    after()
}

/// Waits until the last process of the enclosure has ended: a PID 1 that is told to end closes its files first, and
/// then the kernel ends the others, before it is seen to have ended itself.
fn await_end(watching: &mut PipeReader) -> Result<()> {
    let mut number = [0; size_of::<i32>()];
    match watching.read_exact(&mut number) {
        Ok(()) => {}
        // The outer process ended before there was anything.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(e) => return Err(e).context("read who is PID 1"),
    }
    let first = ProcessId::of(i32::from_ne_bytes(number));
    watching.read(&mut [0]).context("wait for the enclosure")?;
    let ended = || first.is_none_or(|first| !first.is_alive()).then_some(());
    Ok(wait_until("the enclosure's processes to end", END, ended)?)
}

/// Runs `inside`, which keeps open for as long as it runs what the caretaker watches.
#[expect(clippy::disallowed_methods, reason = "this is the module that makes the enclosure")]
fn enclose(
    limit: Duration,
    inside: impl FnOnce() -> ExitCode,
    (mut lives, caretaker): (PipeWriter, Pid),
) -> Result<ExitCode> {
    // Blocked before the fork, so that no signal can come between it and the first wait.
    let watched: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect();
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), Some(&mut before)).context("block signals")?;
    let (alive, ours) = io::pipe().context("make a pipe")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace (this needs root)")?;
    match fork_once()? {
        ForkResult::Parent { child } => {
            drop(alive);
            lives.write_all(&child.as_raw().to_ne_bytes()).context("tell who is PID 1")?;
            drop(lives);
            // `ours` stays open until the end: its closing is how the child would learn of ours.
            let code = watch(child, &watched, limit);
            drop(ours);
            match waitpid(caretaker, None).context("wait for the caretaker")? {
                WaitStatus::Exited(_, 0) => code,
                status => bail!("cleaning up failed: {status:?}"),
            }
        }
        ForkResult::Child => {
            drop(ours);
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).context("restore signals")?;
            enter(&alive)?;
            let code = inside();
            // Up to here, so that the caretaker does not begin.
            drop(lives);
            Ok(code)
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
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make the mounts private")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).context("mount /proc")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
        .context("mount a tmpfs on /run")
}
