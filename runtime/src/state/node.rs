//! A node: the machine itself, or a simulated one with its own network namespace and its own CNI directories.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::file::{read_json, write_json};
use crate::{log::Limits, seccomp::Profile};

/// Where CNI configuration is looked for on a machine.
const CONF_DIR: &str = "/etc/cni/net.d";
/// Where plugins are looked for: the convention, and Debian's place.
const BIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// Where libcni keeps results on a machine.
const CACHE_DIR: &str = "/var/lib/cni";

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRecord {
    pub(crate) name: String,
    /// Where its network namespace is mounted; `None` is the machine's own.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) cni_conf_dir: PathBuf,
    pub(crate) cni_bin_dirs: Vec<PathBuf>,
    pub(crate) cni_cache_dir: PathBuf,
    /// What plugins see at `/var/lib/cni`; `None` is the machine's own.
    pub(crate) var_lib_cni: Option<PathBuf>,
    /// Its own addresses.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    /// The longest wait before a container is restarted, in seconds.
    #[serde(default)]
    pub(crate) max_restart_period: Option<u64>,
    /// How much of its containers' logs is kept.
    #[serde(default)]
    pub(crate) log: Limits,
    /// Which system calls the containers of pods may make that do not say.
    #[serde(default)]
    pub(crate) seccomp: Profile,
    /// The switch's end of its cable, when it is on a fabric.
    #[serde(default)]
    pub(crate) port: Option<String>,
    /// For how many seconds the pods of workloads wait for it when it has failed.
    #[serde(default)]
    pub(crate) grace: Option<u64>,
}

impl NodeRecord {
    /// The machine itself as a node.
    pub(crate) fn machine() -> Result<Self> {
        let name = nix::unistd::gethostname().context("get the machine's host name")?;
        Ok(Self {
            name: name.to_string_lossy().to_lowercase(),
            netns: None,
            cni_conf_dir: CONF_DIR.into(),
            cni_bin_dirs: BIN_DIRS.iter().map(PathBuf::from).collect(),
            cni_cache_dir: CACHE_DIR.into(),
            var_lib_cni: None,
            addresses: machine_addresses()?,
            max_restart_period: None,
            log: Limits::default(),
            seccomp: Profile::default(),
            port: None,
            grace: None,
        })
    }
}

impl NodeRecord {
    /// The labels that a kubelet gives its node, and that a `nodeSelector` may name.
    pub(crate) fn labels(&self) -> [(&'static str, &str); 3] {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        [("kubernetes.io/hostname", &self.name), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", arch)]
    }

    /// Whether the node has every label that is asked for.
    pub(crate) fn is_selected(&self, selector: &BTreeMap<String, String>) -> bool {
        let labels = self.labels();
        selector.iter().all(|(key, value)| labels.contains(&(key.as_str(), value.as_str())))
    }
}

/// The machine's first address of each family that others can use, IPv4 first.
fn machine_addresses() -> Result<Vec<IpAddr>> {
    let all = nix::ifaddrs::getifaddrs().context("list the machine's addresses")?;
    let ip = |one: nix::ifaddrs::InterfaceAddress| -> Option<IpAddr> {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let all: Vec<IpAddr> = all.filter_map(ip).filter(usable).collect();
    let first = |wanted: fn(&&IpAddr) -> bool| all.iter().find(wanted).copied();
    Ok([first(|ip| ip.is_ipv4()), first(|ip| ip.is_ipv6())].into_iter().flatten().collect())
}

/// A node's files.
#[derive(Debug, Clone)]
pub(crate) struct NodeDir {
    path: PathBuf,
    name: String,
}

impl NodeDir {
    pub(super) fn new(path: PathBuf, name: &str) -> Self {
        Self { path, name: name.to_owned() }
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of it.
    pub(crate) fn record(&self) -> Result<NodeRecord> {
        let hint = || format!("no node {}: make it with `flatpod node create {}`", self.name, self.name);
        read_json(&self.record_file())?.with_context(hint)
    }

    /// Remembers it.
    pub(crate) fn put(&self, record: &NodeRecord) -> Result<()> {
        write_json(&self.record_file(), record)
    }

    /// A new simulated node's record, with its directories below its own.
    pub(crate) fn simulated(&self) -> NodeRecord {
        let cni = self.path.join("cni");
        NodeRecord {
            name: self.name.clone(),
            netns: Some(self.path.join("net")),
            cni_conf_dir: cni.join("net.d"),
            cni_bin_dirs: BIN_DIRS.iter().map(PathBuf::from).collect(),
            cni_cache_dir: cni.join("cache"),
            var_lib_cni: Some(cni.join("var-lib-cni")),
            addresses: vec![],
            max_restart_period: None,
            log: Limits::default(),
            seccomp: Profile::default(),
            port: None,
            grace: None,
        }
    }

    /// Since when it has failed; `None` when it can be reached.
    pub(crate) fn failure(&self) -> Result<Option<Timestamp>> {
        read_json(&self.failure_file())
    }

    /// Remembers since when it has failed, or that it has not.
    pub(crate) fn put_failure(&self, since: Option<Timestamp>) -> Result<()> {
        let file = self.failure_file();
        match since {
            Some(since) => write_json(&file, &since),
            None if file.exists() => {
                fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
            }
            None => Ok(()),
        }
    }

    /// Whether it is being deleted, and gets no pods any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving_file().exists()
    }

    /// Remembers that it is being deleted.
    pub(crate) fn put_leaving(&self) -> Result<()> {
        write_json(&self.leaving_file(), &Timestamp::now())
    }

    fn failure_file(&self) -> PathBuf {
        self.path.join("failed.json")
    }

    fn leaving_file(&self) -> PathBuf {
        self.path.join("leaving.json")
    }

    pub(super) fn record_file(&self) -> PathBuf {
        self.path.join("node.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_addresses_are_of_use_to_others() {
        let found = machine_addresses().unwrap();
        assert!(found.len() <= 2 && found.iter().all(|ip| !ip.is_loopback()), "{found:?}");
    }
}
