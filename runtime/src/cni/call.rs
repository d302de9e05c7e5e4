//! One invocation of one plugin.

use std::{
    io::{Read, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use netns_fixtures::wait_until;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{entrance, state::NodeRecord};

/// A plugin that takes longer is taken for hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// What goes into a plugin's environment.
#[derive(Debug, Clone, Default)]
pub(super) struct CallEnv<'a> {
    pub(super) verb: &'a str,
    pub(super) container_id: &'a str,
    pub(super) netns: &'a str,
    pub(super) ifname: &'a str,
    pub(super) args: String,
}

/// What a plugin says when it cannot.
#[derive(Debug, Deserialize)]
struct PluginError {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// Calls `plugin` on `node` with `conf` on its stdin, and returns what it printed.
pub(super) fn call(node: &NodeRecord, plugin: &str, env: &CallEnv<'_>, conf: &Value) -> Result<Vec<u8>> {
    let path = find(node, plugin)?;
    let what = || format!("CNI {} by {plugin}", env.verb);
    let mut command = entrance::command(node, &path)?;
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("CNI_")) {
        command.env_remove(key);
    }
    command
        .env("CNI_COMMAND", env.verb)
        .env("CNI_CONTAINERID", env.container_id)
        .env("CNI_NETNS", env.netns)
        .env("CNI_IFNAME", env.ifname)
        .env("CNI_ARGS", &env.args)
        .env("CNI_PATH", std::env::join_paths(&node.cni_bin_dirs).context("join the plugin directories")?)
        .process_group(0);
    let output = communicate(command, conf.to_string().into_bytes()).with_context(what)?;
    if output.success {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let told: std::result::Result<PluginError, _> = serde_json::from_slice(&output.stdout);
    Err(match told {
        Ok(e) => anyhow!("code {}: {} {} {stderr}", e.code, e.msg, e.details),
        Err(_) => anyhow!("{} without a CNI error: {stderr}", output.status),
    })
    .with_context(what)
}

/// The file of a plugin.
pub(super) fn find(node: &NodeRecord, plugin: &str) -> Result<PathBuf> {
    if plugin.contains('/') {
        bail!("plugin type {plugin} is a path, not a name");
    }
    let places = node.cni_bin_dirs.iter().map(|dir| dir.join(plugin));
    let searched =
        || node.cni_bin_dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
    places
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| format!("no CNI plugin {plugin} in {}: install it there", searched()))
}

struct Answer {
    success: bool,
    status: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Feeds and drains the process on threads of their own, so that neither side waits for the other.
fn communicate(mut command: Command, input: Vec<u8>) -> Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start it")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A plugin need not read what it does not need.
            let _ = stdin.map(|mut pipe| pipe.write_all(&input));
        });
        let out = scope.spawn(move || drain(stdout));
        let err = scope.spawn(move || drain(stderr));
        let status = wait(&mut child);
        let joined = |bytes: thread::Result<Vec<u8>>| bytes.map_err(|_| anyhow!("a reader panicked"));
        let (stdout, stderr) = (joined(out.join())?, joined(err.join())?);
        let status = status?;
        Ok(Answer { success: status.success(), status: status.to_string(), stdout, stderr })
    })
}

/// Waits for its end; kills its whole process group when that takes too long.
fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    let ended = wait_until("its end", PATIENCE, || child.try_wait().transpose());
    match ended {
        Ok(status) => status.context("wait for it"),
        Err(timeout) => {
            let group = Pid::from_raw(i32::try_from(child.id())?);
            // Fails only when all have ended.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait().context("wait for it")?;
            Err(timeout.into())
        }
    }
}

fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = vec![];
    // What came before an error is all there is.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    bytes
}

/// Reads JSON that a plugin printed.
pub(super) fn parse(plugin: &str, answer: &[u8]) -> Result<Value> {
    serde_json::from_slice(answer).with_context(|| format!("read what {plugin} printed"))
}
