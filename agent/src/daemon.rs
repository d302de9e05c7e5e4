//! `flatnetd run`: waits for reasons to look again, and takes turns. Events only wake; what is done is
//! always the difference between the cluster and the kernel.

mod made_for;
mod short;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flatnet_core::node::{NODE_SNAPSHOT_VERSION, NodeSnapshot};
use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::settled::Settled;
use flatnet_kernel::NetlinkKernel;
use flatnet_kernel::events::{Events, Heard};
use flatnet_node_state::StateDir;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::made_for::MadeFor;
use crate::collector::{self, Tally};
use crate::complaints::Complaints;
use crate::config::{Config, StoreConfig};
use crate::health::{self, Pulse};
use crate::host_ports;
use crate::in_use::{InUse, Memory};
use crate::install;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::pacing::{Changed, Outcome, Pacing};
use crate::pod_routes::PodRoutes;
use crate::readable::readable;
use crate::run_lock::RunLock;
use crate::segments;
use crate::shutdown::{self, Shutdown};
use crate::state_watch::StateWatch;
use crate::status::{Status, StatusFile};
#[cfg(feature = "etcd")]
use crate::store::etcd;
#[cfg(feature = "kubernetes")]
use crate::store::kubernetes;
use crate::store::{StoreState, file};
use crate::turn::{self, Changes, Turn, TurnError, turn};

/// A look that nobody asked for: catches what no event told.
const UNASKED: Duration = Duration::from_secs(30);
/// How often the loop says that it comes round, at least.
const BEAT: Duration = Duration::from_secs(5);

/// Runs until a signal says stop. The data path stays as it is then.
///
/// # Errors
/// It cannot start, or one of its parts ended.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let lock = RunLock::take(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(supervise(config, lock));
    // A turn that is under way has nobody to report to.
    runtime.shutdown_background();
    result
}

async fn supervise(config: Config, lock: RunLock) -> anyhow::Result<()> {
    let (trigger, stop) = shutdown::channel();
    let (store, state) = watch::channel(StoreState::default());
    // Before anything is read: what changes from here on wakes us.
    let events = Events::open().and_then(readable).context("subscribe to kernel events")?;
    // A kernel without nf_tables has no table that could change.
    let table = Events::open_table().and_then(readable).ok();
    tracing::info!(
        node = %config.settings.node,
        backend = %config.settings.backend,
        store = %config.store,
        state_dir = %config.state_dir.display(),
        "flatnetd {} starts", env!("CARGO_PKG_VERSION")
    );
    let mut tasks = Tasks::new();
    let (forwards, works) = watch::channel(false);
    follow_store(&config, (store, works), &stop, &mut tasks);
    let (pulse, heard) = watch::channel(Pulse::starting());
    let metrics = Arc::new(Metrics::new());
    if let Some(listen) = config.listen {
        let serve = health::serve(listen, heard, Arc::clone(&metrics), stop.clone());
        tasks.spawn(async move { ("health server", serve.await.map_err(Into::into)) });
    }
    let files = StateWatch::new(&config.state_dir).context("watch the state directory")?;
    let (tally, collected) = watch::channel(Tally::default());
    let happened = Arc::new(Notify::new());
    let collect = collector::run(&config, Arc::clone(&metrics), tally, Arc::clone(&happened), stop.clone())?;
    tasks.spawn(async move { ("collector", collect.await) });
    let reconciler = Reconciler::new(
        config,
        lock,
        Ears { events, table, files, collected },
        state,
        Voice { pulse, metrics, happened, forwards, manager: Notifier::from_env() },
    )?;
    let loop_stop = stop.clone();
    tasks.spawn(async move { ("reconciler", reconciler.run(loop_stop).await) });
    let result = tokio::select! {
        // Cancel safe: the process ends.
        signal = shutdown::signalled() => signal.context("receive signals").map(|name| {
            tracing::info!(signal = name, "stopping; the data path stays");
        }),
        // Cancel safe: the process ends.
        Some(ended) = tasks.join_next() => Err(ended.map_or_else(
            |e| anyhow::anyhow!("a task died: {e}"),
            |(name, result)| match result {
                Ok(()) => anyhow::anyhow!("{name} ended"),
                Err(e) => e.context(name),
            },
        )),
    };
    Notifier::stopping();
    trigger.pull();
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(2), finish).await.is_err() {
        tracing::warn!("a turn did not end in time");
    }
    result
}

/// The agent's parts, each with its name.
type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

/// `works`, which says whether this node forwards, is for stores that tell others.
fn follow_store(
    config: &Config,
    (store, works): (watch::Sender<StoreState>, watch::Receiver<bool>),
    stop: &Shutdown,
    tasks: &mut Tasks,
) {
    #[cfg(not(feature = "kubernetes"))]
    drop(works);
    match &config.store {
        StoreConfig::File(path) => {
            let follow = file::follow(path.clone(), config.settings.node.clone(), store, stop.clone());
            tasks.spawn(async move { ("file store", follow.await.map_err(Into::into)) });
        }
        #[cfg(feature = "etcd")]
        StoreConfig::Etcd(etcd) => {
            let follow = etcd::follow(etcd.clone(), config.clone(), store, stop.clone());
            tasks.spawn(async move { ("etcd store", follow.await.map_err(Into::into)) });
        }
        #[cfg(feature = "kubernetes")]
        StoreConfig::Kubernetes(nodes) => {
            let follow = kubernetes::follow(nodes.clone(), config.clone(), store, works, stop.clone());
            tasks.spawn(async move { ("kubernetes store", follow.await.map_err(Into::into)) });
        }
    }
}

/// Where the reconciler says how it is, beside its file.
struct Voice {
    pulse: watch::Sender<Pulse>,
    metrics: Arc<Metrics>,
    /// Tells the collector.
    happened: Arc<Notify>,
    /// Tells the store that this node works.
    forwards: watch::Sender<bool>,
    manager: Notifier,
}

impl Voice {
    /// The loop came round.
    fn beat(&self) {
        self.pulse.send_modify(|pulse| pulse.beat = Instant::now());
        self.manager.alive();
    }
}

/// What wakes the reconciler.
struct Ears {
    events: AsyncFd<Events>,
    /// Our nftables table, where the kernel has such.
    table: Option<AsyncFd<Events>>,
    /// Our own files.
    files: StateWatch,
    /// What was collected: no reason to act, but to say so.
    collected: watch::Receiver<Tally>,
}

struct Reconciler {
    config: Arc<Config>,
    lock: RunLock,
    /// Away while a turn runs.
    kernel: Option<NetlinkKernel>,
    ears: Ears,
    store: watch::Receiver<StoreState>,
    pacing: Pacing,
    status: Status,
    file: StatusFile,
    voice: Voice,
    state_dir: StateDir,
    in_use: InUse,
    memory: Memory,
    complaints: Complaints,
    pod_routes: PodRoutes,
    made_for: MadeFor,
    asked: Option<Asked>,
}

/// A look that was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// When it is taken.
    at: Instant,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something may not be as it was.
    Event,
    /// Something was changed without a look; events that come since may be of that.
    Echo,
}

impl Reconciler {
    fn new(
        config: Config,
        lock: RunLock,
        ears: Ears,
        store: watch::Receiver<StoreState>,
        voice: Voice,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            kernel: Some(NetlinkKernel::open_node().context("open netlink")?),
            lock,
            ears,
            store,
            pacing: Pacing::default(),
            status: Status::new(&config),
            file: StatusFile::new(&config.state_dir),
            voice,
            state_dir: StateDir::new(&config.state_dir),
            in_use: InUse::recall(&config),
            memory: Memory::default(),
            complaints: Complaints::default(),
            pod_routes: PodRoutes::default(),
            made_for: MadeFor::default(),
            asked: None,
            config: Arc::new(config),
        })
    }

    async fn run(mut self, mut stop: Shutdown) -> anyhow::Result<()> {
        self.write_status();
        let beat = self.voice.manager.alive_every().map_or(BEAT, |every| every.min(BEAT));
        let mut looked = Instant::now();
        loop {
            self.voice.beat();
            let look = self.next_look(looked);
            let pause = look.saturating_duration_since(Instant::now()).min(beat);
            // Whatever else there is to hear of, the look sees.
            let quiet = self.asked.is_none();
            tokio::select! {
                // Cancel safe: a flag.
                () = stop.requested() => return Ok(()),
                // Cancel safe: what is new stays marked as new until it is looked at.
                changed = self.store.changed() => {
                    changed.context("the store ended")?;
                    if self.take_short_way().await? {
                        continue;
                    }
                }
                // Cancel safe: events that were read are a reason to look, and we do look.
                woken = wake(&mut self.ears.events, &self.voice.happened), if quiet => woken.context("kernel events")?,
                // Cancel safe: as above.
                woken = wake_if_there(self.ears.table.as_mut(), &self.voice.happened), if quiet => woken.context("nftables events")?,
                // Cancel safe: it says so.
                removed = self.ears.files.removed(), if quiet => removed.context("state directory")?,
                // Cancel safe: as with the store. The sender goes only with the process.
                Ok(()) = self.ears.collected.changed() => {
                    self.write_status();
                    continue;
                }
                // Cancel safe: a timer.
                () = tokio::time::sleep(pause) => {
                    if Instant::now() < look {
                        continue;
                    }
                    if self.asked.take().is_some() {
                        self.drain()?;
                        self.keep_place()?;
                        self.take_turn().await?;
                        looked = Instant::now();
                        continue;
                    }
                }
            }
            self.ask(Why::Event);
        }
    }

    /// When to look, where the last look was at `looked`.
    fn next_look(&self, looked: Instant) -> Instant {
        let pauses = [self.pacing.retry(), self.in_use.next()];
        let unasked = looked + pauses.into_iter().flatten().fold(UNASKED, Duration::min);
        self.asked.map_or(unasked, |asked| asked.at)
    }

    /// Asks for a look as soon as the pace allows.
    fn ask(&mut self, why: Why) {
        let now = Instant::now();
        let at = now + self.pacing.gather(now);
        match &mut self.asked {
            Some(asked) if why == Why::Event => asked.why = why,
            Some(_) => {}
            None => self.asked = Some(Asked { at, why }),
        }
    }

    /// Reads what events there are. Answers whether the reconciler is to look.
    fn drain(&mut self) -> anyhow::Result<bool> {
        let mut look =
            tell(self.ears.events.get_mut().drain().context("kernel events")?, &self.voice.happened);
        if let Some(table) = &mut self.ears.table {
            look |= table.get_mut().drain().context("nftables events")?.node;
        }
        Ok(look)
    }

    /// Makes the state directory and the lock again where somebody removed them; everything else in it is
    /// written by the turn that follows.
    fn keep_place(&mut self) -> anyhow::Result<()> {
        if self.lock.is_in_place() {
            return Ok(());
        }
        let state_dir = &self.config.state_dir;
        tracing::warn!(state_dir = %state_dir.display(), "the state directory was removed; it is made again");
        self.lock = RunLock::take(state_dir)?;
        self.memory = Memory::default();
        self.ears.files.begin().with_context(|| format!("watch {}", state_dir.display()))
    }

    async fn take_turn(&mut self) -> anyhow::Result<()> {
        let state = self.store.borrow_and_update().clone();
        self.status.note_store(&state);
        if let Some(settings) = state.settings.clone().filter(|settings| *settings != self.config.settings) {
            self.config = Arc::new(Config { settings, ..Config::clone(&self.config) });
        }
        let Some(admitted) = self.in_use.admit(&state) else {
            self.write_status();
            return Ok(());
        };
        self.status.note_in_use(&admitted);
        let cluster = admitted.cluster;
        let mut memory = std::mem::take(&mut self.memory);
        let mut kernel = self.kernel.take().context("the last turn did not end")?;
        let (config, for_turn) = (Arc::clone(&self.config), Arc::clone(&cluster));
        let start = Instant::now();
        let state_dir = self.state_dir.clone();
        let (kernel, result, memory) = tokio::task::spawn_blocking(move || {
            // Written first: what the kernel gets, a next run knows of.
            if !memory.is_of(&for_turn)
                && let Err(error) = memory.write(&config.state_dir, &for_turn)
            {
                tracing::warn!(%error, "the cluster in use is not remembered");
            }
            let result =
                host_ports::steps(&mut kernel, &state_dir).map_err(TurnError::from).and_then(|ports| {
                    let holders = host_ports::holders(&ports);
                    let mut turn = turn(&mut kernel, &config, &for_turn, ports)?;
                    let steps = host_ports::withdraw(&state_dir, &holders);
                    turn.perform(&mut kernel, &for_turn, &steps);
                    Ok(turn)
                });
            (kernel, result, memory)
        })
        .await
        .context("turn")?;
        self.kernel = Some(kernel);
        self.memory = memory;
        match result {
            Ok(mut turn) => {
                let failures = self.restore_pods(&mut turn);
                self.note(start, &mut turn, &cluster);
                self.status.problems.extend(failures);
            }
            Err(error) => self.note_refusal(start, &error),
        }
        self.write_status();
        Ok(())
    }

    /// Pods that are made from now on read the new size; those that run are given it.
    fn resize_segments(&mut self, turn: &Turn) -> Vec<String> {
        let Some(kernel) = self.kernel.as_mut().filter(|_| !turn.unequal.is_empty()) else {
            return Vec::new();
        };
        let size = turn.desired.segment_size;
        let (changed, failures) = segments::follow(kernel, &self.state_dir, &turn.unequal, size);
        tracing::info!(pods = changed, segment_size = size, "segment size of running pods changed");
        failures
    }

    /// Puts back routes to this node's own pods.
    fn restore_pods(&mut self, turn: &mut Turn) -> Vec<String> {
        let Some(kernel) = self.kernel.as_mut() else { return Vec::new() };
        let steps = self.pod_routes.missing(&turn.pods);
        let failed = turn::apply(kernel, &steps, &mut turn.changes);
        failed.into_iter().map(|(_, error)| error.to_string()).collect()
    }

    fn note(&mut self, start: Instant, turn: &mut Turn, cluster: &Arc<Cluster>) {
        self.status.note_turn(turn, cluster);
        let written = match self.status.store.alarm {
            None => self.write_snapshot(turn, cluster),
            // Without it the plugin refuses to add pods, and says so when asked for the node's status.
            Some(_) => self.state_dir.remove_snapshot().map_err(|e| crate::status::chain(&e)),
        };
        let failures = self.resize_segments(turn);
        self.status.problems.extend(failures);
        if let Err(error) = &written {
            self.status.problems.push(error.clone());
        }
        let settled = turn.failed == 0 && written.is_ok();
        self.status.ready = settled && self.status.store.alarm.is_none();
        if self.status.ready {
            self.keep_configuration();
        }
        let healed = self.is_heal(turn, cluster);
        let outcome = if settled { Outcome::Settled } else { Outcome::Failed };
        // A cluster that changes often is no fight.
        let repaired = if healed { Changed::Something } else { Changed::Nothing };
        self.pacing.note(start, turn.took, repaired, outcome);
        if settled && !turn.changes.is_empty() {
            self.ask(Why::Echo);
        }
        let result = if settled { "settled" } else { "failed" };
        self.voice.metrics.note_turn(result, turn.took, &turn.changes);
        self.voice.metrics.note_desired(&turn.desired);
        if healed {
            self.voice.metrics.note_heal(&turn.changes);
        }
        let took_ms = u64::try_from(turn.took.as_millis()).unwrap_or(u64::MAX);
        self.status.problems.extend(self.pacing.fight());
        match turn.changes.is_empty() {
            false if self.pacing.is_fight() => {
                tracing::debug!(took_ms, changes = %turn.changes, "reconciled again");
            }
            false => tracing::info!(took_ms, changes = %turn.changes, "reconciled"),
            true => tracing::debug!(took_ms, "nothing to do"),
        }
        let mut problems: Vec<String> = self.status.store.alarm.iter().cloned().collect();
        problems.extend(self.status.problems.iter().chain(&self.status.store.left_out).cloned());
        problems.extend(
            self.status
                .peers
                .iter()
                .filter_map(|peer| Some(format!("peer {}: {}", peer.name, peer.problem.as_ref()?))),
        );
        self.complain(&problems);
    }

    /// Sees to it that the runtime knows of the network, where that was asked for. Not before pods can start.
    fn keep_configuration(&mut self) {
        let Some(wish) = &self.config.install else { return };
        match install::keep_configuration(wish) {
            Ok((problems, changed)) => {
                if changed {
                    tracing::info!(conf_dir = %wish.conf_dir.display(), "network configuration installed");
                }
                self.status.problems.extend(problems);
            }
            Err(error) => self.status.problems.push(format!("network configuration: {error:#}")),
        }
    }

    fn note_refusal(&mut self, start: Instant, error: &TurnError) {
        self.status.ready = false;
        let text = crate::status::chain(error);
        self.status.problems = vec![text.clone()];
        self.pacing.note(start, start.elapsed(), Changed::Nothing, Outcome::Failed);
        self.voice.metrics.note_turn("refused", start.elapsed(), &Changes::default());
        self.complain(&[text]);
    }

    /// Says what is wrong when it comes up, not every time it is found to be so.
    fn complain(&mut self, problems: &[String]) {
        let to_say = self.complaints.note(problems, Instant::now());
        for problem in &to_say.problems {
            tracing::warn!("{problem}");
        }
        if to_say.more > 0 {
            tracing::warn!("and {} more problems; see `flatnetd status`", to_say.more);
        }
        if to_say.all_gone {
            tracing::info!("all problems are gone");
        }
    }

    /// Whether what a turn changed was put right: nothing else was asked for than what had been right before.
    fn is_heal(&mut self, turn: &mut Turn, cluster: &Arc<Cluster>) -> bool {
        let numbers = std::mem::take(&mut turn.numbers);
        let settings = self.config.settings.clone();
        let now = || Settled::new(settings, turn.uplink.clone(), Arc::clone(cluster), numbers);
        let same = self.made_for.note(cluster, &turn.uplink, (turn.failed == 0).then(now));
        same && !turn.changes.is_empty()
    }

    fn write_snapshot(&self, turn: &Turn, cluster: &Cluster) -> Result<(), String> {
        let node = self.config.settings.node.clone();
        let subnets = cluster.member(&node).map(|me| me.subnets.clone()).unwrap_or_default();
        let snapshot = NodeSnapshot {
            version: NODE_SNAPSHOT_VERSION,
            node,
            subnets,
            cluster_networks: cluster.networks.clone(),
            mtu: turn.desired.pod_mtu,
            segment_size: turn.desired.segment_size,
            masquerade: self.config.masquerade,
        };
        self.state_dir.write_snapshot(&snapshot).map_err(|e| crate::status::chain(&e))
    }

    fn write_status(&mut self) {
        let why =
            || self.status.all_problems().into_iter().next().unwrap_or_else(|| "no cluster yet".to_owned());
        let not_ready = (!self.status.ready).then(why);
        if self.status.ready || !self.status.all_problems().is_empty() {
            self.voice.manager.works(not_ready.as_ref().map_or_else(
                || format!("ready, {} peers", self.status.peers.len()),
                |why| format!("not ready: {why}"),
            ));
        }
        let ready = self.status.ready;
        self.voice.forwards.send_if_modified(|known| std::mem::replace(known, ready) != ready);
        self.voice.pulse.send_replace(Pulse { beat: Instant::now(), not_ready });
        self.voice.metrics.note_status(&self.status);
        self.status.collected = *self.ears.collected.borrow_and_update();
        if let Err(e) = self.file.write(&self.status) {
            tracing::warn!(error = %e, "status not written");
        }
    }
}

/// Tells the collector what concerns it. Answers whether the reconciler is to look.
fn tell(heard: Heard, collector: &Notify) -> bool {
    if heard.pods {
        collector.notify_one();
    }
    heard.node
}

/// Returns when something happened that may concern the reconciler.
async fn wake(events: &mut AsyncFd<Events>, collector: &Notify) -> std::io::Result<()> {
    loop {
        let mut guard = events.readable_mut().await?;
        let look = tell(guard.get_inner_mut().drain()?, collector);
        guard.clear_ready();
        if look {
            return Ok(());
        }
    }
}

/// The same for a subscription that need not be there.
async fn wake_if_there(events: Option<&mut AsyncFd<Events>>, collector: &Notify) -> std::io::Result<()> {
    match events {
        Some(events) => wake(events, collector).await,
        None => std::future::pending().await,
    }
}
