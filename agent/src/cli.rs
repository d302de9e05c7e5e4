//! The command line: what can be asked of `flatnetd`, and which function answers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, EtcdOverrides, KubernetesOverrides, Overrides};
use crate::install::args::{InstallArgs, UninstallArgs};
use crate::{check, cleanup, daemon, install, output, view};

/// The per-node agent of Flatnet: learns the other nodes from a store and keeps this node's routes, VXLAN
/// device and node snapshot as they should be.
#[derive(Debug, Parser)]
#[command(name = "flatnetd", version, propagate_version = true, after_long_help = LONG_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_HELP: &str = "\
EXAMPLE
  A cluster file, the same on every node (/etc/flatnet/cluster.yaml):
    network: { ipv4: 10.244.0.0/16 }
    nodes:
      - { name: n1, address: 192.0.2.1, subnets: [10.244.1.0/24] }
      - { name: n2, address: 192.0.2.2, subnets: [10.244.2.0/24] }

  An agent file (/etc/flatnet/agent.yaml); every key has a default but the store:
    node: n1
    backend: { type: auto }
    store: { file: { path: /etc/flatnet/cluster.yaml } }

  flatnetd check-config     is everything written correctly?
  flatnetd run              keep the kernel true to the cluster
  flatnetd status           how is it?
  flatnetd install          tell the container runtime

EXIT STATUS
  0 done   1 failed   2 wrong usage";

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep this node's kernel true to the cluster, until told to stop
    ///
    /// Stopping (SIGTERM, SIGINT) leaves routes and devices in place: pods keep talking. The cluster file
    /// is read again whenever it changes; a bad one is reported and changes nothing.
    Run(Settings),
    /// Show this node, its store, how each peer is reached, and what is wrong
    Status {
        #[command(flatten)]
        settings: Settings,
        /// How to print it
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove everything the agent made: devices, routes, nexthops, node snapshot
    ///
    /// Pods' own interfaces and routes stay; so do settings such as IP forwarding. Stop the agent first.
    Cleanup(Settings),
    /// Check agent configuration and cluster file, and report all that is wrong
    CheckConfig(Settings),
    /// Install the plugin and the network configuration for the container runtime
    ///
    /// Puts `flatnet` (and, where there is none, `loopback`) into the plugin directory, and
    /// 10-flatnet.conflist into the configuration directory once the agent has written its first node
    /// snapshot. Replaces any other version. Safe to kill, and to run again.
    Install {
        #[command(flatten)]
        args: InstallArgs,
        /// How to print what was done
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove what install put there, and put back what --take-over renamed
    ///
    /// Refuses while pods are attached: only the plugin can remove their interfaces.
    Uninstall {
        #[command(flatten)]
        args: UninstallArgs,
        /// How to print what was done
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct Settings {
    /// Agent configuration [default: /etc/flatnet/agent.yaml, if it is there]
    #[arg(long, env = "FLATNET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// This node's name [default: the host name]
    #[arg(long, env = "FLATNET_NODE")]
    node: Option<String>,
    /// Uplink: an interface, an address on it, or auto [default: auto]
    #[arg(long, env = "FLATNET_INTERFACE")]
    interface: Option<String>,
    /// Where node.json and agent.json go [default: /run/flatnet]
    #[arg(long, env = "FLATNET_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:9473]
    #[arg(long, env = "FLATNET_LISTEN", value_name = "ADDRESS:PORT|off")]
    listen: Option<String>,
    /// vxlan, direct or auto [default: auto]
    #[arg(long, env = "FLATNET_BACKEND")]
    backend: Option<String>,
    /// VXLAN network identifier [default: 1]
    #[arg(long, env = "FLATNET_VNI")]
    vni: Option<u32>,
    /// VXLAN's UDP port [default: 8472]
    #[arg(long, env = "FLATNET_PORT")]
    port: Option<u16>,
    /// Whether VXLAN packets count only from addresses of the cluster's nodes [default: true]
    #[arg(long, env = "FLATNET_PEERS_ONLY", value_name = "BOOL")]
    peers_only: Option<bool>,
    /// Whether traffic that leaves the cluster is masqueraded [default: true]
    #[arg(long, env = "FLATNET_MASQUERADE", value_name = "BOOL")]
    masquerade: Option<bool>,
    /// The cluster file
    #[arg(long, env = "FLATNET_STORE_FILE", value_name = "FILE")]
    store_file: Option<PathBuf>,
    /// If the store drops more than this share of the peers at once, they stay until it has done without
    /// them for a while; 100: never [default: 50]
    #[arg(long, env = "FLATNET_MAX_REMOVE_SHARE", value_name = "PERCENT")]
    max_remove_share: Option<u8>,
    /// That while, in seconds [default: 30]
    #[arg(long, env = "FLATNET_REMOVE_CONFIRM_SECONDS", value_name = "SECONDS")]
    remove_confirm_seconds: Option<u64>,
    /// Raise the uplink's segment sizes (GSO, GRO) to this while no peer needs VXLAN [default: leave it]
    #[arg(long, env = "FLATNET_UPLINK_SEGMENT_SIZE", value_name = "BYTES")]
    uplink_segment_size: Option<u32>,
    #[command(flatten)]
    etcd: Etcd,
    #[command(flatten)]
    kubernetes: Kubernetes,
    /// Seconds between two rounds of collecting what nobody uses any more; 0: never [default: 60]
    #[arg(long, env = "FLATNET_GC_INTERVAL", value_name = "SECONDS")]
    gc_interval: Option<f64>,
    /// Seconds for which nothing is taken for dead [default: 60]
    #[arg(long, env = "FLATNET_GC_GRACE", value_name = "SECONDS")]
    gc_grace: Option<u64>,
    /// Keep 10-flatnet.conflist in this directory from when pods can start [default: leave that to install]
    #[arg(long, env = "FLATNET_INSTALL_CONF_DIR", value_name = "DIR")]
    install_conf_dir: Option<PathBuf>,
    /// Rename configurations there that runtimes prefer to ours [default: false]
    #[arg(long, env = "FLATNET_INSTALL_TAKE_OVER", value_name = "BOOL")]
    install_take_over: Option<bool>,
    /// What to log: error, warn, info, debug, or a tracing filter
    #[arg(long, env = "FLATNET_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How to log
    #[arg(long, env = "FLATNET_LOG_FORMAT", value_enum, default_value_t = Output::Text)]
    log_format: Output,
}

/// How to get at etcd, where that is the store.
#[derive(Debug, Args)]
struct Etcd {
    /// etcd's endpoints (http:// or https://), separated by commas
    #[arg(long, env = "FLATNET_ETCD_ENDPOINTS", value_name = "URL", value_delimiter = ',')]
    etcd_endpoints: Option<Vec<String>>,
    /// Where flannel's keys are [default: /coreos.com/network]
    #[arg(long, env = "FLATNET_ETCD_PREFIX", value_name = "PATH")]
    etcd_prefix: Option<String>,
    /// Authority that signed etcd's certificates
    #[arg(long, env = "FLATNET_ETCD_CA", value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// This node's certificate for etcd
    #[arg(long, env = "FLATNET_ETCD_CERT", value_name = "FILE")]
    etcd_cert: Option<PathBuf>,
    /// The key to that certificate
    #[arg(long, env = "FLATNET_ETCD_KEY", value_name = "FILE")]
    etcd_key: Option<PathBuf>,
    /// User of etcd
    #[arg(long, env = "FLATNET_ETCD_USERNAME", value_name = "NAME")]
    etcd_username: Option<String>,
    /// That user's password; better in the environment or a file, where others do not see it
    #[arg(long, env = "FLATNET_ETCD_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    etcd_password: Option<String>,
    /// File with that user's password
    #[arg(long, env = "FLATNET_ETCD_PASSWORD_FILE", value_name = "FILE")]
    etcd_password_file: Option<PathBuf>,
    /// How long etcd keeps this node's subnet while the node is away [default: 86400]
    #[arg(long, env = "FLATNET_ETCD_LEASE_SECONDS", value_name = "SECONDS")]
    etcd_lease_seconds: Option<u64>,
}

/// How to get at Kubernetes, where that is the store.
#[derive(Debug, Args)]
struct Kubernetes {
    /// Where the API server is and who we are [default: as a pod's service account]
    #[arg(long, env = "FLATNET_KUBERNETES_KUBECONFIG", value_name = "FILE")]
    kubernetes_kubeconfig: Option<PathBuf>,
    /// The pods' network, as flannel's net-conf.json
    #[arg(long, env = "FLATNET_KUBERNETES_NETWORK", value_name = "JSON")]
    kubernetes_network: Option<String>,
}

impl Etcd {
    fn overrides(self) -> EtcdOverrides {
        EtcdOverrides {
            endpoints: self.etcd_endpoints,
            prefix: self.etcd_prefix,
            ca: self.etcd_ca,
            cert: self.etcd_cert,
            key: self.etcd_key,
            username: self.etcd_username,
            password: self.etcd_password,
            password_file: self.etcd_password_file,
            lease_seconds: self.etcd_lease_seconds,
        }
    }
}

impl Settings {
    fn overrides(self) -> Overrides {
        Overrides {
            file: self.config,
            node: self.node,
            interface: self.interface,
            state_dir: self.state_dir,
            listen: self.listen,
            backend: self.backend,
            vni: self.vni,
            port: self.port,
            peers_only: self.peers_only,
            masquerade: self.masquerade,
            store_file: self.store_file,
            uplink_segment_size: self.uplink_segment_size,
            max_remove_share: self.max_remove_share,
            remove_confirm_seconds: self.remove_confirm_seconds,
            etcd: self.etcd.overrides(),
            kubernetes: KubernetesOverrides {
                kubeconfig: self.kubernetes.kubernetes_kubeconfig,
                network: self.kubernetes.kubernetes_network,
            },
            gc_interval: self.gc_interval,
            gc_grace: self.gc_grace,
            install_conf_dir: self.install_conf_dir,
            install_take_over: self.install_take_over,
        }
    }

    fn start_logging(&self) -> Result<(), String> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log).map_err(|e| format!("--log: {e}"))?;
        let builder =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        match self.log_format {
            Output::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
            Output::Json => builder.json().flatten_event(true).init(),
        }
        Ok(())
    }
}

/// Runs one command.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(settings) => settings
            .start_logging()
            .and_then(|()| Config::load(settings.overrides()).map_err(|e| e.to_string()))
            .and_then(|config| daemon::run(config).map_err(|e| format!("{e:#}"))),
        Command::Status { settings, output } => Config::load_local(settings.overrides())
            .map_err(|e| e.to_string())
            .and_then(|local| view::show(&local, output == Output::Json).map_err(|e| format!("{e:#}"))),
        Command::Cleanup(settings) => settings
            .start_logging()
            .and_then(|()| Config::load_local(settings.overrides()).map_err(|e| e.to_string()))
            .and_then(|local| cleanup::run(&local).map_err(|e| format!("{e:#}"))),
        Command::CheckConfig(settings) => check::run(settings.overrides()),
        Command::Install { args, output } => {
            install::install(&args, output == Output::Json).map_err(|e| format!("{e:#}"))
        }
        Command::Uninstall { args, output } => {
            install::uninstall(&args, output == Output::Json).map_err(|e| format!("{e:#}"))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            output::complain(&text);
            ExitCode::FAILURE
        }
    }
}

#[cfg(all(test, feature = "etcd", feature = "kubernetes"))]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Each setting is in a row of the pages' tables, with its flag and its variable.
    #[test]
    fn every_setting_is_documented() {
        let pages = [
            include_str!("../../docs/agent.md"),
            include_str!("../../docs/etcd.md"),
            include_str!("../../docs/kubernetes.md"),
        ];
        let rows: Vec<&str> =
            pages.iter().flat_map(|page| page.lines()).filter(|line| line.starts_with('|')).collect();
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let settings: Vec<_> =
            run.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg.get_env()?.to_str()?))).collect();
        assert!(settings.len() > 25, "{settings:?}");
        for (flag, variable) in settings {
            let ends = ["`", " "].map(|end| format!("`--{flag}{end}"));
            let is_told = |row: &&str| ends.iter().any(|flag| row.contains(flag)) && row.contains(variable);
            assert!(rows.iter().any(is_told), "--{flag} ({variable}) is in no table");
        }
    }
}
