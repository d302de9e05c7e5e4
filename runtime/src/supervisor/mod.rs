//! One process per pod, which outlives the command that made the pod: it makes the sandbox, starts and restarts
//! containers, ends them, and writes down what is.
//!
//! Everything it needs to know is in files, so it can be killed at any moment: containers go on under their shims,
//! and the next supervisor takes over what it finds. It looks at everything again whenever something happens.

mod care;
mod decide;
mod end;
mod ephemeral;
mod events;
mod pull;
mod question;
mod runs;
mod status;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

use crate::{
    container::{PodView, mount_volumes},
    image::Store,
    ourselves,
    sandbox::Sandbox,
    state::{Deletion, Keeper, NodeRecord, Objects, PodDir, Root, SandboxRecord},
};
use decide::{Action, Decision, Facts, LONGEST_WAIT};
use end::{End, Why};
use runs::Run;

pub(crate) use events::Events;
pub(crate) use watch::Watch;

/// Nothing is lost when an event is: everything is looked at this often anyway.
const TICK: Duration = Duration::from_millis(500);
/// How soon to look again after having done something.
const SOON: Duration = Duration::from_millis(5);
/// How long to wait after a sandbox could not be made.
const SANDBOX_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// Which pod to supervise.
#[derive(Debug, Args)]
pub(crate) struct SuperviseArgs {
    /// The pod's unique id
    #[arg(long)]
    uid: String,
}

/// Makes sure that a pod has a supervisor.
pub(crate) fn ensure(root: &Root, dir: &PodDir) -> Result<()> {
    if !dir.path().exists() || is_over(dir)? || Keeper::is_there(&dir.lock_file()) {
        return Ok(());
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.file("supervisor.log"));
    if log.is_err() && !dir.path().exists() {
        // It has gone meanwhile.
        return Ok(());
    }
    let log = log.with_context(|| format!("open the log of the supervisor of {}", dir.uid()))?;
    let mut command = ourselves::in_background(log);
    command.arg("--root").arg(root.path()).args(["supervise", "--uid", dir.uid()]);
    command.spawn().map(drop).context("start the pod's supervisor")
}

/// Asks a pod to go, within `grace` seconds or those that its specification gives it. The first word counts, but for
/// one that leaves less time.
pub(crate) fn terminate(root: &Root, dir: &PodDir, pod: &Pod, grace: Option<u64>) -> Result<()> {
    let spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let own = u64::try_from(spec.unwrap_or(end::GRACE)).unwrap_or(0);
    let old = dir.deletion()?;
    let grace_seconds = grace.unwrap_or(own);
    if old.as_ref().is_none_or(|old| grace_seconds < old.grace_seconds) {
        let requested_at = old.map_or_else(Timestamp::now, |old| old.requested_at);
        let asked = dir.put_deletion(&Deletion { requested_at, grace_seconds });
        if asked.is_err() && !dir.path().exists() {
            // It has gone by itself meanwhile.
            return Ok(());
        }
        asked?;
    }
    ensure(root, dir)
}

/// Supervises a pod until it is gone or over.
pub(crate) fn run(root: &Root, args: &SuperviseArgs) -> Result<ExitCode> {
    // Fails when we lead a session already.
    let _ = nix::unistd::setsid();
    let dir = root.pod(&args.uid);
    if !dir.path().exists() {
        return Ok(ExitCode::SUCCESS);
    }
    let Some(_keeper) = Keeper::try_become(&dir.lock_file())? else {
        return Ok(ExitCode::SUCCESS);
    };
    if is_over(&dir)? {
        return Ok(ExitCode::SUCCESS);
    }
    Supervisor::new(root, dir)?.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether there is nothing to do for a pod any more.
pub(crate) fn is_over(dir: &PodDir) -> Result<bool> {
    let over = dir.status()?.as_ref().is_some_and(flatpod::status::is_over);
    Ok(over && dir.sandbox()?.is_none() && dir.deletion()?.is_none())
}

struct Supervisor {
    dir: PodDir,
    pod: Pod,
    /// As it was last written down.
    status: PodStatus,
    root: Root,
    node: NodeRecord,
    objects: Objects,
    images: Store,
    /// The pod's cgroup.
    cgroup: PathBuf,
    runs: BTreeMap<String, Run>,
    sandbox: Option<SandboxRecord>,
    /// A sandbox could not be made; not again before this.
    sandbox_held_until: Option<Timestamp>,
    end: Option<End>,
    started_at: Timestamp,
    longest_wait: Duration,
    events: Events,
    watch: Watch,
}

impl Supervisor {
    fn new(root: &Root, dir: PodDir) -> Result<Self> {
        let pod = dir.manifest()?;
        let spec = pod.spec.clone().unwrap_or_default();
        let name = spec.node_name.as_deref().unwrap_or_default();
        let node = node_of(root, name)?;
        let mut watch = Watch::new()?;
        watch.add(dir.path())?;
        let status = dir.status()?.unwrap_or_default();
        let started_at = status.start_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
        let runs = decide::containers(&spec).map(|one| (one.name.clone(), Run::new(&dir, &one.name)));
        let mut runs: BTreeMap<_, _> = runs.collect();
        if spec.share_process_namespace == Some(true) {
            runs.insert(crate::container::PAUSE.to_owned(), Run::new(&dir, crate::container::PAUSE));
        }
        let longest_wait = node.max_restart_period.map_or(LONGEST_WAIT, Duration::from_secs);
        let mut all = Self {
            cgroup: pod_cgroup(root, &node, dir.uid()),
            objects: root.objects(),
            images: Store::new(root.images()),
            sandbox: dir.sandbox()?.filter(|sandbox| sandbox.ready),
            sandbox_held_until: None,
            end: None,
            events: Events::new(&dir),
            root: root.clone(),
            dir,
            pod,
            status,
            node,
            runs,
            started_at,
            longest_wait,
            watch,
        };
        for (name, run) in &all.runs {
            if let Some(record) = all.dir.container(name)? {
                run.watch(&mut all.watch, record)?;
            }
        }
        Ok(all)
    }

    fn run(mut self) -> Result<()> {
        loop {
            let decision = self.turn()?;
            if decision.finished.is_some() && self.finish()? {
                return Ok(());
            }
            // Being asked or killed takes a container a while.
            let quick = |action: &Action| matches!(action, Action::MakeSandbox | Action::Start { .. });
            let acted = decision.actions.iter().any(quick);
            let until = |at: Timestamp| {
                Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
            };
            let patience = decision.wake_at.map_or(TICK, until).min(TICK);
            self.watch.wait(if acted { SOON } else { patience.max(SOON) })?;
        }
    }

    /// Looks at everything, does what is to be done now, and writes down what is.
    fn turn(&mut self) -> Result<Decision> {
        self.look()?;
        let mut decision = self.decide();
        if let Some(outcome) = decision.finished.filter(|_| self.end.is_none()) {
            self.end = Some(End::after(Why::Over(outcome), self.spec_grace()));
            decision = self.decide();
        }
        self.tell_who_waits(&decision);
        self.put_status(&decision)?;
        for action in &decision.actions {
            self.act(action)?;
        }
        if self.end.is_some() && decision.actions.is_empty() && decision.wake_at.is_none() {
            let outcome = self.outcome();
            decision.finished = Some(outcome);
        }
        Ok(decision)
    }

    /// Says once for every run whose successor has to wait.
    fn tell_who_waits(&mut self, decision: &Decision) {
        let meta = &self.pod.metadata;
        let pod = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for name in decision.backing_off.keys() {
            let Some(run) = self.runs.get_mut(name) else { continue };
            let attempt = run.record.map(|record| record.attempt);
            if run.told_to_wait != attempt {
                run.told_to_wait = attempt;
                let of = format!("container {name} in pod {pod}_{namespace}({})", self.dir.uid());
                self.events.warning("BackOff", &format!("Back-off restarting failed {of}"));
            }
        }
    }

    /// Sees what has changed.
    fn look(&mut self) -> Result<()> {
        self.meet_ephemeral()?;
        for run in self.runs.values_mut() {
            run.look(&self.cgroup)?;
            run.tell_start(&self.events);
        }
        self.care_for_all()?;
        self.see_pulls()?;
        if self.pause_is_gone() && self.end.is_none() {
            self.start_over()?;
        }
        if let Some(deletion) = self.dir.deletion()? {
            let grace = SignedDuration::from_secs(i64::try_from(deletion.grace_seconds).unwrap_or(i64::MAX));
            self.end = Some(match self.end.take() {
                Some(end) => end.delete(grace),
                None => {
                    self.events.normal("Killing", "Stopping the pod's containers");
                    End::after(Why::Deleted, grace)
                }
            });
        }
        let deadline = self.spec().active_deadline_seconds.map(SignedDuration::from_secs);
        if let Some(deadline) = deadline.filter(|_| self.end.is_none())
            && Timestamp::now().duration_since(self.started_at) >= deadline
        {
            self.events.warning("DeadlineExceeded", end::DEADLINE_MESSAGE);
            self.end = Some(End::after(Why::Deadline, self.spec_grace()));
        }
        Ok(())
    }

    fn decide(&self) -> Decision {
        let facts = self.facts();
        match &self.end {
            Some(end) => facts.decide_end(end.deadline),
            None => {
                let mut decision = facts.decide();
                let held = self.sandbox_held_until.filter(|until| facts.now < *until);
                if let Some(until) = held.filter(|_| !facts.sandbox_ready) {
                    decision = Decision { wake_at: Some(until), ..Decision::default() };
                }
                decision
            }
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            spec: self.spec(),
            now: Timestamp::now(),
            sandbox_ready: self.sandbox.is_some(),
            seen: self.runs.iter().map(|(name, run)| (name.clone(), run.seen())).collect(),
            longest_wait: self.longest_wait,
        }
    }

    fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::MakeSandbox => self.make_sandbox(),
            Action::Start { name, backoff_step } => self.start(name, *backoff_step),
            Action::Ask { name } => {
                let deadline = self.end.as_ref().map_or(Timestamp::MIN, |end| end.deadline);
                self.ask(name, deadline)
            }
            Action::Kill { name } => self.runs.get_mut(name).map_or(Ok(()), Run::kill),
        }
    }

    fn make_sandbox(&mut self) -> Result<()> {
        let made = self.sandbox_of().create();
        let made = made.and_then(|record| {
            let view = PodView { sandbox: &record, ..self.view(&record) };
            mount_volumes(&view)?;
            Ok(record)
        });
        let made = made.and_then(|record| self.start_pause(&record).map(|()| record));
        match made {
            Ok(record) => {
                self.sandbox = Some(record);
                self.sandbox_held_until = None;
            }
            Err(error) => {
                self.events
                    .warning("FailedCreatePodSandBox", &format!("Failed to create pod sandbox: {error:#}"));
                self.sandbox_held_until = Some(Timestamp::now() + SANDBOX_RETRY);
            }
        }
        Ok(())
    }

    fn sandbox_of(&self) -> Sandbox<'_> {
        Sandbox { pod: &self.pod, dir: &self.dir, node: &self.node, cgroup: &self.cgroup }
    }

    fn view<'a>(&'a self, sandbox: &'a SandboxRecord) -> PodView<'a> {
        PodView { pod: &self.pod, node: &self.node, dir: &self.dir, sandbox, objects: &self.objects }
    }

    fn spec(&self) -> &PodSpec {
        // The store of pods has none without.
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    fn spec_grace(&self) -> SignedDuration {
        SignedDuration::from_secs(self.spec().termination_grace_period_seconds.unwrap_or(end::GRACE))
    }
}

/// The node of that name: a simulated one, or the machine.
pub(crate) fn node_of(root: &Root, name: &str) -> Result<NodeRecord> {
    let machine = NodeRecord::machine()?;
    if machine.name == name && !root.nodes()?.iter().any(|known| known == name) {
        return Ok(machine);
    }
    root.node(name).record()
}

/// The cgroup of a pod.
pub(crate) fn pod_cgroup(root: &Root, node: &NodeRecord, uid: &str) -> PathBuf {
    root.cgroup().join(&node.name).join(format!("pod{uid}"))
}

/// The cgroup of a container.
pub(crate) fn container_cgroup(pod: &Path, name: &str) -> PathBuf {
    pod.join(name)
}
