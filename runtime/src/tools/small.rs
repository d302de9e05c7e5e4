//! The tools that are a few lines each.

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::{
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

/// The kinds of namespaces that are shown.
const KINDS: [&str; 6] = ["net", "ipc", "uts", "pid", "mnt", "cgroup"];

/// Where to connect.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    to: SocketAddr,
    /// In seconds
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
}

pub(super) fn say(line: &str) -> Result<ExitCode> {
    writeln!(io::stdout(), "{line}").context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pause() -> Result<ExitCode> {
    let watched: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    watched.thread_block().context("block signals")?;
    loop {
        if watched.wait().context("wait for signals")? != Signal::SIGCHLD {
            return Ok(ExitCode::SUCCESS);
        }
        // Until there is none, or none that has ended.
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(_) | Ok(WaitStatus::StillAlive)) {}
    }
}

pub(super) fn connect(args: &ConnectArgs) -> Result<ExitCode> {
    let error = match TcpStream::connect_timeout(&args.to, Duration::from_secs_f64(args.timeout)) {
        Ok(_) => return Ok(ExitCode::SUCCESS),
        Err(error) => error,
    };
    let word = match error.kind() {
        io::ErrorKind::ConnectionRefused => "REFUSED",
        io::ErrorKind::TimedOut => "TIMEOUT",
        _ => "OTHER",
    };
    writeln!(io::stderr(), "{word}").context("write to stderr")?;
    Ok(ExitCode::FAILURE)
}

pub(super) fn command_line() -> Result<ExitCode> {
    let words: Vec<_> = std::env::args().collect();
    say(&format!("{words:?}"))
}

pub(super) fn namespaces() -> Result<ExitCode> {
    for kind in KINDS {
        let path = format!("/proc/self/ns/{kind}");
        let inode = fs::metadata(&path).with_context(|| format!("stat {path}"))?.ino();
        say(&format!("{kind} {inode}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn cat(files: &[PathBuf]) -> Result<ExitCode> {
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        io::stdout().write_all(&bytes).context("write to stdout")?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn environment() -> Result<ExitCode> {
    for (name, value) in std::env::vars_os() {
        say(&format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "sleeping is what it is for")]
pub(super) fn sleep(seconds: f64) -> Result<ExitCode> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn write(file: &Path, words: &[String]) -> Result<ExitCode> {
    fs::write(file, words.join(" ")).with_context(|| format!("write {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a failure to bind is the kernel's error number.
pub(super) fn bind(port: u16) -> Result<ExitCode> {
    match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => {
            say(&format!("listening on {port}"))?;
            for _ in listener.incoming() {}
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(io::stderr(), "bind {port}: {error}").context("write to stderr")?;
            let number = error.raw_os_error().and_then(|errno| u8::try_from(errno).ok());
            Ok(ExitCode::from(number.unwrap_or(1)))
        }
    }
}

pub(super) fn alloc(mebibytes: usize) -> Result<ExitCode> {
    let mut held = vec![];
    for at in 0..mebibytes {
        // Different bytes: equal pages could be merged, and zeroes need no memory.
        let byte = u8::try_from(at % 250).unwrap_or(0) + 1;
        held.push(vec![byte; 1 << 20]);
    }
    say(&format!("{} MiB in use", held.len()))?;
    loop {
        thread::park();
    }
}

pub(super) fn trap(after: f64, exit: u8) -> Result<ExitCode> {
    let watched: SigSet = [Signal::SIGTERM].into_iter().collect();
    watched.thread_block().context("block signals")?;
    say("ready")?;
    watched.wait().context("wait for SIGTERM")?;
    say("SIGTERM")?;
    sleep(after)?;
    Ok(ExitCode::from(exit))
}

#[expect(clippy::disallowed_methods, reason = "the orphan is a process")]
pub(super) fn spawn_orphan() -> Result<ExitCode> {
    let mut command = std::process::Command::new("/bin/sleep");
    let nothing = || (Stdio::null(), Stdio::null());
    command.arg("3600").stdin(nothing().0).stdout(nothing().1).stderr(Stdio::null());
    let orphan = command.spawn().context("start the orphan")?;
    say(&format!("orphan {}", orphan.id()))
}
