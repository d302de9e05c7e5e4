//! `attach`: the input and output of a container that runs.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use netns_fixtures::wait_until;

use super::{Found, logs};
use crate::{
    attach::{Session, attach},
    state::{Attempt, Root},
    terminal::End,
};

/// For a container to start.
const START: Duration = Duration::from_secs(60);
/// For a shim that has gone to have written down how its container ended; and for a supervisor to do so instead.
const ENDING: Duration = Duration::from_secs(20);
/// What a shell answers for a command that was killed: nobody knows how the container ended.
const UNKNOWN: u8 = 137;

/// To what.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    of: super::ContainerArg,
    /// Pass stdin on
    #[arg(long, short = 'i')]
    stdin: bool,
    /// With the container's terminal
    #[arg(long, short)]
    tty: bool,
    /// Print only what the container writes
    #[arg(long, short)]
    quiet: bool,
}

/// Attaches until the container ends, and answers its exit code, or until the user leaves.
pub(crate) fn run(root: &Root, args: &AttachArgs) -> Result<ExitCode> {
    let found = args.of.find(root)?;
    let container = found.container(args.of.container.as_deref())?;
    if let Some(phase) = found.last_phase()? {
        bail!("cannot attach a container in a completed pod; current phase is {phase}");
    }
    let name = &container.name;
    let Some(attempt) = found.running(name)? else {
        bail!("container {name} of pod {} is not running", args.of.pod);
    };
    let tell = |text: &str| match args.quiet {
        true => Ok(()),
        false => writeln!(io::stderr(), "{text}").context("write to stderr"),
    };
    let has = |wanted: Option<bool>| wanted == Some(true);
    if args.stdin && !has(container.stdin) {
        tell(&format!("error: Unable to use stdin - container {name} did not open it: set stdin: true"))?;
    }
    if args.tty && !has(container.tty) {
        tell(&format!("error: Unable to use a TTY - container {name} did not allocate one"))?;
    }
    let input = args.stdin && has(container.stdin);
    if input && has(container.tty) {
        tell(
            "If you don't see a command prompt, try pressing enter. Ctrl-P Ctrl-Q leaves the container running.",
        )?;
    }
    let session = Session { input, terminal: has(container.tty), early: false };
    let end = attach(attempt.path(), session)?.unwrap_or(End::Over(None));
    conclude(&found, &container, &attempt, end)
}

/// Waits until a container of a pod has started, or has ended already, and attaches to it from its first word on.
pub(super) fn from_the_start(found: &Found, container: &Container) -> Result<ExitCode> {
    let name = &container.name;
    let attempt =
        wait_until(&format!("container {name} to start"), START, || started(found, name).transpose())??;
    let has = |wanted: Option<bool>| wanted == Some(true);
    let session = Session { input: has(container.stdin), terminal: has(container.tty), early: true };
    match attach(attempt.path(), session)? {
        Some(End::Over(None)) | None => {
            // It was faster than we.
            logs::print_apart(&attempt)?;
            conclude(found, container, &attempt, End::Over(None))
        }
        Some(end) => conclude(found, container, &attempt, end),
    }
}

/// Its first run, when that has begun; an error when it cannot begin.
fn started(found: &Found, name: &str) -> Result<Option<Attempt>> {
    let Some(record) = found.dir.container(name)? else {
        let status = found.dir.status()?.unwrap_or_default();
        let lists = [status.container_statuses, status.ephemeral_container_statuses];
        let mut all = lists.into_iter().flatten().flatten();
        return match all.find(|one: &ContainerStatus| one.name == name).and_then(why_it_waits) {
            Some(why) => bail!("container {name} cannot be started: {why}"),
            None => Ok(None),
        };
    };
    let attempt = found.dir.attempt(name, record.attempt);
    let begun = attempt.started()?.is_some() || attempt.ended()?.is_some();
    Ok(begun.then_some(attempt))
}

/// Why the container was not made, if that was tried.
fn why_it_waits(status: ContainerStatus) -> Option<String> {
    let waiting = status.state?.waiting?;
    Some(format!("{}: {}", waiting.reason?, waiting.message?))
}

/// The exit code of the container, or what the user who has left should know.
fn conclude(found: &Found, container: &Container, attempt: &Attempt, end: End) -> Result<ExitCode> {
    let code = match end {
        End::Over(Some(code)) => code,
        End::Asked(signal) => 128 + signal,
        End::Left => {
            let meta = &found.pod.metadata;
            let (pod, namespace) = (meta.name.as_deref(), meta.namespace.as_deref());
            writeln!(
                io::stderr(),
                "\nSession ended, resume using 'flatpod attach {} -c {} -n {} -i -t'",
                pod.unwrap_or_default(),
                container.name,
                namespace.unwrap_or_default()
            )
            .context("write to stderr")?;
            return Ok(ExitCode::SUCCESS);
        }
        End::Over(None) => {
            let ended = wait_until("the end of the container", ENDING, || attempt.ended().transpose());
            match ended {
                Ok(ended) => ended?.exit_code,
                Err(_) => i32::from(UNKNOWN),
            }
        }
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
