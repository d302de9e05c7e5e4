//! Executes another plugin on our behalf (CNI SPEC 1.1.0, section 4): the only place that starts a
//! process, because the specification says so.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use serde_json::Value;

/// Every parameter of the protocol (SPEC, section 2, "Parameters").
const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

/// How long a plugin may take: runtimes give up on us after minutes, and then nobody knows whose fault it was.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program `kind` along `CNI_PATH`; the first match wins.
///
/// # Errors
/// It is in none of the directories; the message names both.
pub(crate) fn find(kind: &str, env: Env<'_>) -> Result<PathBuf, CniError> {
    let path = env("CNI_PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(kind))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            let path = path.to_string_lossy();
            CniError::new(Code::Delegate, format!("plugin {kind:?} is not in CNI_PATH {path:?}"))
                .with("install it there, or leave \"ipam\" out to use flatnet's own addresses")
        })
}

/// Runs `program` with our own parameters, except for those in `instead`, and `stdin` as configuration.
/// Its stderr is ours. `None`: it printed nothing.
///
/// # Errors
/// Its own error object, as it is; or it could not be run, or did not answer in JSON.
pub(crate) fn call(
    program: &Path,
    env: Env<'_>,
    instead: &[(&str, &OsStr)],
    stdin: &[u8],
) -> Result<Option<Value>, CniError> {
    let name = program.display();
    #[expect(clippy::disallowed_methods, reason = "delegation is executing a plugin, SPEC section 4")]
    let mut command = Command::new(program);
    for variable in VARIABLES {
        let own = env(variable);
        let value = instead.iter().find(|(k, _)| *k == variable).map(|(_, v)| *v).or(own.as_deref());
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    let output = run(&mut command, stdin, PATIENCE)
        .map_err(|e| CniError::new(Code::Delegate, format!("run {name}: {e}")))?;
    let answer = match output.stdout.trim_ascii() {
        b"" => None,
        text => Some(serde_json::from_slice::<Value>(text).map_err(|e| {
            let said = String::from_utf8_lossy(text).chars().take(200).collect::<String>();
            CniError::new(Code::Delegate, format!("{name} answered with something else than JSON: {e}"))
                .with(said)
        })?),
    };
    if output.status.success() { Ok(answer) } else { Err(refusal(program, &output, answer.as_ref())) }
}

/// stdin is written beside the reading: neither side can block the other, however much there is. The
/// threads are not waited for: a plugin's own children may keep its pipes open for longer than it lives.
fn run(command: &mut Command, stdin: &[u8], patience: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + patience;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let (pipe, stdin) = (child.stdin.take(), stdin.to_vec());
    thread::spawn(move || {
        // A plugin may answer without reading; its answer is what counts.
        let _ = pipe.map(|mut pipe| pipe.write_all(&stdin));
    });
    let (sender, receiver) = mpsc::sync_channel(1);
    let pipe = child.stdout.take();
    thread::spawn(move || {
        let mut said = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut said));
        // Nobody listens any more once the deadline has passed.
        let _ = sender.send(read.map(|_| said));
    });
    let left = || deadline.saturating_duration_since(Instant::now());
    let said = receiver.recv_timeout(left()).map_err(|_| late(patience));
    let ended = said.and_then(|said| Ok((said?, end(&mut child, deadline, patience)?)));
    if ended.is_err() {
        // Fails only when it has ended already.
        let _ = child.kill();
    }
    let (stdout, status) = ended?;
    Ok(Output { status, stdout, stderr: Vec::new() })
}

/// The end of a plugin that has closed its stdout, which mostly is at hand.
fn end(child: &mut Child, deadline: Instant, patience: Duration) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(late(patience));
        }
        #[expect(clippy::disallowed_methods, reason = "wait4(2) cannot wait with a deadline")]
        thread::sleep(Duration::from_micros(100));
    }
}

fn late(patience: Duration) -> io::Error {
    let seconds = patience.as_secs();
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {seconds} s, so it was killed"))
}

/// The delegate's error becomes ours (SPEC, section 4, "Delegated Plugin (IPAM) execution procedure").
fn refusal(program: &Path, output: &Output, answer: Option<&Value>) -> CniError {
    let text = |key: &str| answer?.get(key)?.as_str().filter(|s| !s.is_empty());
    let code = answer.and_then(|a| a.get("code")?.as_u64()).and_then(|code| u32::try_from(code).ok());
    match (code, text("msg")) {
        (Some(code), Some(msg)) => {
            let error = CniError::new(Code::Delegated(code), msg);
            text("details").map_or(error.clone(), |details| error.with(details))
        }
        _ => CniError::new(
            Code::Delegate,
            format!("{} ended with {} and without an error object", program.display(), output.status),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> io::Result<Output> {
        #[expect(clippy::disallowed_methods, reason = "a delegate that misbehaves")]
        let mut command = Command::new("/bin/sh");
        run(command.args(["-c", script]), &vec![b'x'; 1 << 20], patience)
    }

    #[test]
    fn a_delegate_that_does_not_end_is_killed_and_said_to_be_late() {
        let dir = std::env::temp_dir().join(format!("flatnet-delegate-{}", std::process::id()));
        let pid = dir.display();
        for script in ["exec sleep 600", "exec >&-; exec sleep 600", "sleep 5 2>&- & exec sleep 600"] {
            let script = format!("echo $$ > {pid}; {script}");
            let e = shell(&script, Duration::from_secs(1)).unwrap_err();
            assert!(e.to_string().contains("no answer within 1 s"), "{script}: {e}");
            let pid = std::fs::read_to_string(&dir).unwrap();
            let ended = || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            while !ended() {
                assert!(Instant::now() < deadline, "{script}: it lives");
                thread::yield_now();
            }
        }
        std::fs::remove_file(dir).unwrap();
    }

    #[test]
    fn what_it_says_is_taken_whether_it_reads_or_not() {
        let patience = Duration::from_secs(60);
        let output = shell("cat", patience).unwrap();
        assert_eq!((output.stdout.len(), output.status.success()), (1 << 20, true));
        let output = shell("echo no; exit 3", patience).unwrap();
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"no\n"[..], Some(3)));
    }
}
