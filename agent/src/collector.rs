//! Collects what nobody uses any more, and puts the node's side of pods right, in rounds of its own: the
//! reconciler never waits for it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flatnet_core::attach;
use flatnet_core::execute::clear;
use flatnet_core::kernel::Kernel as _;
use flatnet_core::life::Moment;
use flatnet_core::link::is_host_if;
use flatnet_core::names::IfName;
use flatnet_core::node::Attachment;
use flatnet_core::repair::plan_repair_node;
use flatnet_core::shaping;
use flatnet_core::step::{LinkRef, Ns, Outcome, Step};
use flatnet_kernel::batch::Netlink;
use flatnet_kernel::{NetlinkKernel, attachment, facts};
use flatnet_node_state::{Collected, Judge, StateDir, Usage, boot_seconds};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::config::{Config, Gc};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// How many of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) attachments: u64,
    pub(crate) addresses: u64,
    pub(crate) interfaces: u64,
    /// Pods whose node's side was put right.
    pub(crate) repaired: u64,
}

/// What one round found.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) found: Tally,
    /// Recorded attachments.
    pub(crate) attachments: u64,
    /// Living pairs without a record.
    pub(crate) unrecorded: u64,
    pub(crate) pools: Vec<Usage>,
    /// What could not be done; the rest was.
    failures: Vec<String>,
}

impl Tally {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What was collected, by kind.
    pub(crate) fn kinds(&self) -> [(&'static str, u64); 3] {
        [("attachments", self.attachments), ("addresses", self.addresses), ("interfaces", self.interfaces)]
    }

    fn add(&mut self, more: Self) {
        self.attachments += more.attachments;
        self.addresses += more.addresses;
        self.interfaces += more.interfaces;
        self.repaired += more.repaired;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds().into_iter().filter(|(_, count)| *count > 0);
        let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
        let collected = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
        write!(f, "collected {collected}")?;
        if self.repaired > 0 { write!(f, "; repaired {} pods", self.repaired) } else { Ok(()) }
    }
}

/// Time between two looks at the node's side of pods, however much happens.
const MEND_GAP: Duration = Duration::from_secs(1);

/// Rounds until told to stop: one at once, then one per interval. Between them the node's side of pods is
/// looked at when `events` says that something happened.
///
/// # Errors
/// No netlink socket to be had; later: a round died.
pub(crate) fn run(
    config: &Config,
    metrics: Arc<Metrics>,
    tally: watch::Sender<Tally>,
    events: Arc<Notify>,
    mut stop: Shutdown,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let mut collector = Collector::open(config.gc, StateDir::new(&config.state_dir))?;
    let interval = config.gc.interval;
    Ok(async move {
        let Some(interval) = interval else {
            stop.requested().await;
            return Ok(());
        };
        let mut said = Vec::new();
        let mut due = Instant::now();
        loop {
            let (round, whole) = (Round::default(), Instant::now() >= due);
            if whole {
                due = Instant::now() + interval;
            }
            let look = move || collector.look(round, whole);
            let round;
            (collector, round) = tokio::task::spawn_blocking(look).await.context("round")?;
            metrics.note_round(&round, whole);
            if !round.found.is_empty() {
                tally.send_modify(|all| all.add(round.found));
            }
            if said != round.failures {
                round.failures.iter().for_each(|failure| tracing::warn!("collecting: {failure}"));
                said = round.failures;
            }
            if !sleep(MEND_GAP.min(interval), &mut stop).await {
                return Ok(());
            }
            tokio::select! {
                // Cancel safe: a flag.
                () = stop.requested() => return Ok(()),
                // Cancel safe: a timer.
                () = tokio::time::sleep(due.saturating_duration_since(Instant::now())) => {}
                // Cancel safe: what happened stays noted until it is looked at.
                () = events.notified() => {}
            }
        }
    })
}

/// Waits; false where the agent is to stop.
async fn sleep(time: Duration, stop: &mut Shutdown) -> bool {
    tokio::select! {
        // Cancel safe: a flag.
        () = stop.requested() => false,
        // Cancel safe: a timer.
        () = tokio::time::sleep(time) => true,
    }
}

struct Collector {
    kernel: NetlinkKernel,
    state: StateDir,
    grace: u64,
    /// Interfaces of nobody, and since when.
    suspects: HashMap<IfName, Instant>,
    /// Living pairs without a record that were reported.
    reported: HashSet<IfName>,
}

impl Collector {
    fn open(gc: Gc, state: StateDir) -> anyhow::Result<Self> {
        let kernel = NetlinkKernel::open_node().context("open netlink")?;
        Ok(Self { kernel, state, grace: gc.grace, suspects: HashMap::new(), reported: HashSet::new() })
    }

    /// A whole round, or only a look at the node's side of pods.
    fn look(mut self, mut round: Round, whole: bool) -> (Self, Round) {
        if whole {
            let done = [self.state_on_disk(&mut round), self.interfaces(&mut round)];
            round.failures.extend(done.into_iter().filter_map(Result::err).map(|e| e.to_string()));
            match self.state.addresses().usage() {
                Ok(pools) => round.pools = pools,
                Err(e) => round.failures.push(e.to_string()),
            }
        }
        if let Err(e) = self.repair(&mut round) {
            round.failures.push(e.to_string());
        }
        (self, round)
    }

    fn netlink(&mut self) -> std::io::Result<&mut Netlink> {
        self.kernel.netlink(Ns::Node).map_err(std::io::Error::other)
    }

    /// Attachments of the dead, and addresses without an attachment.
    fn state_on_disk(&mut self, round: &mut Round) -> std::io::Result<()> {
        let moment = Moment { boot: attachment::boot_id()?, now: boot_seconds() };
        let (grace, state) = (self.grace, self.state.clone());
        let node = std::cell::RefCell::new(self.netlink()?);
        let is_dead =
            |record: &Attachment| attachment::is_dead(&mut node.borrow_mut(), record, &moment, grace);
        let in_use = |ip: IpAddr| facts::is_routed(&mut node.borrow_mut(), ip);
        let collected = state.collect(&Judge { is_dead: &is_dead, in_use: &in_use, grace });
        report(&collected);
        for record in &collected.attachments {
            let left = clear(&mut self.kernel, &attach::plan_bury(record));
            round.failures.extend(left.iter().map(ToString::to_string));
        }
        round.found.attachments = collected.attachments.len() as u64;
        round.found.addresses = collected.addresses.len() as u64;
        round.failures.extend(collected.failures.iter().map(ToString::to_string));
        Ok(())
    }

    /// Interfaces with our prefix and without a record. One that has its other end may belong to a pod that
    /// lives on after somebody deleted the state: it is shown, never removed.
    fn interfaces(&mut self, round: &mut Round) -> std::io::Result<()> {
        // Links first: an ADD writes the record before it makes the link.
        let links: Vec<(IfName, bool)> = facts::links(self.netlink()?)?
            .into_iter()
            .filter(|link| is_host_if(&link.name))
            .filter_map(|link| Some((link.name.parse().ok()?, link.paired)))
            .collect();
        let (records, damaged) = self.state.attachments().list().map_err(std::io::Error::other)?;
        round.attachments = records.len() as u64;
        round.failures.extend(damaged.iter().map(ToString::to_string));
        let recorded: HashSet<IfName> = records.into_iter().map(|record| record.host_ifname).collect();
        let attachments = self.state.attachments();
        let unknown = |name: &IfName| {
            !recorded.contains(name)
                && !attachments.was_begun(name)
                && matches!(attachments.get(name), Ok(None))
        };
        let (living, alone): (Vec<_>, Vec<_>) =
            links.into_iter().filter(|(name, _)| unknown(name)).partition(|(_, paired)| *paired);
        self.report_unrecorded(living.into_iter().map(|(name, _)| name).collect(), round);
        self.remove_suspects(alone.into_iter().map(|(name, _)| name).collect(), round)
    }

    fn report_unrecorded(&mut self, living: HashSet<IfName>, round: &mut Round) {
        round.unrecorded = living.len() as u64;
        for name in living.difference(&self.reported) {
            tracing::warn!(
                interface = %name,
                "a pod's interface without a record: somebody deleted it; the pod works, `flatnet repair` and CHECK do not know it"
            );
        }
        self.reported = living;
    }

    /// Removes interfaces that were nobody's for the whole time of grace, and still are.
    fn remove_suspects(&mut self, alone: HashSet<IfName>, round: &mut Round) -> std::io::Result<()> {
        self.suspects.retain(|name, _| alone.contains(name));
        let now = Instant::now();
        for name in alone {
            let since = *self.suspects.entry(name.clone()).or_insert(now);
            let is_alone = |link: Option<facts::SeenLink>| link.is_some_and(|link| !link.paired);
            if now.duration_since(since) < Duration::from_secs(self.grace)
                || !is_alone(facts::link(self.netlink()?, &name)?)
            {
                continue;
            }
            let failures = clear(&mut self.kernel, &[Step::DeleteLink(LinkRef::node(name.clone()))]);
            if failures.is_empty() {
                tracing::info!(interface = %name, "collected an interface that belonged to nobody");
                round.found.interfaces += 1;
            }
            round.failures.extend(failures.iter().map(ToString::to_string));
        }
        Ok(())
    }

    /// Puts back what was taken of the node's side of living pods. What is being made is left alone.
    fn repair(&mut self, round: &mut Round) -> std::io::Result<()> {
        let seen = attachment::see_nodes(self.netlink()?)?;
        let attachments = self.state.attachments();
        let (records, _) = attachments.list().map_err(std::io::Error::other)?;
        let here = self.netlink()?.namespace_cookie().ok();
        for record in records {
            let Some(end) = seen.get(record.host_ifname.as_str()) else { continue };
            let mut plan = plan_repair_node(&record, end);
            if !record.limits.is_empty() {
                plan.extend(self.limits(&record)?);
            }
            let elsewhere = record.node_cookie.is_some() && here.is_some() && record.node_cookie != here;
            if plan.is_empty() || elsewhere || attachments.is_being_made(&record.host_ifname) {
                continue;
            }
            self.mend(&record, round)?;
        }
        Ok(())
    }

    fn limits(&mut self, record: &Attachment) -> std::io::Result<Vec<Step>> {
        let seen = attachment::see_limits(self.netlink()?, record).map_err(std::io::Error::other)?;
        Ok(shaping::plan_repair(record, seen))
    }

    /// Looks once more at this one, because an ADD that has just ended was half done in the dump.
    fn mend(&mut self, record: &Attachment, round: &mut Round) -> std::io::Result<()> {
        let seen = attachment::see_node(self.netlink()?, record).map_err(std::io::Error::other)?;
        let Some(end) = seen else { return Ok(()) };
        let mut plan = plan_repair_node(record, &end);
        plan.extend(self.limits(record)?);
        let results = self.kernel.apply(&plan);
        let done: Vec<&Step> = plan
            .iter()
            .zip(&results)
            .filter(|(_, r)| **r == Ok(Outcome::Done))
            .map(|(step, _)| step)
            .collect();
        // What failed because a DEL has just taken the link is no failure.
        let still = facts::link(self.netlink()?, &record.host_ifname)?.is_some();
        round.failures.extend(
            results.iter().filter_map(|r| r.as_ref().err()).filter(|_| still).map(ToString::to_string),
        );
        if let (Some(first), true) = (done.first(), still) {
            round.found.repaired += 1;
            tracing::info!(
                container = %record.container, ifname = %record.ifname, steps = done.len(),
                "repaired the node's side of a pod: {first}"
            );
        }
        Ok(())
    }
}

fn report(collected: &Collected) {
    for record in &collected.attachments {
        let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
        tracing::info!(
            container = %record.container, ifname = %record.ifname, pod = record.pod, netns = record.netns,
            "collected an attachment whose pod is gone: {}", addresses.join(" ")
        );
    }
    for ip in &collected.addresses {
        tracing::info!("collected address {ip}, which no attachment had");
    }
}
