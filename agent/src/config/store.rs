//! Which store, and how to get at it.

use std::fmt;
#[cfg(feature = "etcd")]
use std::path::Path;
use std::path::PathBuf;
#[cfg(feature = "etcd")]
use std::time::Duration;

use flatnet_core::overlay::flannel::Asked;
use flatnet_core::overlay::settings::Settings;
use serde::Deserialize;

use super::{Errors, absolute};

mod kubernetes;

#[cfg(feature = "kubernetes")]
pub(crate) use kubernetes::KubernetesConfig;
pub(crate) use kubernetes::KubernetesOverrides;
use kubernetes::RawKubernetesStore;

/// flannel's, so that nodes of both find each other.
#[cfg(feature = "etcd")]
const DEFAULT_PREFIX: &str = "/coreos.com/network";
/// flannel's: how long a subnet is kept for a node that is away.
#[cfg(feature = "etcd")]
const DEFAULT_LEASE: u64 = 86_400;
/// Below, an election in etcd would cost nodes their subnets.
#[cfg(feature = "etcd")]
const SHORTEST_LEASE: u64 = 5;

/// Where the cluster is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreConfig {
    /// In this YAML file.
    File(PathBuf),
    /// In etcd, in flannel's layout.
    #[cfg(feature = "etcd")]
    Etcd(EtcdConfig),
    /// In Kubernetes' Node objects, with flannel's annotations.
    #[cfg(feature = "kubernetes")]
    Kubernetes(KubernetesConfig),
}

impl StoreConfig {
    /// `file`, `etcd` or `kubernetes`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => "etcd",
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

impl StoreConfig {
    /// What is to be done where the configuration names the network as well: its word counts.
    ///
    /// # Errors
    /// The node was told something else.
    pub(super) fn decide(&self, settings: Settings) -> Result<Settings, String> {
        match self {
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(store) => {
                store.network.settings(&settings, store.asked).map_err(|e| e.to_string())
            }
            _ => Ok(settings),
        }
    }
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => write!(f, "{}{}", etcd.endpoints.join(","), etcd.prefix),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(kubernetes) => kubernetes.fmt(f),
        }
    }
}

/// How to get at etcd.
#[cfg(feature = "etcd")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EtcdConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`; at least one.
    pub(crate) endpoints: Vec<String>,
    /// Begins with a slash and does not end with one.
    pub(crate) prefix: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) user: Option<(String, Secret)>,
    /// How long a claim lives without renewal.
    pub(crate) lease: Duration,
    /// What the configuration asks of the network.
    pub(crate) asked: Asked,
}

/// Files for TLS, read again for each connection, so that new certificates need no restart.
#[cfg(feature = "etcd")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    /// Certificate and key of the client.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// A password, or where it is.
#[cfg(feature = "etcd")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Text(String),
    File(PathBuf),
}

#[cfg(feature = "etcd")]
impl Secret {
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

#[cfg(feature = "etcd")]
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("(hidden)"),
            Self::File(path) => path.fmt(f),
        }
    }
}

/// What flags and environment say about etcd.
#[derive(Default)]
pub(crate) struct EtcdOverrides {
    pub(crate) endpoints: Option<Vec<String>>,
    pub(crate) prefix: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) lease_seconds: Option<u64>,
}

impl fmt::Debug for EtcdOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOverrides").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    file: Option<RawFileStore>,
    etcd: Option<RawEtcdStore>,
    kubernetes: Option<RawKubernetesStore>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFileStore {
    path: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawEtcdStore {
    endpoints: Vec<String>,
    prefix: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    lease_seconds: Option<u64>,
}

impl fmt::Debug for RawEtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEtcdStore").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl RawStore {
    /// A store that flags name takes the place of the file's.
    pub(super) fn merge(
        &mut self,
        file: Option<PathBuf>,
        over: EtcdOverrides,
        kubernetes: KubernetesOverrides,
    ) {
        let by_flag = (file.is_some(), over.endpoints.is_some(), kubernetes.network.is_some());
        if by_flag != (false, false, false) {
            let etcd = self.etcd.take().filter(|_| by_flag.1).unwrap_or_default();
            let nodes = self.kubernetes.take().filter(|_| by_flag.2).unwrap_or_default();
            *self = Self {
                file: file.map(|path| RawFileStore { path }),
                etcd: by_flag.1.then_some(etcd),
                kubernetes: by_flag.2.then_some(nodes),
            };
        }
        if let Some(raw) = &mut self.kubernetes {
            raw.merge(kubernetes);
        }
        let Some(raw) = &mut self.etcd else { return };
        raw.endpoints = over.endpoints.unwrap_or_else(|| std::mem::take(&mut raw.endpoints));
        if over.password.is_some() || over.password_file.is_some() {
            (raw.password, raw.password_file) = (over.password, over.password_file);
        }
        raw.prefix = over.prefix.or(raw.prefix.take());
        raw.ca = over.ca.or(raw.ca.take());
        raw.cert = over.cert.or(raw.cert.take());
        raw.key = over.key.or(raw.key.take());
        raw.username = over.username.or(raw.username.take());
        raw.lease_seconds = over.lease_seconds.or(raw.lease_seconds);
    }

    pub(super) fn check(self, asked: Asked, errors: &mut Errors) -> Option<StoreConfig> {
        const EXAMPLE: &str =
            "write store: { file: { path: /etc/flatnet/cluster.yaml } } or use --store-file";
        match (self.file, self.etcd, self.kubernetes) {
            (None, None, None) => errors.keep("store", Err(format!("none is given; {EXAMPLE}"))),
            (Some(file), None, None) => errors.keep("store", absolute(&file.path).map(StoreConfig::File)),
            #[cfg(feature = "etcd")]
            (None, Some(etcd), None) => etcd.check(asked, errors).map(StoreConfig::Etcd),
            #[cfg(not(feature = "etcd"))]
            (None, Some(_), None) => {
                errors.keep("store", Err(format!("etcd is not in this build ({asked:?})")))
            }
            #[cfg(feature = "kubernetes")]
            (None, None, Some(kubernetes)) => kubernetes.check(asked, errors).map(StoreConfig::Kubernetes),
            #[cfg(not(feature = "kubernetes"))]
            (None, None, Some(kubernetes)) => {
                kubernetes.refuse(asked, errors);
                None
            }
            (file, etcd, kubernetes) => {
                let given = [
                    (file.is_some(), "file"),
                    (etcd.is_some(), "etcd"),
                    (kubernetes.is_some(), "kubernetes"),
                ];
                let given: Vec<&str> = given.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
                let all = if given.len() == 2 { "both" } else { "all" };
                errors.keep("store", Err(format!("{} are {all} given; keep one", given.join(" and "))))
            }
        }
    }
}

#[cfg(feature = "etcd")]
impl RawEtcdStore {
    fn check(self, asked: Asked, errors: &mut Errors) -> Option<EtcdConfig> {
        let endpoints = errors.keep("store.etcd.endpoints", endpoints(&self.endpoints));
        let prefix = self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
        let prefix = errors.keep("store.etcd.prefix", checked_prefix(prefix));
        let secure = endpoints.iter().flatten().any(|endpoint| endpoint.starts_with("https://"));
        let tls = self.tls(secure, errors);
        let seconds = self.lease_seconds.unwrap_or(DEFAULT_LEASE);
        let lease = (SHORTEST_LEASE..=86_400 * 365)
            .contains(&seconds)
            .then(|| Duration::from_secs(seconds))
            .ok_or_else(|| format!("{seconds} is not from {SHORTEST_LEASE} to a year's"));
        let lease = errors.keep("store.etcd.leaseSeconds", lease);
        let user = errors.keep("store.etcd", self.user());
        Some(EtcdConfig {
            endpoints: endpoints?,
            prefix: prefix?,
            tls: tls?,
            user: user?,
            lease: lease?,
            asked,
        })
    }

    fn tls(&self, secure: bool, errors: &mut Errors) -> Option<Option<Tls>> {
        let given = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        if !secure {
            return match given.iter().find(|(_, path)| path.is_some()) {
                None => Some(None),
                Some((name, _)) => {
                    errors.keep("store.etcd", Err(format!("{name} is given, but no endpoint is https")))
                }
            };
        }
        let mut file = |name: &str, path: &Path, holds: &str| {
            let read = absolute(path).and_then(|path| pem(&path, holds).map(|()| path));
            errors.keep(&format!("store.etcd.{name}"), read)
        };
        let ca = self.ca.as_deref().map(|path| file("ca", path, "CERTIFICATE"));
        let cert = self.cert.as_deref().map(|path| file("cert", path, "CERTIFICATE"));
        let key = self.key.as_deref().map(|path| file("key", path, "PRIVATE KEY"));
        let Some(ca) = ca else {
            let missing = "is missing: an https endpoint is believed by the authority that signed it";
            return errors.keep("store.etcd.ca", Err(missing));
        };
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert?, key?)),
            (Some(_), None) => return errors.keep("store.etcd.key", Err("is missing: cert is given")),
            (None, Some(_)) => return errors.keep("store.etcd.cert", Err("is missing: key is given")),
        };
        Some(Some(Tls { ca: ca?, identity }))
    }

    fn user(self) -> Result<Option<(String, Secret)>, String> {
        let secret = match (self.password, self.password_file) {
            (Some(_), Some(_)) => return Err("password and passwordFile are both given".to_owned()),
            (Some(text), None) => Some(Secret::Text(text)),
            (None, Some(path)) => Some(Secret::File(absolute(&path)?)),
            (None, None) => None,
        };
        match (self.username, secret) {
            (None, None) => Ok(None),
            (Some(name), Some(secret)) => {
                secret.read().map_err(|e| format!("passwordFile: {e}"))?;
                Ok(Some((name, secret)))
            }
            (Some(_), None) => Err("username is given without password or passwordFile".to_owned()),
            (None, Some(_)) => Err("a password is given without username".to_owned()),
        }
    }
}

/// The endpoints with scheme and port.
#[cfg(feature = "etcd")]
fn endpoints(raw: &[String]) -> Result<Vec<String>, String> {
    if raw.is_empty() {
        return Err("is missing: a list like [\"https://192.0.2.10:2379\"]".to_owned());
    }
    let full = |raw: &String| {
        let place = ["https://", "http://"].iter().find_map(|scheme| raw.strip_prefix(scheme));
        let place = place.map(|place| place.trim_end_matches('/'));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        match place.filter(|place| !place.is_empty() && place.chars().all(plain)) {
            None => Err(format!("{raw:?} is not http://HOST:PORT or https://HOST:PORT")),
            Some(place) => {
                let scheme = &raw[..=raw.find("//").unwrap_or_default() + 1];
                let port = if place.rsplit(']').next().unwrap_or(place).contains(':') { "" } else { ":2379" };
                Ok(format!("{scheme}{place}{port}"))
            }
        }
    };
    raw.iter().map(full).collect()
}

#[cfg(feature = "etcd")]
fn checked_prefix(raw: &str) -> Result<String, String> {
    let trimmed = raw.trim_end_matches('/');
    if trimmed.starts_with('/') && !trimmed.contains("//") {
        Ok(trimmed.to_owned())
    } else {
        Err(format!("{raw:?} is not a path (like {DEFAULT_PREFIX})"))
    }
}

/// Whether a file holds what it should; a wrong one would only show at the first connection.
#[cfg(feature = "etcd")]
fn pem(path: &Path, holds: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(holds));
    if found { Ok(()) } else { Err(format!("{} holds no PEM {holds}", path.display())) }
}

#[cfg(all(test, feature = "etcd"))]
mod tests;
