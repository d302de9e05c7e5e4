//! The keeper of one run of one container: it makes the container, owns its output, waits for its end and writes
//! down how it ended. It decides nothing, so that a killed supervisor costs neither output nor exit codes.
//!
//! It is a process with one thread, because the container's first process is cloned from it.

mod keep;
pub(crate) mod rootfs;
mod streams;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use nix::{
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    attach::Attachers,
    cgroup::Cgroup,
    log::Limits,
    sandbox::pin,
    seccomp::{Profile, executor},
    signals::as_at_first,
    state::{Attempt, ExitRecord, Keeper, ProcessId, StartRecord, read_json, write_json},
    terminal::Console,
};
use keep::Kept;
use streams::Streams;

/// The container's name in the launcher's own state, which is this run's alone.
pub(crate) const LAUNCHED: &str = "c";
/// Where the launcher hands over the container's terminal, in the run's directory.
const CONSOLE: &str = "console.sock";
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
    /// Whether its standard input stays open, for who attaches to write to.
    pub(crate) stdin: bool,
    /// Whether it ends when the first who writes has no more.
    pub(crate) stdin_once: bool,
    /// Whether it has a terminal.
    pub(crate) tty: bool,
    /// How much of its log is kept.
    pub(crate) log: Limits,
    /// Which system calls it may make.
    #[serde(default)]
    pub(crate) seccomp: Profile,
    /// The process whose PID namespace it is in, if not in one of its own or the pod's.
    pub(crate) joins: Option<ProcessId>,
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
    let attachers = Attachers::listen(attempt.path())?;
    let (ended, attachers) = match start(&attempt, &order, &cgroup) {
        Ok(run) => Kept::new(&attempt, &order, run, attachers)?.keep()?,
        Err(error) => (start_error(&error), attachers),
    };
    cgroup.kill()?;
    let ended = explain(ended, &cgroup);
    cgroup.remove()?;
    rootfs::discard(attempt.path());
    attempt.put_ended(&ended)?;
    attachers.finish(ended.exit_code);
    Ok(ExitCode::SUCCESS)
}

fn start_error(error: &anyhow::Error) -> ExitRecord {
    ExitRecord {
        exit_code: START_ERROR,
        reason: "StartError".to_owned(),
        message: Some(format!("{error:#}")),
        started_at: None,
        finished_at: Timestamp::now(),
    }
}

/// A started container.
struct Run {
    init: Pid,
    signals: SignalFd,
    streams: Streams,
    started_at: Timestamp,
}

fn start(attempt: &Attempt, order: &Order, cgroup: &Cgroup) -> Result<Run> {
    rootfs::mount(attempt.path(), &order.lower)?;
    if let Some(target) = order.joins {
        join(target, attempt.path())?;
    }
    let state = attempt.file("oci");
    if state.exists() {
        fs::remove_dir_all(&state).context("remove what an earlier start left")?;
    }
    fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
    let config: Value = read_json(&attempt.file("config.json"))?.context("a run has a configuration")?;
    let builder = ContainerBuilder::new(LAUNCHED.to_owned(), SyscallType::default())
        .with_root_path(&state)?
        .with_executor(executor(order.seccomp, &config["process"])?);
    let (mut container, streams) = if order.tty {
        let console = Console::listen(attempt.path(), CONSOLE)?;
        let container = build(builder.with_console_socket(Some(console.path())), attempt)?;
        (container, Streams::terminal(console.accept()?, order)?)
    } else {
        let (streams, inner) = Streams::pipes(order)?;
        let builder = builder.with_stdin(inner.stdin).with_stdout(inner.stdout).with_stderr(inner.stderr);
        (build(builder, attempt)?, streams)
    };
    if config.pointer("/linux/resources/devices/0/allow") != Some(&Value::Bool(true)) {
        cgroup.restrict_devices()?;
    }
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
    Ok(Run { init, signals, streams, started_at })
}

/// Makes the container, up to the point where its program is to be started.
fn build(builder: ContainerBuilder, attempt: &Attempt) -> Result<Container> {
    let init = builder.validate_id()?.as_init(attempt.path()).with_systemd(false).with_detach(true);
    as_at_first(|| init.build()).map_err(|e| anyhow!(root_cause(&e)))
}

/// Mounts the PID namespace of `target` where the configuration says. The mount is ours alone and goes with us.
fn join(target: ProcessId, attempt: &Path) -> Result<()> {
    let source = PathBuf::from(format!("/proc/{}/ns/pid", target.pid));
    let pinned = pin(&source, &pid_namespace_of(attempt));
    // Only now it is sure that it was that process, and not a later one of the same number.
    if !target.is_alive() {
        bail!("the container whose processes it is to see has ended");
    }
    pinned
}

/// The launcher's errors repeat themselves on the way up; the last one says what is wrong.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Says so when it was the kernel that ended it, for want of memory.
fn explain(ended: ExitRecord, cgroup: &Cgroup) -> ExitRecord {
    if ended.exit_code == SIGKILL_CODE && cgroup.oom_kills() > 0 {
        return ExitRecord { reason: "OOMKilled".to_owned(), ..ended };
    }
    ended
}

/// Where the PID namespace of another container is mounted, for a run that is in it.
pub(crate) fn pid_namespace_of(attempt: &Path) -> PathBuf {
    attempt.join("pid")
}

/// The directory that a container's overlay is mounted on.
pub(crate) fn rootfs_of(attempt: &Path) -> PathBuf {
    attempt.join("rootfs")
}
