//! What can be asked of `flatnetd install` and `flatnetd uninstall`.

use std::path::PathBuf;

use clap::Args;
use ipnetwork::IpNetwork;

use crate::config::{Config, Local, Overrides};

/// Where things go.
#[derive(Debug, Args)]
pub(crate) struct Places {
    /// The runtime's plugin directory (containerd: bin_dir)
    #[arg(long, env = "FLATNET_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) bin_dir: PathBuf,
    /// The runtime's network configuration directory (containerd: conf_dir)
    #[arg(long, env = "FLATNET_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub(crate) conf_dir: PathBuf,
    /// Agent configuration, for its stateDir [default: /etc/flatnet/agent.yaml, if it is there]
    #[arg(long, env = "FLATNET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the agent writes node.json [default: /run/flatnet]
    #[arg(long, env = "FLATNET_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl Places {
    /// Where the agent keeps its state.
    pub(crate) fn local(&self) -> anyhow::Result<Local> {
        let overrides = Overrides {
            file: self.config.clone(),
            state_dir: self.state_dir.clone(),
            ..Overrides::default()
        };
        Config::load_local(overrides).map_err(|e| anyhow::anyhow!("{e}"))
    }
}

/// `flatnetd install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) places: Places,
    /// Rename configurations that runtimes prefer to ours, so that they are not loaded; uninstall puts them
    /// back
    #[arg(long)]
    pub(crate) take_over: bool,
    /// The plugin [default: the file `flatnet` beside flatnetd]
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// Wait so long for the agent's first node snapshot
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
    /// Install the plugin only, not the configuration
    #[arg(long, conflicts_with_all = ["take_over", "wait", "subnets"])]
    pub(crate) binaries_only: bool,
    /// For a machine without an agent: the subnets of its pods
    #[arg(long, value_name = "SUBNET,...", value_delimiter = ',', conflicts_with = "wait")]
    pub(crate) subnets: Vec<IpNetwork>,
}

/// `flatnetd uninstall`.
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    pub(crate) places: Places,
    /// Also while pods are attached, or other configurations call the plugin
    #[arg(long)]
    pub(crate) force: bool,
}
