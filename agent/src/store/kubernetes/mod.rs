//! The Kubernetes store: pods' subnets from Node objects, and flannel's annotations beside them, so that
//! nodes that run flannel are part of the network.
//!
//! A session reads all nodes once, page by page, and then only what changes; what it knows outlives it, so
//! that the next session goes on from there. Whatever fails ends the session and nothing else: the last good
//! cluster stays. Credentials are read again for each session. What changes on a node beside its network
//! (a kubelet reports every few seconds) is dropped while it is read and wakes nobody.

mod connection;
mod fault;
mod mirror;
mod object;
mod session;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flatnet_core::overlay::cluster::Member;
use flatnet_core::overlay::flannel::{Entry, Me, Offer, Rejected, Roster, SubnetKey};
use flatnet_core::overlay::is_tunnel_if;
use flatnet_core::overlay::settings::Settings;
use flatnet_kernel::NetlinkKernel;
use tokio::sync::watch;

use self::fault::Fault;
use self::mirror::Mirror;
use self::object::{Own, by_family};
use super::StoreState;
use super::followed::{Retry, Voice};
use crate::config::{Config, Interface, KubernetesConfig};
use crate::shutdown::Shutdown;
use crate::{facts, in_use};

/// First wait after a session that failed; doubles up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_millis(200);
/// One API server serves thousands of nodes, which all come back at once.
const RETRY_MOST: Duration = Duration::from_secs(20);
/// So many sessions in a row that end as expected are not as expected.
const WORRYING: u32 = 4;
/// Nodes that are left out are named up to so many, then counted.
const NAMED: usize = 20;

/// Follows the API server until told to stop. `forwards` says whether this node works.
///
/// # Errors
/// None: whatever fails is tried again.
pub(crate) async fn follow(
    kubernetes: KubernetesConfig,
    config: Config,
    state: watch::Sender<StoreState>,
    forwards: watch::Receiver<bool>,
    mut stop: Shutdown,
) -> std::io::Result<()> {
    let mut follower = Follower::new(kubernetes, &config, state, forwards);
    let mut retry = Retry::new(RETRY_LEAST, RETRY_MOST);
    loop {
        let start = Instant::now();
        let fault = tokio::select! {
            // Cancel safe: the process ends. A change under way is found by the next run.
            fault = follower.session() => fault,
            // Cancel safe: a flag.
            () = stop.requested() => return Ok(()),
        };
        let failures = retry.note(start.elapsed(), true);
        follower.note_fault(&fault, failures);
        tokio::select! {
            // Cancel safe: a timer.
            () = tokio::time::sleep(retry.pause()) => {}
            // Cancel safe: a flag.
            () = stop.requested() => return Ok(()),
        }
    }
}

/// What outlives a session.
struct Follower {
    config: KubernetesConfig,
    settings: Settings,
    interface: Interface,
    voice: Voice,
    forwards: watch::Receiver<bool>,
    mirror: Mirror,
    /// The mirror is too old to go on from.
    stale: bool,
    /// What the run before worked with, until the nodes have been read.
    remembered: Option<Vec<Member>>,
    /// This node with its subnets, as it was last.
    last: Option<(Own, SubnetKey)>,
    /// What about this node keeps it from being followed.
    trouble: Option<String>,
    /// Why this node is not published.
    refused: Option<String>,
}

impl Follower {
    fn new(
        kubernetes: KubernetesConfig,
        config: &Config,
        state: watch::Sender<StoreState>,
        forwards: watch::Receiver<bool>,
    ) -> Self {
        // A damaged memory is none; whoever works with it says so.
        let remembered = in_use::remembered(&config.state_dir).ok().flatten();
        Self {
            config: kubernetes,
            settings: config.settings.clone(),
            interface: config.interface.clone(),
            voice: Voice::new("kubernetes", state),
            forwards,
            mirror: Mirror::default(),
            stale: false,
            remembered: remembered.map(|cluster| cluster.nodes),
            last: None,
            trouble: None,
            refused: None,
        }
    }

    fn note_fault(&mut self, fault: &Fault, failures: u32) {
        self.stale |= fault.stale;
        if fault.expected && failures < WORRYING {
            tracing::info!(store = "kubernetes", "{fault}; all nodes are read again");
            return;
        }
        self.voice.note_unreachable(format!("the API server does not serve this node: {fault}"));
    }

    fn note_reached(&mut self) {
        if self.voice.is_new("watching") {
            tracing::info!(store = "kubernetes", "watching nodes");
        }
        self.voice.state.send_if_modified(|state| state.unreachable.take().is_some());
    }

    /// What this node should publish. Its addresses are those that kubelet reported and a link has, unless
    /// an uplink is configured or has others, or a person wants something else published.
    async fn offer(&self, own: &Own) -> Result<Offer, String> {
        let (interface, internal) = (self.interface.clone(), own.internal.clone());
        let look = tokio::task::spawn_blocking(move || {
            let mut kernel = NetlinkKernel::open_node().map_err(|e| e.to_string())?;
            let snapshot = kernel.uplinks().map_err(|e| e.to_string())?;
            if interface == Interface::Auto {
                let links = snapshot.links.iter().filter(|link| !is_tunnel_if(link.name.as_str()));
                let here: Vec<IpAddr> = links.flat_map(|link| &link.addresses).map(|own| own.ip()).collect();
                let internal: Vec<IpAddr> = internal.into_iter().filter(|ip| here.contains(ip)).collect();
                if !internal.is_empty() {
                    return Ok(by_family(&internal));
                }
            }
            facts::own_addresses(&snapshot, &interface).map_err(|e| e.to_string())
        });
        let addresses = look.await.unwrap_or_else(|e| Err(e.to_string()))?;
        let mut offer = Offer::of_node(&self.settings.node, addresses, &self.config.network, &self.settings);
        let wanted = &own.annotations;
        offer.v4 = wanted.public_ip_overwrite.as_ref().and_then(|ip| ip.parse().ok()).or(offer.v4);
        offer.v6 = wanted.public_ipv6_overwrite.as_ref().and_then(|ip| ip.parse().ok()).or(offer.v6);
        Ok(offer)
    }

    /// Hands the cluster on, as a node with the subnets of `key` sees it.
    fn publish(&mut self, me: &Me, key: SubnetKey) {
        let now = Instant::now();
        let address = me.offer.address();
        let (others, mut left_out) = self.mirror.others(address);
        let twin = |entry: &&Entry| entry.offer.as_ref().is_ok_and(|offer| offer.address() == address);
        let leaving = self.mirror.leaving(now).filter(|entry| !twin(entry));
        let network = &self.config.network;
        let Some(Roster { mut cluster, rejected }) =
            Roster::of((network, &self.settings), (me, key), (others.into_iter(), leaving))
        else {
            return;
        };
        self.mirror.add_former(Arc::make_mut(&mut cluster), key);
        left_out.extend(rejected.iter().map(say_rejected));
        // First, for it is about this node.
        left_out.splice(..0, self.refused.clone());
        if left_out.len() > NAMED {
            let more = left_out.len() - NAMED;
            left_out.truncate(NAMED);
            left_out.push(format!("and {more} more nodes are left out"));
        }
        let error = self.trouble.clone();
        if let Some(text) = &error {
            self.voice.say(text);
        }
        self.voice.state.send_if_modified(|state| {
            let same_cluster = state.cluster.as_ref() == Some(&cluster);
            let same = same_cluster && state.left_out == left_out && state.error == error;
            if !same_cluster {
                tracing::info!(store = "kubernetes", nodes = cluster.nodes.len(), "cluster read");
                state.cluster = Some(cluster);
            }
            state.loaded = Some(SystemTime::now());
            state.left_out = left_out;
            state.error = error;
            !same
        });
    }
}

fn say_rejected(rejected: &Rejected) -> String {
    match &rejected.node {
        Some(node) => format!("node {node} is left out: {}", rejected.why),
        None => rejected.to_string(),
    }
}
