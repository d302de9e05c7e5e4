//! From the environment and stdin to a verb, and from its outcome to the one answer on stdout.

use std::io::Read;
use std::process::ExitCode;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Command, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::version::Version;
use serde_json::{Value, json};

use crate::verbs;
use crate::{Io, loopback};

/// Largest configuration read: a thousand times what runtimes send.
const MAX_STDIN: u64 = 16 << 20;

pub(crate) fn run(io: &mut Io<'_>) -> ExitCode {
    let mut stdin = Vec::new();
    let read = io.stdin.take(MAX_STDIN + 1).read_to_end(&mut stdin);
    let outcome = match read {
        Err(e) => Err(CniError::new(Code::Io, format!("read stdin: {e}"))),
        Ok(n) if n as u64 > MAX_STDIN => {
            Err(CniError::new(Code::Decode, format!("stdin has more than {MAX_STDIN} bytes")))
        }
        Ok(_) => verb(io, &stdin),
    };
    let (answer, code) = match outcome {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(e) => (Some(e.to_json(Base::version_of(&stdin))), ExitCode::FAILURE),
    };
    let written = answer.map_or(Ok(()), |answer| {
        serde_json::to_writer(&mut *io.stdout, &answer)?;
        writeln!(io.stdout)?;
        io.stdout.flush()
    });
    if written.is_err() { ExitCode::FAILURE } else { code }
}

fn verb(io: &mut Io<'_>, stdin: &[u8]) -> Result<Option<Value>, CniError> {
    let command = Command::read(io.env)?;
    if command == Command::Version {
        return Ok(Some(versions(stdin)?));
    }
    let base = Base::read(stdin)?;
    since(command, base.version)?;
    let target = || Target::read(io.env);
    match command {
        Command::Gc | Command::Status if io.name == loopback::NAME => Ok(None),
        _ if io.name == loopback::NAME => loopback::run(command, &base, &target()?),
        Command::Add => verbs::add::run(&base, &target()?, io.env).map(Some),
        Command::Del => verbs::del::run(&base, &target()?, io.env, io.stderr).map(|()| None),
        Command::Check => verbs::check::run(&base, &target()?, io.env).map(|()| None),
        Command::Gc => verbs::gc::run(&base, io.env, io.stderr).map(|()| None),
        Command::Status => verbs::status::run(&base, io.env).map(|()| None),
        Command::Version => Ok(None),
    }
}

/// VERSION answers in the version it was asked in (SPEC, section 2, VERSION).
fn versions(stdin: &[u8]) -> Result<Value, CniError> {
    let asked = match serde_json::from_slice::<Value>(stdin) {
        Ok(conf) => conf.get("cniVersion").cloned(),
        Err(_) if stdin.iter().all(u8::is_ascii_whitespace) => None,
        Err(e) => return Err(CniError::new(Code::Decode, format!("stdin is not JSON: {e}"))),
    };
    Ok(json!({
        "cniVersion": asked.unwrap_or_else(|| json!(Version::LATEST.as_str())),
        "supportedVersions": Version::ALL.map(Version::as_str),
    }))
}

/// A verb exists from some version on.
fn since(command: Command, version: Version) -> Result<(), CniError> {
    let (verb, first) = match command {
        Command::Check => ("CHECK", Version::V0_4_0),
        Command::Gc => ("GC", Version::V1_1_0),
        Command::Status => ("STATUS", Version::V1_1_0),
        Command::Add | Command::Del | Command::Version => return Ok(()),
    };
    if version >= first {
        return Ok(());
    }
    Err(CniError::new(
        Code::IncompatibleVersion,
        format!("{verb} exists since cniVersion {first}, the configuration says {version}"),
    ))
}
