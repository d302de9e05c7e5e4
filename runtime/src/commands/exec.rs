//! `exec`: another process in a running container, as if the container had started it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    seccomp::{Filtering, executor},
    shim::{LAUNCHED, Order},
    signals::as_at_first,
    state::{Attempt, Root, read_json, write_json},
    terminal::{self, Console, Near, Outer},
};

/// What a shell answers for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// What to run, and where.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    of: super::ContainerArg,
    /// Pass stdin on
    #[arg(long, short = 'i')]
    stdin: bool,
    /// With a terminal
    #[arg(long, short)]
    tty: bool,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs it, and answers its exit code.
pub(crate) fn run(root: &Root, args: &ExecArgs) -> Result<ExitCode> {
    let found = args.of.find(root)?;
    let container = found.container(args.of.container.as_deref())?.name.clone();
    let Some(attempt) = found.running(&container)? else {
        bail!("container {container} of pod {} is not running", args.of.pod);
    };
    let with_terminal = args.tty && terminal::is_here();
    match launch(&attempt, args, with_terminal) {
        Ok((pid, None)) => wait(pid),
        Ok((pid, Some(console))) => {
            terminal::pump(&mut Outer(console), Near { input: true, terminal: true, leaves: false })?;
            wait(pid)
        }
        Err(error) => {
            let told = format!("{error:#}");
            writeln!(io::stderr(), "flatpod: exec {}: {told}", args.command.join(" "))
                .context("write to stderr")?;
            Ok(ExitCode::from(if told.contains("not found") { NOT_FOUND } else { NOT_RUN }))
        }
    }
}

/// Starts the process; with the other end of its terminal, if it has one.
fn launch(attempt: &Attempt, args: &ExecArgs, with_terminal: bool) -> Result<(Pid, Option<OwnedFd>)> {
    let process = Process::of(attempt, &args.command, with_terminal)?;
    let mut builder = ContainerBuilder::new(LAUNCHED.to_owned(), SyscallType::default())
        .with_root_path(attempt.file("oci"))
        .map_err(|e| anyhow!(e))?
        .with_executor(process.executor.clone());
    let name = format!("exec-{}.sock", std::process::id());
    let console = with_terminal.then(|| Console::listen(attempt.path(), &name)).transpose()?;
    if let Some(console) = &console {
        builder = builder.with_console_socket(Some(console.path()));
    } else {
        let stdin = if args.stdin {
            io::stdin().as_fd().try_clone_to_owned().context("pass stdin on")?
        } else {
            File::open("/dev/null").context("open /dev/null")?.into()
        };
        builder = builder
            .with_stdin(stdin)
            .with_stdout(io::stdout().as_fd().try_clone_to_owned().context("pass stdout on")?)
            .with_stderr(io::stderr().as_fd().try_clone_to_owned().context("pass stderr on")?);
    }
    let tenant = builder.as_tenant().with_process(Some(process.file.clone())).with_detach(true);
    let pid = as_at_first(|| tenant.build()).map_err(|e| anyhow!(crate::shim::root_cause(&e)))?;
    let console = console.map(Console::accept).transpose()?;
    Ok((Pid::from_raw(pid.as_raw()), console))
}

/// The description of the process, in a file that goes with this value, and what runs its program.
struct Process {
    file: PathBuf,
    executor: Filtering,
}

impl Process {
    /// The container's own process, with another command.
    fn of(attempt: &Attempt, command: &[String], with_terminal: bool) -> Result<Self> {
        let config: Option<Value> = read_json(&attempt.file("config.json"))?;
        let mut process = config.context("a running container has a configuration")?["process"].take();
        process["args"] = json!(command);
        process["terminal"] = json!(with_terminal);
        let order: Order =
            read_json(&attempt.file("order.json"))?.context("a running container has an order")?;
        let executor = executor(order.seccomp, &process)?;
        let file = attempt.file(&format!("exec-{}.json", std::process::id()));
        write_json(&file, &process)?;
        Ok(Self { file, executor })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It goes with the container at the latest.
        let _ = fs::remove_file(&self.file);
    }
}

fn wait(pid: Pid) -> Result<ExitCode> {
    let code = match waitpid(pid, None).context("wait for the command")? {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => bail!("the command ended as {other:?}"),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
