//! Calling a CNI plugin by the book: environment, configuration on stdin, result on stdout.

use std::{
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, anyhow, bail};
use ipnetwork::IpNetwork;
use netns_fixtures::{KillOnDrop, NetNs};
use serde::Deserialize;
use serde_json::Value;

/// The interface that a pod gets.
const IFNAME: &str = "eth0";
/// The protocol version that we speak.
const CNI_VERSION: &str = "1.1.0";

/// A plugin on one node, with its configuration.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// The plugin's executable file.
    pub(crate) path: PathBuf,
    /// The network configuration.
    pub(crate) conf: Value,
    /// The node's network namespace, where plugins run.
    pub(crate) ns: NetNs,
}

/// What is attached to what.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) container_id: String,
    pub(crate) netns: PathBuf,
    pub(crate) pod: String,
}

#[derive(Deserialize)]
struct AddResult {
    ips: Vec<AddedIp>,
}

#[derive(Deserialize)]
struct AddedIp {
    address: IpNetwork,
}

#[derive(Deserialize)]
struct PluginError {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

impl Plugin {
    /// The configuration of `flatnet` with its state in `state_dir`.
    pub(crate) fn conf(state_dir: &Path) -> Value {
        serde_json::json!({
            "cniVersion": CNI_VERSION, "name": "flatnet", "type": "flatnet", "stateDir": state_dir,
        })
    }

    /// ADD: attaches, and returns the addresses given, as the plugin ordered them.
    pub(crate) fn add(&self, to: &Attachment) -> Result<Vec<IpAddr>> {
        let answer = self.call("ADD", to)?;
        let result: AddResult = serde_json::from_slice(&answer).context("read the result of CNI ADD")?;
        Ok(result.ips.iter().map(|ip| ip.address.ip()).collect())
    }

    /// DEL: detaches.
    pub(crate) fn del(&self, from: &Attachment) -> Result<()> {
        let answer = self.call("DEL", from)?;
        if !answer.is_empty() {
            bail!("CNI DEL of {} printed {}", from.pod, String::from_utf8_lossy(&answer));
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a CNI plugin is a program")]
    fn call(&self, verb: &str, attachment: &Attachment) -> Result<Vec<u8>> {
        let what = || format!("CNI {verb} of {}", attachment.pod);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            attachment.pod, attachment.container_id
        );
        let mut command = std::process::Command::new(&self.path);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", IFNAME)
            .env("CNI_PATH", self.path.parent().unwrap_or(Path::new("/")))
            .env("CNI_ARGS", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.ns.enter_for_child(&mut command)?;
        let started = command.spawn().with_context(|| format!("start {}", self.path.display()))?;
        let mut process = KillOnDrop::new(started);
        let mut stdin = process.child().stdin.take().context("the plugin's stdin is piped")?;
        stdin.write_all(self.conf.to_string().as_bytes()).with_context(what)?;
        drop(stdin);
        let output = process.wait_with_output().with_context(what)?;
        if output.status.success() {
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
}
