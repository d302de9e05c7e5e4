//! The agent's configuration: as written (file, environment, flags), and as checked, with every error of
//! the former reported together.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flatnet_core::life::DEFAULT_GRACE_SECONDS;
use flatnet_core::link::{SEGMENT_SIZE, SEGMENT_SIZE_MAX, Vni};
use flatnet_core::names::{IfName, NodeName};
use flatnet_core::overlay::flannel::Asked;
use flatnet_core::overlay::guard::Rule;
use flatnet_core::overlay::settings::{Backend, Settings};
use serde::Deserialize;

use crate::install::{Others, Wish};
use crate::yaml;

mod store;

#[cfg(feature = "kubernetes")]
pub(crate) use store::KubernetesConfig;
use store::RawStore;
#[cfg(feature = "etcd")]
pub(crate) use store::{EtcdConfig, Tls};
pub(crate) use store::{EtcdOverrides, KubernetesOverrides, StoreConfig};

/// Read where no other file is named, if it is there.
const DEFAULT_FILE: &str = "/etc/flatnet/agent.yaml";
/// A tmpfs: pods do not survive a boot, nor may their records.
const DEFAULT_STATE_DIR: &str = "/run/flatnet";
/// This node only: metrics and health are not for the network unless somebody says so.
const DEFAULT_LISTEN: &str = "127.0.0.1:9473";
/// Seconds between two rounds of collecting: nothing waits for it, and each reads every record.
const DEFAULT_GC_INTERVAL: f64 = 60.0;
const DEFAULT_VNI: u32 = 1;
/// Linux's own VXLAN port, and flannel's; IANA's 4789 is often taken by the fabric itself.
const DEFAULT_PORT: u16 = 8472;

/// What flags and environment say.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) file: Option<PathBuf>,
    pub(crate) node: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) backend: Option<String>,
    pub(crate) vni: Option<u32>,
    pub(crate) port: Option<u16>,
    pub(crate) peers_only: Option<bool>,
    pub(crate) masquerade: Option<bool>,
    pub(crate) store_file: Option<PathBuf>,
    pub(crate) max_remove_share: Option<u8>,
    pub(crate) remove_confirm_seconds: Option<u64>,
    pub(crate) uplink_segment_size: Option<u32>,
    pub(crate) etcd: EtcdOverrides,
    pub(crate) kubernetes: KubernetesOverrides,
    pub(crate) gc_interval: Option<f64>,
    pub(crate) gc_grace: Option<u64>,
    pub(crate) install_conf_dir: Option<PathBuf>,
    pub(crate) install_take_over: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawConfig {
    node: Option<String>,
    interface: Option<String>,
    state_dir: Option<PathBuf>,
    listen: Option<String>,
    backend: RawBackend,
    masquerade: Option<bool>,
    store: RawStore,
    max_remove_share: Option<u8>,
    remove_confirm_seconds: Option<u64>,
    uplink_segment_size: Option<u32>,
    gc: RawGc,
    install: RawInstall,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGc {
    interval: Option<f64>,
    grace: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawInstall {
    conf_dir: Option<PathBuf>,
    take_over: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawBackend {
    r#type: Option<String>,
    vni: Option<u32>,
    port: Option<u16>,
    peers_only: Option<bool>,
}

/// A configuration that can be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) interface: Interface,
    pub(crate) state_dir: PathBuf,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) masquerade: bool,
    pub(crate) store: StoreConfig,
    pub(crate) guard: Rule,
    pub(crate) gc: Gc,
    /// The network configuration that the agent keeps in place; `None`: that is not its business.
    pub(crate) install: Option<Wish>,
}

/// When to collect what nobody uses any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gc {
    /// Time between two rounds; `None`: never.
    pub(crate) interval: Option<Duration>,
    /// Seconds for which nothing is taken for dead.
    pub(crate) grace: u64,
}

/// The part of a configuration that concerns this machine only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) state_dir: PathBuf,
}

/// Which link leads to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interface {
    /// The one with this node's address in the store, else the one of the default route.
    Auto,
    /// This one.
    Name(IfName),
    /// The one with this address.
    Address(IpAddr),
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration: ")?;
        match self.0.as_slice() {
            [only] => f.write_str(only),
            several => {
                write!(f, "{} errors", several.len())?;
                several.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl Config {
    /// Reads and checks everything. Flags win over environment, environment over the file.
    ///
    /// # Errors
    /// All that is wrong.
    pub(crate) fn load(overrides: Overrides) -> Result<Self, ConfigErrors> {
        let raw = read_file(overrides.file.as_deref())?;
        Self::check(merge(raw, overrides), &host_name)
    }

    /// Reads what concerns this machine only: enough to clean up after a configuration that is gone.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn load_local(overrides: Overrides) -> Result<Local, ConfigErrors> {
        let raw = merge(read_file(overrides.file.as_deref())?, overrides);
        let state_dir = raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let state_dir = absolute(&state_dir).map_err(|e| ConfigErrors(vec![format!("stateDir: {e}")]))?;
        Ok(Local { state_dir })
    }

    fn check(raw: RawConfig, host_name: &dyn Fn() -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut errors = Errors::default();
        let node = raw.node.or_else(host_name).unwrap_or_default();
        let node: Option<NodeName> = errors.keep("node", node.parse());
        let interface = match raw.interface.as_deref().unwrap_or("auto") {
            "auto" => Some(Interface::Auto),
            text => match text.parse() {
                Ok(address) => Some(Interface::Address(address)),
                Err(_) => errors.keep("interface", text.parse().map(Interface::Name)),
            },
        };
        let listen = errors.keep("listen", listen(raw.listen.as_deref().unwrap_or(DEFAULT_LISTEN)));
        let backend = raw.backend.r#type.as_deref().unwrap_or("auto").parse::<Backend>();
        let backend = errors.keep("backend.type", backend);
        let vni = errors.keep("backend.vni", Vni::try_from(raw.backend.vni.unwrap_or(DEFAULT_VNI)));
        let port = raw.backend.port.unwrap_or(DEFAULT_PORT);
        let port = errors.keep("backend.port", (port != 0).then_some(port).ok_or("0 is not a port"));
        let state_dir = raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let state_dir = errors.keep("stateDir", absolute(&state_dir));
        let asked = Asked {
            backend: backend.filter(|_| raw.backend.r#type.is_some()),
            vni: vni.filter(|_| raw.backend.vni.is_some()),
            port: port.filter(|_| raw.backend.port.is_some()),
        };
        let store = raw.store.check(asked, &mut errors);
        let share = raw.max_remove_share.unwrap_or(Rule::default().max_share);
        let share =
            (share <= 100).then_some(share).ok_or_else(|| format!("{share} is more than 100 percent"));
        let max_share = errors.keep("maxRemoveShare", share);
        let confirm = raw.remove_confirm_seconds.map_or(Rule::default().confirm, Duration::from_secs);
        let segments = errors.keep("uplinkSegmentSize", segment_size(raw.uplink_segment_size));
        let gc = errors.keep("gc.interval", raw.gc.check());
        let install = state_dir.as_deref().map(|state_dir| raw.install.checked(state_dir));
        let install = install.and_then(|install| errors.keep("install", install));
        let settings = (|| {
            let peers_only = raw.backend.peers_only.unwrap_or(true);
            let (node, backend, vni, port) = (node?, backend?, vni?, port?);
            Some(Settings { node, backend, vni, port, peers_only, uplink_segment_size: segments? })
        })();
        let settings = settings
            .zip(store.as_ref())
            .and_then(|(settings, store)| errors.keep("store.kubernetes.network", store.decide(settings)));
        let checked = (|| {
            Some(Self {
                settings: settings?,
                interface: interface?,
                state_dir: state_dir?,
                listen: listen?,
                masquerade: raw.masquerade.unwrap_or(true),
                store: store?,
                guard: Rule { max_share: max_share?, confirm },
                gc: gc?,
                install: install?,
            })
        })();
        checked.ok_or(ConfigErrors(errors.0))
    }
}

#[derive(Default)]
struct Errors(Vec<String>);

impl Errors {
    fn keep<T, E: fmt::Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.0.push(format!("{key}: {e}"))).ok()
    }
}

impl RawGc {
    fn check(&self) -> Result<Gc, String> {
        let seconds = self.interval.unwrap_or(DEFAULT_GC_INTERVAL);
        let interval = Duration::try_from_secs_f64(seconds).map_err(|e| format!("{seconds}: {e}"))?;
        let interval = (!interval.is_zero()).then_some(interval);
        Ok(Gc { interval, grace: self.grace.unwrap_or(DEFAULT_GRACE_SECONDS) })
    }
}

impl RawInstall {
    fn checked(self, state_dir: &Path) -> Result<Option<Wish>, String> {
        let Some(conf_dir) = self.conf_dir else {
            return match self.take_over {
                None => Ok(None),
                Some(_) => Err("takeOver means nothing without confDir".to_owned()),
            };
        };
        Ok(Some(Wish {
            conf_dir: absolute(&conf_dir)?,
            state_dir: state_dir.to_owned(),
            subnets: Vec::new(),
            others: Others::take_over(self.take_over.unwrap_or(false)),
        }))
    }
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("{text:?} is not ADDRESS:PORT or \"off\"")),
    }
}

fn segment_size(size: Option<u32>) -> Result<Option<u32>, String> {
    let range = SEGMENT_SIZE..=SEGMENT_SIZE_MAX;
    match size.filter(|size| !range.contains(size)) {
        Some(size) => Err(format!("{size} is outside {SEGMENT_SIZE}..={SEGMENT_SIZE_MAX}")),
        None => Ok(size),
    }
}

/// Names a file whatever the working directory becomes.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|e| format!("{:?}: {e}", path.display()))
}

fn read_file(named: Option<&Path>) -> Result<RawConfig, ConfigErrors> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(RawConfig::default());
        }
        Err(e) => return Err(ConfigErrors(vec![format!("read {}: {e}", path.display())])),
    };
    yaml::read(&text).map_err(|e| ConfigErrors(vec![format!("{}: {e}", path.display())]))
}

fn merge(mut raw: RawConfig, over: Overrides) -> RawConfig {
    raw.node = over.node.or(raw.node);
    raw.interface = over.interface.or(raw.interface);
    raw.state_dir = over.state_dir.or(raw.state_dir);
    raw.listen = over.listen.or(raw.listen);
    raw.backend.r#type = over.backend.or(raw.backend.r#type);
    raw.backend.vni = over.vni.or(raw.backend.vni);
    raw.backend.port = over.port.or(raw.backend.port);
    raw.backend.peers_only = over.peers_only.or(raw.backend.peers_only);
    raw.masquerade = over.masquerade.or(raw.masquerade);
    raw.uplink_segment_size = over.uplink_segment_size.or(raw.uplink_segment_size);
    raw.max_remove_share = over.max_remove_share.or(raw.max_remove_share);
    raw.remove_confirm_seconds = over.remove_confirm_seconds.or(raw.remove_confirm_seconds);
    raw.gc.interval = over.gc_interval.or(raw.gc.interval);
    raw.gc.grace = over.gc_grace.or(raw.gc.grace);
    raw.install.conf_dir = over.install_conf_dir.or(raw.install.conf_dir);
    raw.install.take_over = over.install_take_over.or(raw.install.take_over);
    raw.store.merge(over.store_file, over.etcd, over.kubernetes);
    raw
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests;
