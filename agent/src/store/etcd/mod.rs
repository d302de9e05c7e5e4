//! The etcd store: one network in flannel's layout, shared with whoever else keeps to it.
//!
//! A session connects to one endpoint, reads everything once and then only what changes; what it knows
//! outlives it, so that the next session, mostly with another endpoint, goes on from there. Whatever fails
//! ends the session and nothing else: the last good cluster stays. This node's own claim is looked at
//! again after every change.

mod connection;
mod fault;
mod memory;
mod mirror;
mod session;

use std::time::{Duration, Instant, SystemTime};

use flatnet_core::overlay::flannel::{Entry, Me, Network, Offer, Pods, Roster, SubnetKey};
use flatnet_core::overlay::settings::Settings;
use flatnet_kernel::NetlinkKernel;
use flatnet_node_state::StateDir;
use tokio::sync::watch;

use super::StoreState;
use super::followed::{Retry, Voice};
use crate::config::{Config, EtcdConfig, Interface};
use crate::pacing::random;
use crate::shutdown::Shutdown;
use crate::status::chain;
use crate::{facts, in_use, store::etcd::fault::Fault};

use memory::Memory;
use mirror::{Mirror, Since};

/// First wait after a session that failed; doubles up to [`RETRY_MOST`].
const RETRY_LEAST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// Subnets that are not ours to use any more are given up for others only after so long: a pod that is
/// being added while the node snapshot is withdrawn has its record by then.
const QUIET: Duration = Duration::from_secs(3);
/// Entries that are left out are named up to so many, then counted.
const NAMED: usize = 20;

/// Follows etcd until told to stop.
///
/// # Errors
/// None: whatever fails is tried again.
pub(crate) async fn follow(
    etcd: EtcdConfig,
    config: Config,
    state: watch::Sender<StoreState>,
    mut stop: Shutdown,
) -> std::io::Result<()> {
    let mut follower = Follower::new(etcd, &config, state);
    let mut retry = Retry::new(RETRY_LEAST, RETRY_MOST);
    loop {
        let start = Instant::now();
        let fault = tokio::select! {
            // Cancel safe: the process ends. A claim under way is found by the next run.
            fault = follower.session() => fault,
            // Cancel safe: a flag.
            () = stop.requested() => return Ok(()),
        };
        retry.note(start.elapsed(), !fault.stale);
        follower.note_fault(&fault);
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
    config: EtcdConfig,
    /// Settings as configured; the network decides part of them.
    base: Settings,
    interface: Interface,
    state_dir: StateDir,
    voice: Voice,
    /// Which endpoint comes next.
    turn: usize,
    mirror: Option<Mirror>,
    /// The mirror is too old to go on from.
    stale: bool,
    /// The last network that could be used, and what it makes of the settings.
    network: Option<(Network, Settings)>,
    /// Why the network that etcd has now is not that one.
    trouble: Option<String>,
    memory: Memory,
    /// What the run before worked with, until etcd has been read.
    peers: Vec<Entry>,
    /// Since when subnets of ours are another's.
    lost: Option<Instant>,
    /// What was handed on last, and what it was made of beside the entries; kept where none was leaving.
    drawn: Option<(Basis, Roster)>,
}

/// What a cluster is made of beside the entries.
#[derive(Debug, PartialEq)]
struct Basis {
    network: Network,
    settings: Settings,
    offer: Offer,
    previous: Option<SubnetKey>,
    key: SubnetKey,
}

impl Follower {
    fn new(etcd: EtcdConfig, config: &Config, state: watch::Sender<StoreState>) -> Self {
        let state_dir = StateDir::new(&config.state_dir);
        let memory = Memory::recall(&state_dir);
        // Until the network is read again, what it said last holds: the kernel is as it was then.
        if let Some(settings) = memory.settings(&config.settings) {
            state.send_modify(|state| state.settings = Some(settings));
        }
        let known = memory.settings(&config.settings).unwrap_or_else(|| config.settings.clone());
        let turn = usize::try_from(random() % 1024).unwrap_or(0);
        Self {
            config: etcd,
            base: config.settings.clone(),
            interface: config.interface.clone(),
            voice: Voice::new("etcd", state),
            turn,
            mirror: None,
            stale: false,
            network: None,
            trouble: None,
            peers: peers(&state_dir, &known),
            state_dir,
            memory,
            lost: None,
            drawn: None,
        }
    }

    fn note_fault(&mut self, fault: &Fault) {
        self.turn += 1;
        self.stale |= fault.stale;
        self.voice.note_unreachable(format!("etcd does not serve this node: {fault}"));
    }

    fn note_reached(&mut self, endpoint: &str) {
        if self.voice.is_new(endpoint) {
            tracing::info!(store = "etcd", endpoint, "connected");
        }
        self.voice.state.send_modify(|state| {
            state.unreachable = None;
            state.error = None;
        });
    }

    /// The network as etcd has it now, else the last one that could be used.
    fn current_network(&mut self) -> Option<(Network, Settings)> {
        match self.read_network() {
            Ok(network) => {
                self.trouble = None;
                self.network = Some(network);
            }
            Err(text) => {
                self.voice.note_trouble(text.clone());
                self.trouble = Some(text);
            }
        }
        self.network.clone()
    }

    fn read_network(&self) -> Result<(Network, Settings), String> {
        let key = format!("{}/config", self.config.prefix);
        let raw = self.mirror.as_ref().and_then(Mirror::network);
        let raw = raw.ok_or_else(|| {
            format!(
                "etcd has no key {key}; write flannel's network configuration there, like \
                 {{\"Network\":\"10.5.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}"
            )
        })?;
        let network = Network::read(raw).map_err(|e| format!("etcd's key {key}: {e}"))?;
        let settings = network.settings(&self.base, self.config.asked);
        let settings = settings.map_err(|e| format!("etcd's key {key}: {e}"))?;
        Ok((network, settings))
    }

    /// This node as it should publish itself.
    async fn me(&self, network: &Network, settings: &Settings) -> Result<Me, String> {
        let interface = self.interface.clone();
        let look = tokio::task::spawn_blocking(move || {
            let mut kernel = NetlinkKernel::open_node().map_err(|e| e.to_string())?;
            let snapshot = kernel.uplinks().map_err(|e| e.to_string())?;
            facts::own_addresses(&snapshot, &interface).map_err(|e| e.to_string())
        });
        let addresses = look.await.unwrap_or_else(|e| Err(e.to_string()))?;
        let offer = Offer::of_node(&settings.node, addresses, network, settings);
        Ok(Me { offer, previous: self.memory.key(), pods: self.pods() })
    }

    /// Whether pods use our subnets. Not knowing counts as yes, and so does not having waited.
    fn pods(&self) -> Pods {
        let waited = self.lost.is_some_and(|since| since.elapsed() >= QUIET);
        match self.state_dir.attachments().is_empty() {
            Ok(true) if waited => Pods::None,
            _ => Pods::Some,
        }
    }

    /// Hands the cluster on, as a node with the subnets of `key` sees it.
    fn publish(&mut self, (network, settings): (&Network, &Settings), me: &Me, key: SubnetKey) {
        let Some(roster) = self.draw((network, settings), me, key) else { return };
        let Some(mirror) = &self.mirror else { return };
        let mut left_out: Vec<String> = mirror.strangers().map(ToString::to_string).collect();
        left_out.extend(roster.rejected.iter().map(ToString::to_string));
        if left_out.len() > NAMED {
            let more = left_out.len() - NAMED;
            left_out.truncate(NAMED);
            left_out.push(format!("and {more} more entries are left out"));
        }
        let alarm = self.lost_to(key);
        self.voice.state.send_if_modified(|state| {
            let same_cluster = state.cluster.as_ref() == Some(&roster.cluster);
            let same = same_cluster
                && state.settings.as_ref() == Some(settings)
                && state.alarm == alarm
                && state.left_out == left_out
                && state.error == self.trouble;
            if !same_cluster {
                tracing::info!(store = "etcd", nodes = roster.cluster.nodes.len(), "cluster read");
                state.cluster = Some(roster.cluster);
            }
            state.loaded = Some(SystemTime::now());
            state.settings = Some(settings.clone());
            state.alarm = alarm;
            state.left_out = left_out;
            state.error.clone_from(&self.trouble);
            !same
        });
    }

    /// The cluster that the entries add up to. Where nothing but new entries came since the last, they join it.
    fn draw(
        &mut self,
        (network, settings): (&Network, &Settings),
        me: &Me,
        key: SubnetKey,
    ) -> Option<Roster> {
        let mirror = self.mirror.as_mut()?;
        let since = mirror.since();
        let now = Instant::now();
        let leaves = mirror.leaving(now).next().is_some();
        let basis = Basis {
            network: network.clone(),
            settings: settings.clone(),
            offer: me.offer.clone(),
            previous: me.previous,
            key,
        };
        let known = self.drawn.take().filter(|(of, _)| *of == basis && !leaves);
        let joined = match (known, since) {
            (Some((_, known)), Since::Joined(names)) if names.is_empty() => Some(known),
            (Some((_, known)), Since::Joined(names)) => {
                let new: Option<Vec<&Entry>> = names.iter().map(|name| mirror.entry(name)).collect();
                new.and_then(|new| known.join((network, settings), me, &new, mirror.entries()))
            }
            _ => None,
        };
        let present = (mirror.entries(), mirror.leaving(now));
        let roster = joined.or_else(|| Roster::of((network, settings), (me, key), present))?;
        self.drawn = (!leaves).then(|| (basis, roster.clone()));
        Some(roster)
    }

    /// The alarm that goes with the subnets of `key`.
    fn lost_to(&self, key: SubnetKey) -> Option<String> {
        let why = self.memory.lost_why.as_ref().filter(|_| self.lost.is_some())?;
        let subnets: Vec<String> = key.subnets().map(|subnet| subnet.to_string()).collect();
        Some(format!("this node's pods have subnet {}, but {why}", subnets.join(" and ")))
    }

    fn remember(&mut self, key: SubnetKey, settings: &Settings) {
        if let Err(e) = self.memory.remember(&self.state_dir, key, settings) {
            self.voice.say(&format!("the subnet is not remembered: {}", chain(&e)));
        }
    }
}

/// The other nodes of the cluster that the run before worked with: one of them may have lost its lease
/// while no agent was here to see it. A damaged memory is none; whoever works with it says so.
fn peers(state_dir: &StateDir, settings: &Settings) -> Vec<Entry> {
    let cluster = in_use::remembered(state_dir.path()).ok().flatten();
    let nodes = cluster.map_or_else(Vec::new, |cluster| cluster.nodes);
    let others = nodes.iter().filter(|node| node.name != settings.node);
    others.filter_map(|node| Entry::of(node, settings)).collect()
}
