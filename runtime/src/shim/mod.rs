//! The keeper of one run of one container: it makes the container, owns its output, waits for its end and writes
//! down how it ended. It decides nothing, so that a killed supervisor costs neither output nor exit codes.
//!
//! It is a process with one thread, because the container's first process is cloned from it.

mod log;
mod rootfs;

use std::{
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use jiff::Timestamp;
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::Cgroup,
    state::{Attempt, ExitRecord, Keeper, ProcessId, StartRecord, read_json, write_json},
};
use log::CriLog;

/// The container's name in the launcher's own state, which is this run's alone.
pub(crate) const LAUNCHED: &str = "c";
/// Processes that left the container may hold its output open; nobody waits for them longer.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The exit code of a container that could not be started: containerd's.
const START_ERROR: i32 = 128;
const SIGKILL_CODE: i32 = 137;

/// Which run to keep.
#[derive(Debug, Args)]
pub(crate) struct ShimArgs {
    /// The run's directory, with config.json and order.json
    #[arg(long)]
    dir: PathBuf,
    /// Where its output goes
    #[arg(long)]
    log: PathBuf,
}

/// What to run, beside `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    /// The image's directories, uppermost first.
    pub(crate) lower: Vec<PathBuf>,
    /// The container's cgroup.
    pub(crate) cgroup: PathBuf,
    /// What asks it to end.
    pub(crate) stop_signal: String,
    /// Whether its standard input stays open, though nobody writes to it.
    pub(crate) stdin: bool,
}

/// Keeps a run until it ends. SIGTERM is passed on as the container's stop signal, SIGINT ends it at once.
pub(crate) fn run(args: &ShimArgs) -> Result<ExitCode> {
    let attempt = Attempt::at(args.dir.clone(), args.log.clone());
    let Some(_keeper) = Keeper::try_become(&attempt.lock_file())? else {
        return Ok(ExitCode::SUCCESS);
    };
    if attempt.ended()?.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(own) = ProcessId::of(i32::try_from(std::process::id())?) {
        write_json(&attempt.file("shim.json"), &own)?;
    }
    // Fails when we lead a session already.
    let _ = nix::unistd::setsid();
    let order: Order = read_json(&attempt.file("order.json"))?.context("a run has an order")?;
    let cgroup = Cgroup::at(&order.cgroup)?;
    // An earlier shim may have been killed while it made the container.
    cgroup.kill()?;
    let ended = match start(&attempt, &order) {
        Ok(run) => keep(&attempt, &order, run)?,
        Err(error) => ExitRecord {
            exit_code: START_ERROR,
            reason: "StartError".to_owned(),
            message: Some(format!("{error:#}")),
            started_at: None,
            finished_at: Timestamp::now(),
        },
    };
    cgroup.kill()?;
    let ended = explain(ended, &cgroup);
    cgroup.remove()?;
    rootfs::discard(attempt.path());
    attempt.put_ended(&ended)?;
    Ok(ExitCode::SUCCESS)
}

/// A started container.
struct Run {
    init: Pid,
    signals: SignalFd,
    stdout: PipeReader,
    stderr: PipeReader,
    started_at: Timestamp,
    /// Its reader sees no end as long as this is here.
    _stdin: Option<PipeWriter>,
}

fn start(attempt: &Attempt, order: &Order) -> Result<Run> {
    rootfs::mount(attempt.path(), &order.lower)?;
    let state = attempt.file("oci");
    if state.exists() {
        fs::remove_dir_all(&state).context("remove what an earlier start left")?;
    }
    fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let (stdout, out) = io::pipe().context("make a pipe")?;
    let (stderr, err) = io::pipe().context("make a pipe")?;
    let (input, kept_open) = stdin(order)?;
    let mut container = ContainerBuilder::new(LAUNCHED.to_owned(), SyscallType::default())
        .with_root_path(&state)?
        .with_stdin(input)
        .with_stdout(OwnedFd::from(out))
        .with_stderr(OwnedFd::from(err))
        .validate_id()?
        .as_init(attempt.path())
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|e| anyhow!(root_cause(&e)))?;
    container.start().map_err(|e| anyhow!(root_cause(&e)))?;
    let init = Pid::from_raw(container.pid().context("a started container has a process")?.as_raw());
    // Only now: the container would inherit blocked signals.
    let watched: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    watched.thread_block().context("block signals")?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("watch signals")?;
    rootfs::let_go_of_namespaces();
    let started_at = Timestamp::now();
    if let Some(id) = ProcessId::of(init.as_raw()) {
        attempt.put_started(&StartRecord { init: id, started_at })?;
    }
    Ok(Run { init, signals, stdout, stderr, started_at, _stdin: kept_open })
}

/// The container's standard input, and what keeps it from ending.
fn stdin(order: &Order) -> Result<(OwnedFd, Option<PipeWriter>)> {
    if order.stdin {
        let (input, output) = io::pipe().context("make a pipe")?;
        return Ok((input.into(), Some(output)));
    }
    Ok((File::open("/dev/null").context("open /dev/null")?.into(), None))
}

/// The launcher's errors repeat themselves on the way up; the last one says what is wrong.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Writes output down and passes signals on, until the container has ended.
fn keep(attempt: &Attempt, order: &Order, mut run: Run) -> Result<ExitRecord> {
    let mut log = CriLog::open(attempt.log())?;
    let mut status = None;
    let mut until: Option<Instant> = None;
    let mut open = [true, true];
    loop {
        if status.is_none() {
            status = exit_code(run.init)?;
            if status.is_some() {
                until = Some(Instant::now() + LAST_WORDS);
                // With a PID namespace of its own the kernel has done it already.
                Cgroup::at(&order.cgroup)?.kill()?;
            }
        }
        let left = until.map(|end| end.saturating_duration_since(Instant::now()));
        if status.is_some() && (open == [false, false] || left.is_some_and(|left| left.is_zero())) {
            break;
        }
        let ready = wait(&run, open, left)?;
        if ready[0] {
            open[0] = log.take("stdout", &mut run.stdout);
        }
        if ready[1] {
            open[1] = log.take("stderr", &mut run.stderr);
        }
        obey(&run, order, status.is_none())?;
    }
    log.finish();
    let code = status.unwrap_or(SIGKILL_CODE);
    Ok(ExitRecord {
        exit_code: code,
        reason: if code == 0 { "Completed" } else { "Error" }.to_owned(),
        message: None,
        started_at: Some(run.started_at),
        finished_at: Timestamp::now(),
    })
}

/// Waits for output or a signal; answers which outputs have something, or have ended.
fn wait(run: &Run, open: [bool; 2], left: Option<Duration>) -> Result<[bool; 2]> {
    let timeout =
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    let mut fds = vec![PollFd::new(run.signals.as_fd(), PollFlags::POLLIN)];
    let outputs = [run.stdout.as_fd(), run.stderr.as_fd()];
    for (fd, _) in outputs.into_iter().zip(open).filter(|(_, open)| *open) {
        fds.push(PollFd::new(fd, PollFlags::POLLIN));
    }
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno).context("wait for output"),
    }
    let mut answers = fds.iter().skip(1).map(|fd| fd.any() == Some(true));
    Ok(open.map(|open| open && answers.next() == Some(true)))
}

/// Does what signals ask for.
fn obey(run: &Run, order: &Order, running: bool) -> Result<()> {
    while let Ok(Some(info)) = run.signals.read_signal() {
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        match signal {
            Some(Signal::SIGTERM) if running => {
                let stop = stop_signal(&order.stop_signal);
                // Fails only when it has ended meanwhile.
                let _ = kill(run.init, stop);
            }
            Some(Signal::SIGINT) if running => {
                let _ = kill(run.init, Signal::SIGKILL);
                Cgroup::at(&order.cgroup)?.kill()?;
            }
            _ => {}
        }
    }
    Ok(())
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

/// Says so when it was the kernel that ended it, for want of memory.
fn explain(ended: ExitRecord, cgroup: &Cgroup) -> ExitRecord {
    if ended.exit_code == SIGKILL_CODE && cgroup.oom_kills() > 0 {
        return ExitRecord { reason: "OOMKilled".to_owned(), ..ended };
    }
    ended
}

/// Reads what is there without waiting for more.
fn read_some(pipe: &mut PipeReader, buffer: &mut [u8]) -> usize {
    loop {
        match pipe.read(buffer) {
            Ok(bytes) => return bytes,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return 0,
        }
    }
}

/// The directory that a container's overlay is mounted on.
pub(crate) fn rootfs_of(attempt: &Path) -> PathBuf {
    attempt.join("rootfs")
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
