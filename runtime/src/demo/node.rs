//! A simulated node: a place on the fabric with an agent, a state directory and a CNI plugin.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use netns_fixtures::{KillOnDrop, Node, wait_until};
use serde_json::{Value, json};

use super::cni_exec::Plugin;

/// How many of the agent's last lines an error shows.
const LOG_TAIL: usize = 8;

/// Where the programs under demonstration are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) flatnet: PathBuf,
    pub(crate) flatnetd: PathBuf,
}

impl Programs {
    /// The programs in `dir`, or beside our own executable file.
    pub(crate) fn find(dir: Option<&Path>) -> Result<Self> {
        let own = std::env::current_exe().context("find flatpod's own executable file")?;
        let dir = dir.or(own.parent()).unwrap_or(Path::new("/"));
        let dir = dir.canonicalize().with_context(|| format!("look in {}", dir.display()))?;
        let find = |name: &str| {
            let path = dir.join(name);
            let hint = || format!("no {name} in {}: build it, or say --bin-dir", dir.display());
            if path.is_file() { Ok(path) } else { Err(anyhow!(hint())) }
        };
        Ok(Self { flatnet: find("flatnet")?, flatnetd: find("flatnetd")? })
    }
}

/// A node with a running agent, which is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct SimNode {
    /// Its place on the fabric.
    pub(crate) place: Node,
    /// Its plugin.
    pub(crate) plugin: Plugin,
    dir: PathBuf,
    agent: KillOnDrop,
}

impl SimNode {
    /// Starts `flatnetd` on `place`, with everything it needs in `dir`. Does not wait for it.
    #[expect(clippy::disallowed_methods, reason = "an agent is a program")]
    pub(crate) fn start(place: Node, dir: PathBuf, programs: &Programs, config: &Value) -> Result<Self> {
        let state_dir = dir.join("state");
        fs::create_dir_all(&state_dir).with_context(|| format!("create {}", dir.display()))?;
        let mut config = config.clone();
        config["node"] = json!(place.name);
        config["stateDir"] = json!(state_dir);
        // JSON is YAML.
        let config_file = dir.join("agent.yaml");
        fs::write(&config_file, config.to_string()).context("write the agent's configuration")?;
        let log = File::create(log_of(&dir)).context("create the agent's log")?;
        let mut command = std::process::Command::new(&programs.flatnetd);
        command.arg("run").arg("--config").arg(&config_file).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        place.ns.enter_for_child(&mut command)?;
        let started = command.spawn().with_context(|| format!("start {}", programs.flatnetd.display()))?;
        let plugin =
            Plugin { path: programs.flatnet.clone(), conf: Plugin::conf(&state_dir), ns: place.ns.clone() };
        Ok(Self { place, plugin, dir, agent: KillOnDrop::new(started) })
    }

    /// Waits until the agent has published what the plugin needs.
    pub(crate) fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let snapshot = self.dir.join("state/node.json");
        let what = format!("{} from the agent of {}", snapshot.display(), self.place.name);
        let ended = wait_until(&what, within, || match self.agent.ended() {
            Some(status) => Some(Some(status)),
            None => snapshot.exists().then_some(None),
        });
        match ended {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(anyhow!("flatnetd of {} ended: {status}", self.place.name)),
            Err(timeout) => Err(timeout.into()),
        }
        .map_err(|e| e.context(self.log_tail()))
    }

    /// The last lines that the agent wrote.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(log_of(&self.dir)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        format!("flatnetd of {} wrote:\n  {}", self.place.name, tail.join("\n  "))
    }
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("flatnetd.log")
}
