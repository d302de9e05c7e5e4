//! Executes another plugin on our behalf (CNI SPEC 1.1.0, section 4): the only place that starts a
//! process, because the specification says so.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use serde_json::Value;

/// Every parameter of the protocol (SPEC, section 2, "Parameters").
const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

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
    let output =
        run(&mut command, stdin).map_err(|e| CniError::new(Code::Delegate, format!("run {name}: {e}")))?;
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

/// stdin is written beside the reading: neither side can block the other, however much there is.
fn run(command: &mut Command, stdin: &[u8]) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A plugin may answer without reading; its answer is what counts.
            let _ = pipe.map(|mut pipe| pipe.write_all(stdin));
        });
        child.wait_with_output()
    })
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
