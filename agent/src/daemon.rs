//! `flatnetd run`: waits for reasons to look again, and takes turns. Events only wake; what is done is
//! always the difference between the cluster and the kernel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flatnet_core::node::{NODE_SNAPSHOT_VERSION, NodeSnapshot, SEGMENT_SIZE};
use flatnet_core::overlay::cluster::Cluster;
use flatnet_kernel::NetlinkKernel;
use flatnet_kernel::events::Events;
use flatnet_node_state::StateDir;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::collector::{self, Tally};
use crate::config::Config;
use crate::health::{self, Pulse};
use crate::metrics::Metrics;
use crate::pacing::{Changed, Outcome, Pacing};
use crate::readable::readable;
use crate::run_lock::RunLock;
use crate::shutdown::{self, Shutdown};
use crate::status::{Status, StatusFile};
use crate::store::{StoreState, file};
use crate::turn::{Changes, Turn, TurnError, turn};

/// A look that nobody asked for: catches what no event told.
const UNASKED: Duration = Duration::from_secs(30);

/// Runs until a signal says stop. The data path stays as it is then.
///
/// # Errors
/// It cannot start, or one of its parts ended.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let _lock = RunLock::take(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(supervise(config));
    // A turn that is under way has nobody to report to.
    runtime.shutdown_background();
    result
}

async fn supervise(config: Config) -> anyhow::Result<()> {
    let (trigger, stop) = shutdown::channel();
    let (store, state) = watch::channel(StoreState::default());
    // Before anything is read: what changes from here on wakes us.
    let events = Events::open().and_then(readable).context("subscribe to kernel events")?;
    // A kernel without nf_tables has no table that could change.
    let table = Events::open_table().and_then(readable).ok();
    tracing::info!(
        node = %config.settings.node,
        backend = %config.settings.backend,
        store = %config.cluster_file.display(),
        state_dir = %config.state_dir.display(),
        "flatnetd {} starts", env!("CARGO_PKG_VERSION")
    );
    let mut tasks: JoinSet<(&'static str, anyhow::Result<()>)> = JoinSet::new();
    let follow = file::follow(config.cluster_file.clone(), config.settings.node.clone(), store, stop.clone());
    tasks.spawn(async move { ("file store", follow.await.map_err(Into::into)) });
    let (pulse, heard) = watch::channel(Pulse::starting());
    let metrics = Arc::new(Metrics::new());
    if let Some(listen) = config.listen {
        let serve = health::serve(listen, heard, Arc::clone(&metrics), stop.clone());
        tasks.spawn(async move { ("health server", serve.await.map_err(Into::into)) });
    }
    let (tally, collected) = watch::channel(Tally::default());
    let collect = collector::run(&config, Arc::clone(&metrics), tally, stop.clone())?;
    tasks.spawn(async move { ("collector", collect.await) });
    let reconciler =
        Reconciler::new(config, Ears { events, table, collected }, state, Voice { pulse, metrics })?;
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
    trigger.pull();
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(2), finish).await.is_err() {
        tracing::warn!("a turn did not end in time");
    }
    result
}

/// Where the reconciler says how it is, beside its file.
struct Voice {
    pulse: watch::Sender<Pulse>,
    metrics: Arc<Metrics>,
}

/// What wakes the reconciler.
struct Ears {
    events: AsyncFd<Events>,
    /// Our nftables table, where the kernel has such.
    table: Option<AsyncFd<Events>>,
    /// What was collected: no reason to act, but to say so.
    collected: watch::Receiver<Tally>,
}

struct Reconciler {
    config: Arc<Config>,
    /// Away while a turn runs.
    kernel: Option<NetlinkKernel>,
    ears: Ears,
    store: watch::Receiver<StoreState>,
    pacing: Pacing,
    status: Status,
    file: StatusFile,
    voice: Voice,
    state_dir: StateDir,
    /// What was last complained about, so that it is said once.
    complaint: Option<String>,
}

impl Reconciler {
    fn new(
        config: Config,
        ears: Ears,
        store: watch::Receiver<StoreState>,
        voice: Voice,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            kernel: Some(NetlinkKernel::open_node().context("open netlink")?),
            ears,
            store,
            pacing: Pacing::default(),
            status: Status::new(&config),
            file: StatusFile::new(&config.state_dir),
            voice,
            state_dir: StateDir::new(&config.state_dir),
            complaint: None,
            config: Arc::new(config),
        })
    }

    async fn run(mut self, mut stop: Shutdown) -> anyhow::Result<()> {
        self.write_status();
        loop {
            let pause = self.pacing.retry().unwrap_or(UNASKED);
            tokio::select! {
                // Cancel safe: a flag.
                () = stop.requested() => return Ok(()),
                // Cancel safe: what is new stays marked as new until it is looked at.
                changed = self.store.changed() => changed.context("the store ended")?,
                // Cancel safe: events that were read are a reason to look, and we do look.
                woken = wake(&mut self.ears.events) => woken.context("kernel events")?,
                // Cancel safe: as above.
                woken = wake_if_there(self.ears.table.as_mut()) => woken.context("nftables events")?,
                // Cancel safe: as with the store. The sender goes only with the process.
                Ok(()) = self.ears.collected.changed() => {
                    self.write_status();
                    continue;
                }
                // Cancel safe: a timer.
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(self.pacing.gather(Instant::now())).await;
            self.ears.events.get_mut().drain().context("kernel events")?;
            if let Some(table) = &mut self.ears.table {
                table.get_mut().drain().context("nftables events")?;
            }
            self.take_turn().await?;
        }
    }

    async fn take_turn(&mut self) -> anyhow::Result<()> {
        let state = self.store.borrow_and_update().clone();
        self.status.note_store(&state);
        let Some(cluster) = state.cluster else {
            self.write_status();
            return Ok(());
        };
        let mut kernel = self.kernel.take().context("the last turn did not end")?;
        let (config, for_turn) = (Arc::clone(&self.config), Arc::clone(&cluster));
        let start = Instant::now();
        let (kernel, result) = tokio::task::spawn_blocking(move || {
            let result = turn(&mut kernel, &config, &for_turn);
            (kernel, result)
        })
        .await
        .context("turn")?;
        self.kernel = Some(kernel);
        match result {
            Ok(turn) => self.note(start, &turn, &cluster),
            Err(error) => self.note_refusal(start, &error),
        }
        self.write_status();
        Ok(())
    }

    fn note(&mut self, start: Instant, turn: &Turn, cluster: &Cluster) {
        self.status.note_turn(turn, cluster);
        let written = self.write_snapshot(turn, cluster);
        if let Err(error) = &written {
            self.status.problems.push(error.clone());
        }
        self.status.ready = turn.failed == 0 && written.is_ok();
        let changed = if turn.changes.is_empty() { Changed::Nothing } else { Changed::Something };
        let outcome = if self.status.ready { Outcome::Settled } else { Outcome::Failed };
        self.pacing.note(start, turn.took, changed, outcome);
        let result = if self.status.ready { "settled" } else { "failed" };
        self.voice.metrics.note_turn(result, turn.took, &turn.changes);
        let took_ms = u64::try_from(turn.took.as_millis()).unwrap_or(u64::MAX);
        match changed {
            Changed::Something => tracing::info!(took_ms, changes = %turn.changes, "reconciled"),
            Changed::Nothing => tracing::debug!(took_ms, "nothing to do"),
        }
        let mut problems = self.status.problems.clone();
        problems.extend(
            self.status
                .peers
                .iter()
                .filter_map(|peer| Some(format!("peer {}: {}", peer.name, peer.problem.as_ref()?))),
        );
        if self.pacing.is_fight() {
            problems.push("something keeps changing what the agent puts right".to_owned());
        }
        self.complain(&problems);
    }

    fn note_refusal(&mut self, start: Instant, error: &TurnError) {
        self.status.ready = false;
        let text = crate::status::chain(error);
        self.status.problems = vec![text.clone()];
        self.pacing.note(start, start.elapsed(), Changed::Nothing, Outcome::Failed);
        self.voice.metrics.note_turn("refused", start.elapsed(), &Changes::default());
        self.complain(&[text]);
    }

    /// Says what is wrong when that changes, not every time it is found to be so.
    fn complain(&mut self, problems: &[String]) {
        const SAID: usize = 5;
        let text = problems.join("\n");
        if self.complaint.as_ref() == Some(&text) {
            return;
        }
        for problem in problems.iter().take(SAID) {
            tracing::warn!("{problem}");
        }
        if problems.len() > SAID {
            tracing::warn!("and {} more problems; see `flatnetd status`", problems.len() - SAID);
        }
        if problems.is_empty() && self.complaint.as_ref().is_some_and(|old| !old.is_empty()) {
            tracing::info!("all problems are gone");
        }
        self.complaint = Some(text);
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
            segment_size: SEGMENT_SIZE,
            masquerade: self.config.masquerade,
        };
        self.state_dir.write_snapshot(&snapshot).map_err(|e| crate::status::chain(&e))
    }

    fn write_status(&mut self) {
        let why =
            || self.status.all_problems().into_iter().next().unwrap_or_else(|| "no cluster yet".to_owned());
        let not_ready = (!self.status.ready).then(why);
        self.voice.pulse.send_replace(Pulse { beat: Instant::now(), not_ready });
        self.voice.metrics.note_status(&self.status);
        self.status.collected = *self.ears.collected.borrow_and_update();
        if let Err(e) = self.file.write(&self.status) {
            tracing::warn!(error = %e, "status not written");
        }
    }
}

/// Returns when something happened that may concern us.
async fn wake(events: &mut AsyncFd<Events>) -> std::io::Result<()> {
    loop {
        let mut guard = events.readable_mut().await?;
        let look = guard.get_inner_mut().drain()?;
        guard.clear_ready();
        if look {
            return Ok(());
        }
    }
}

/// The same for a subscription that need not be there.
async fn wake_if_there(events: Option<&mut AsyncFd<Events>>) -> std::io::Result<()> {
    match events {
        Some(events) => wake(events).await,
        None => std::future::pending().await,
    }
}
