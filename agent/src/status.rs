//! How the agent is, as it says itself: `STATEDIR/agent.json`, replaced whole after each turn that changes
//! what there is to say.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flatnet_core::names::{IfName, NodeName};
use flatnet_core::overlay::cluster::Cluster;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::collector::Tally;
use crate::config::Config;
use crate::in_use::Admitted;
use crate::store::StoreState;
use crate::turn::{Changes, Turn};

/// Version of [`Status`] that this build writes.
const VERSION: u32 = 1;

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("agent.json")
}

/// How the agent is. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) version: u32,
    pub(crate) node: NodeName,
    pub(crate) pid: u32,
    pub(crate) started: u64,
    pub(crate) updated: u64,
    /// The node snapshot is written and the kernel is as it should be.
    pub(crate) ready: bool,
    pub(crate) backend: Backend,
    pub(crate) uplink: Option<Uplink>,
    pub(crate) pods: Option<Pods>,
    pub(crate) store: Store,
    pub(crate) peers: Vec<Peer>,
    pub(crate) last_change: Option<LastChange>,
    /// What was collected since the start.
    #[serde(default)]
    pub(crate) collected: Tally,
    /// What is wrong with the node; what is wrong with a peer is with that peer.
    pub(crate) problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    pub(crate) r#type: String,
    pub(crate) vni: u32,
    pub(crate) port: u16,
    /// The VXLAN device; absent where no peer needs one.
    pub(crate) device: Option<IfName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Uplink {
    pub(crate) interface: IfName,
    pub(crate) address: IpAddr,
    pub(crate) mtu: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pods {
    pub(crate) subnets: Vec<IpNetwork>,
    pub(crate) mtu: u32,
    #[serde(default)]
    pub(crate) segment_size: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Store {
    pub(crate) kind: String,
    pub(crate) path: PathBuf,
    pub(crate) nodes: Option<usize>,
    pub(crate) loaded: Option<u64>,
    pub(crate) error: Option<String>,
    /// Peers in use that it does not list.
    #[serde(default)]
    pub(crate) kept: usize,
    /// What about the cluster in use deserves attention.
    #[serde(default)]
    pub(crate) remark: Option<String>,
    /// Why no pod may be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alarm: Option<String>,
    /// What it holds and nobody can use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    /// Since when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unreachable_since: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) name: NodeName,
    pub(crate) address: IpAddr,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastChange {
    pub(crate) at: u64,
    pub(crate) took_ms: u64,
    pub(crate) changes: String,
}

impl Status {
    pub(crate) fn new(config: &Config) -> Self {
        let settings = &config.settings;
        Self {
            version: VERSION,
            node: settings.node.clone(),
            pid: std::process::id(),
            started: seconds(SystemTime::now()),
            updated: seconds(SystemTime::now()),
            ready: false,
            backend: Backend {
                r#type: settings.backend.to_string(),
                vni: settings.vni.get(),
                port: settings.port,
                device: None,
            },
            uplink: None,
            pods: None,
            store: Store {
                kind: config.store.kind().to_owned(),
                path: config.store.to_string().into(),
                nodes: None,
                loaded: None,
                error: None,
                kept: 0,
                remark: None,
                alarm: None,
                left_out: Vec::new(),
                unreachable_since: None,
            },
            peers: Vec::new(),
            last_change: None,
            collected: Tally::default(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn note_store(&mut self, state: &StoreState) {
        self.store.nodes = state.cluster.as_ref().map(|cluster| cluster.nodes.len());
        self.store.loaded = state.loaded.map(seconds);
        self.store.error.clone_from(&state.error);
        self.store.alarm.clone_from(&state.alarm);
        self.store.left_out.clone_from(&state.left_out);
        self.store.unreachable_since = state.unreachable.map(seconds);
        if let Some(settings) = &state.settings {
            self.backend.r#type = settings.backend.to_string();
            self.backend.vni = settings.vni.get();
            self.backend.port = settings.port;
        }
    }

    /// Takes over what is worked with.
    pub(crate) fn note_in_use(&mut self, admitted: &Admitted) {
        self.store.kept = admitted.kept;
        self.store.remark.clone_from(&admitted.remark);
    }

    /// Takes over what a turn found and did.
    pub(crate) fn note_turn(&mut self, turn: &Turn, cluster: &Cluster) {
        let desired = &turn.desired;
        self.backend.device = desired.tunnel.as_ref().map(|tunnel| tunnel.device.name.clone());
        self.uplink = Some(Uplink {
            interface: turn.uplink.name.clone(),
            address: turn.uplink.local,
            mtu: turn.uplink.mtu.0,
        });
        self.pods = cluster.member(&self.node).map(|me| Pods {
            subnets: me.subnets.clone(),
            mtu: desired.pod_mtu.get(),
            segment_size: desired.segment_size,
        });
        self.peers = desired
            .peers
            .iter()
            .map(|peer| Peer {
                name: peer.name.clone(),
                address: peer.address,
                path: peer.reach.to_string(),
                problem: peer.problem.as_ref().map(ToString::to_string),
            })
            .collect();
        self.problems = turn.remark.iter().cloned().collect();
        self.note_failures(turn);
        if !turn.changes.is_empty() {
            self.note_change(&turn.changes, turn.took.as_millis());
        }
    }

    /// Takes over that something was changed.
    pub(crate) fn note_change(&mut self, changes: &Changes, took_ms: u128) {
        self.last_change = Some(LastChange {
            at: seconds(SystemTime::now()),
            took_ms: u64::try_from(took_ms).unwrap_or(u64::MAX),
            changes: changes.to_string(),
        });
    }

    fn note_failures(&mut self, turn: &Turn) {
        for failure in &turn.failures {
            let text = failure.error.to_string();
            let peer = self.peers.iter_mut().find(|peer| Some(&peer.name) == failure.peer.as_ref());
            match peer {
                Some(peer) => {
                    // The first refusal is the cause, later ones follow from it.
                    peer.problem.get_or_insert(text);
                }
                None => self.problems.push(text),
            }
        }
        if turn.failed > turn.failures.len() {
            self.problems.push(format!("{} more steps failed", turn.failed - turn.failures.len()));
        }
    }

    /// What is wrong, node first, then peer by peer.
    pub(crate) fn all_problems(&self) -> Vec<String> {
        let store = self.store.error.iter().map(|error| {
            let meanwhile = match (self.store.nodes, &self.store.remark) {
                (Some(_), _) => "the last good cluster stays in use",
                (None, Some(remark)) => remark,
                (None, None) => "nothing is changed until it is good",
            };
            format!("store: {error}; {meanwhile}")
        });
        let kept = self.store.remark.iter().filter(|_| self.store.nodes.is_some());
        let store = store.chain(kept.cloned());
        let peers = self
            .peers
            .iter()
            .filter_map(|peer| Some(format!("peer {}: {}", peer.name, peer.problem.as_ref()?)));
        let alarm = self.store.alarm.iter().map(|alarm| format!("{alarm}; no pod can be added"));
        let left_out = self.store.left_out.iter().map(|entry| format!("store: {entry}"));
        alarm.chain(store).chain(self.problems.iter().cloned()).chain(left_out).chain(peers).collect()
    }
}

/// Writes [`Status`] where it differs from what was written last.
#[derive(Debug)]
pub(crate) struct StatusFile {
    path: PathBuf,
    written: Option<Status>,
}

impl StatusFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: path(state_dir), written: None }
    }

    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&mut self, status: &Status) -> io::Result<()> {
        if self.written.as_ref().is_some_and(|old| *old == *status) && self.path.exists() {
            return Ok(());
        }
        let mut fresh = status.clone();
        fresh.updated = seconds(SystemTime::now());
        let beside = self.path.with_extension("json.new");
        let mut file = io::BufWriter::new(std::fs::File::create(&beside)?);
        serde_json::to_writer(&mut file, &fresh)?;
        file.flush()?;
        std::fs::rename(&beside, &self.path)?;
        self.written = Some(status.clone());
        Ok(())
    }
}

/// Whether [`seconds`] leaves a part of `time` out.
pub(crate) fn rounds_up(time: SystemTime) -> bool {
    time.duration_since(UNIX_EPOCH).is_ok_and(|since| since.subsec_nanos() > 0)
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
