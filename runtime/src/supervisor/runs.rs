//! The containers of a supervised pod: seen through their files, started and ended through their shims.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Child,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use netns_fixtures::wait_until;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Supervisor,
    care::Care,
    container_cgroup,
    decide::{Seen, State},
    events::Events,
    pull::Pull,
    watch::Watch,
};
use crate::{
    cgroup::Cgroup,
    container::{CannotMake, Making, PAUSE, config_error, oci_spec, profile},
    image::{ImageError, TOOLS},
    log, ourselves,
    sandbox::{hostname, pin},
    shim::{Order, pid_namespace_of},
    state::{
        Attempt, ContainerRecord, ExitRecord, Keeper, PodDir, ProcessId, SandboxRecord, StartRecord,
        read_json, write_json,
    },
};

/// How long to wait after a container could not be made.
pub(super) const HOLD: SignedDuration = SignedDuration::from_secs(5);
/// For the container that holds a shared PID namespace to start, or to end.
const PAUSE_PATIENCE: Duration = Duration::from_secs(20);
/// A container whose shim was killed: nobody knows how it ended.
const UNKNOWN_CODE: i32 = 137;

/// A container, and what is known of its newest run.
#[derive(Debug)]
pub(super) struct Run {
    name: String,
    dir: PodDir,
    /// The shim, when we started it ourselves.
    shim: Option<Child>,
    /// Shims of ours whose runs have ended, but who have not yet: they wait for who is attached to read the end.
    leaving: Vec<Child>,
    pub(super) record: Option<ContainerRecord>,
    pub(super) started: Option<StartRecord>,
    pub(super) state: State,
    /// Why it cannot be made, and until when we do not try again.
    pub(super) held: Option<(CannotMake, Timestamp)>,
    pub(super) asked_at: Option<Timestamp>,
    pub(super) care: Care,
    pub(super) pull: Pull,
    /// The run after whose end it was last said that it waits.
    pub(super) told_to_wait: Option<u32>,
    /// Whether it is still to be said what became of its start.
    untold: bool,
}

impl Run {
    pub(super) fn new(dir: &PodDir, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: dir.clone(),
            shim: None,
            leaving: vec![],
            record: None,
            started: None,
            state: State::Never,
            held: None,
            asked_at: None,
            care: Care::default(),
            pull: Pull::default(),
            told_to_wait: None,
            untold: false,
        }
    }

    /// Says what became of its start, once that is known.
    pub(super) fn tell_start(&mut self, events: &Events) {
        match &self.state {
            State::Ended(ended) if self.untold && ended.started_at.is_none() => {
                let why = ended.message.as_deref().unwrap_or(&ended.reason);
                events.warning("Failed", &format!("Error: failed to start container {}: {why}", self.name));
            }
            State::Ended(_) | State::Active { started: true } if self.untold => {
                events.normal("Started", &format!("Started container {}", self.name));
            }
            _ => return,
        }
        self.untold = false;
    }

    /// Watches for changes of a run.
    pub(super) fn watch(&self, watch: &mut Watch, record: ContainerRecord) -> Result<()> {
        let attempt = self.dir.attempt(&self.name, record.attempt);
        if attempt.path().exists() { watch.add(attempt.path()) } else { Ok(()) }
    }

    /// Sees how far it is.
    pub(super) fn look(&mut self, pod_cgroup: &Path) -> Result<()> {
        self.leaving.retain_mut(|shim| !matches!(shim.try_wait(), Ok(Some(_))));
        self.record = self.dir.container(&self.name)?;
        let Some(record) = self.record else {
            return Ok(());
        };
        if matches!(self.state, State::Ended(_)) {
            return Ok(());
        }
        let attempt = self.dir.attempt(&self.name, record.attempt);
        let child =
            self.shim.as_mut().map(|child| child.try_wait().context("wait for a shim")).transpose()?;
        let child_ended = matches!(child, Some(Some(_)));
        // In this order: a shim writes down the end before it lets the lock go.
        let kept = child == Some(None) || lock_is_held(&attempt);
        self.started = attempt.started()?;
        self.state = if let Some(ended) = attempt.ended()? {
            self.leaving.extend(self.shim.take().filter(|_| !child_ended));
            State::Ended(ended)
        } else if kept {
            State::Active { started: self.started.is_some() }
        } else if self.started.is_some() || child_ended {
            self.shim = None;
            State::Ended(self.give_up(&attempt, pod_cgroup)?)
        } else {
            State::Never
        };
        Ok(())
    }

    /// The shim is gone and did not say how the container ended: nobody reads its output any more, so it has to go.
    fn give_up(&self, attempt: &Attempt, pod_cgroup: &Path) -> Result<ExitRecord> {
        let cgroup = Cgroup::at(&container_cgroup(pod_cgroup, &self.name))?;
        cgroup.kill()?;
        cgroup.remove()?;
        let ended = ExitRecord {
            exit_code: UNKNOWN_CODE,
            reason: "ContainerStatusUnknown".to_owned(),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            started_at: self.started.as_ref().map(|started| started.started_at),
            finished_at: Timestamp::now(),
        };
        attempt.put_ended(&ended)?;
        Ok(ended)
    }

    pub(super) fn seen(&self) -> Seen {
        Seen {
            state: self.state.clone(),
            backoff_step: self.record.map_or(0, |record| record.backoff_step),
            held_until: self.pull.until().or(self.held.as_ref().map(|(_, until)| *until)),
            asked_at: self.asked_at,
        }
    }

    /// Sends it the signal that asks it to end.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.asked_at = Some(Timestamp::now());
        self.signal(Signal::SIGTERM)
    }

    /// Ends it.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::SIGINT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if let Some(child) = &self.shim {
            return match kill(Pid::from_raw(i32::try_from(child.id())?), signal) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(errno) => Err(anyhow!(errno)).context("signal a shim"),
            };
        }
        let Some(record) = self.record else {
            return Ok(());
        };
        let attempt = self.dir.attempt(&self.name, record.attempt);
        let shim: Option<ProcessId> = read_json(&attempt.file("shim.json"))?;
        shim.map_or(Ok(()), |shim| shim.signal(signal))
    }

    /// How the run before the newest ended.
    pub(super) fn previous(&self) -> Option<ExitRecord> {
        let before = self.record?.attempt.checked_sub(1)?;
        self.dir.attempt(&self.name, before).ended().ok().flatten()
    }

    /// How the newest run ended, if it did.
    pub(super) fn ended(&self) -> Option<&ExitRecord> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            State::Never | State::Active { .. } => None,
        }
    }

    /// The newest run's files.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        self.record.map(|record| self.dir.attempt(&self.name, record.attempt))
    }

    /// Makes it as if it had never run, but for the count.
    fn reset(&mut self) -> Result<()> {
        if let Some(record) = self.record.filter(|_| self.state != State::Never) {
            let next = ContainerRecord { attempt: record.attempt + 1, backoff_step: 0 };
            self.dir.put_container(&self.name, next)?;
            self.record = Some(next);
        }
        (self.state, self.started, self.asked_at, self.shim) = (State::Never, None, None, None);
        self.care = Care::default();
        Ok(())
    }
}

fn lock_is_held(attempt: &Attempt) -> bool {
    Keeper::is_there(&attempt.lock_file())
}

impl Supervisor {
    /// Starts a container, or starts it again.
    pub(super) fn start(&mut self, name: &str, backoff_step: u32) -> Result<()> {
        let Some(sandbox) = self.sandbox.clone() else {
            return Ok(());
        };
        let container = self.container(name)?;
        if !self.has_image(&container)? {
            return Ok(());
        }
        let made = self.launch(&container, &sandbox, backoff_step);
        let run = self.runs.get_mut(name).context("every container has a run")?;
        match made {
            Ok(None) => (run.held, run.untold) = (None, true),
            Ok(Some(wrong)) => {
                self.events.warning("Failed", &format!("Error: {}: {}", wrong.reason, wrong.message));
                run.held = Some((wrong, Timestamp::now() + HOLD));
            }
            Err(error) => {
                let message = format!("{error:#}");
                self.events.warning("Failed", &format!("Error: {message}"));
                let wrong = CannotMake { reason: "CreateContainerError", message };
                run.held = Some((wrong, Timestamp::now() + HOLD));
            }
        }
        Ok(())
    }

    /// Writes a run's files and starts its shim. What is wrong with the manifest is answered, not an error.
    fn launch(
        &mut self,
        container: &Container,
        sandbox: &SandboxRecord,
        backoff_step: u32,
    ) -> Result<Option<CannotMake>> {
        let reference = container.image.as_deref().unwrap_or_default();
        // Until it is written down that this run uses them, the image's files could be swept away.
        let _files_stay = self.images.launching()?;
        let image = match self.images.find(reference) {
            Ok(image) => image,
            Err(error) => match error.downcast::<ImageError>() {
                Ok(wrong) => {
                    return Ok(Some(CannotMake { reason: wrong.reason(), message: wrong.to_string() }));
                }
                Err(error) => return Err(error),
            },
        };
        let run = self.runs.get(&container.name).context("every container has a run")?;
        let number = match (run.record, &run.state) {
            (Some(record), State::Ended(_)) => record.attempt + 1,
            (Some(record), _) => record.attempt,
            (None, _) => 0,
        };
        let joins = match self.target_of(&container.name) {
            Ok(joins) => joins,
            Err(wrong) => return Ok(Some(wrong)),
        };
        let attempt = self.dir.attempt(&container.name, number);
        let cgroup = container_cgroup(&self.cgroup, &container.name);
        let pid_namespace = pid_namespace_of(attempt.path());
        let making = Making {
            view: self.view(sandbox),
            container,
            image: &image,
            attempt: attempt.path(),
            cgroup: &cgroup,
            target: joins.map(|_| pid_namespace.as_path()),
        };
        let config = match oci_spec(&making, &hostname(&self.pod, &self.node)) {
            Ok(config) => config,
            Err(error) => return Ok(Some(config_error(&error))),
        };
        let seccomp = profile(&making);
        let wanted = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
        let stop_signal = wanted.or(image.config.stop_signal.clone()).unwrap_or_default();
        let record = ContainerRecord { attempt: number, backoff_step };
        self.dir.put_container(&container.name, record)?;
        let order = Order {
            lower: image.lower.clone(),
            cgroup,
            stop_signal,
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
            log: self.node.log,
            seccomp,
            joins,
        };
        write_run(&attempt, &config, &order)?;
        self.forget_old_runs(&container.name, number);
        self.watch.add(attempt.path())?;
        let shim = spawn_shim(&attempt)?;
        let run = self.runs.get_mut(&container.name).context("every container has a run")?;
        (run.record, run.shim, run.started, run.asked_at) = (Some(record), Some(shim), None, None);
        (run.state, run.care) = (State::Active { started: false }, Care::default());
        Ok(None)
    }

    /// Only the run before the newest is kept: `logs --previous` shows it.
    fn forget_old_runs(&self, name: &str, newest: u32) {
        if let Some(old) = newest.checked_sub(2) {
            let old = self.dir.attempt(name, old);
            // They go with the pod at the latest.
            let _ = fs::remove_dir_all(old.path());
            let _ = log::remove(old.log());
        }
    }

    /// Starts the process that holds a shared PID namespace, if the pod has one, and pins the namespace.
    pub(super) fn start_pause(&mut self, sandbox: &SandboxRecord) -> Result<()> {
        if !self.runs.contains_key(PAUSE) {
            return Ok(());
        }
        let container = Container {
            name: PAUSE.to_owned(),
            image: Some(TOOLS.to_owned()),
            args: Some(vec!["pause".to_owned()]),
            ..Container::default()
        };
        if let Some(wrong) = self.launch(&container, sandbox, 0)? {
            return Err(anyhow!(wrong.message).context("make the container that holds the PID namespace"));
        }
        let cgroup = self.cgroup.clone();
        let run = self.runs.get_mut(PAUSE).context("every container has a run")?;
        let started =
            wait_until("the holder of the PID namespace", PAUSE_PATIENCE, || match run.look(&cgroup) {
                Ok(()) => match (&run.started, &run.state) {
                    (Some(started), State::Active { .. }) => Some(Ok(started.init.pid)),
                    (_, State::Ended(ended)) => Some(Err(anyhow!("it ended: {ended:?}"))),
                    _ => None,
                },
                Err(error) => Some(Err(error)),
            });
        let pid = started?.context("start the holder of the PID namespace")?;
        pin(Path::new(&format!("/proc/{pid}/ns/pid")), &self.dir.file("pid"))
    }

    /// Whether the process that held the PID namespace has ended, and all others with it.
    pub(super) fn pause_is_gone(&self) -> bool {
        self.sandbox.is_some() && self.runs.get(PAUSE).is_some_and(|run| run.ended().is_some())
    }

    /// Ends the process that holds the PID namespace.
    pub(super) fn stop_pause(&mut self) -> Result<()> {
        let cgroup = self.cgroup.clone();
        let Some(run) = self.runs.get_mut(PAUSE).filter(|run| matches!(run.state, State::Active { .. }))
        else {
            return Ok(());
        };
        run.kill()?;
        wait_until("the end of the holder of the PID namespace", PAUSE_PATIENCE, || {
            match run.look(&cgroup) {
                Ok(()) => run.ended().map(|_| Ok(())),
                Err(error) => Some(Err(error)),
            }
        })?
    }

    /// The sandbox is broken: everything is made anew, init containers included.
    pub(super) fn start_over(&mut self) -> Result<()> {
        self.events.normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
        Cgroup::at(&self.cgroup)?.kill()?;
        let names: Vec<String> = self.runs.keys().cloned().collect();
        let cgroup = self.cgroup.clone();
        for name in names {
            let is_ephemeral = self.is_ephemeral(&name);
            let run = self.runs.get_mut(&name).context("every container has a run")?;
            wait_until("a killed container's shim to end", PAUSE_PATIENCE, || match run.look(&cgroup) {
                Ok(()) => (!matches!(run.state, State::Active { .. })).then_some(Ok(())),
                Err(error) => Some(Err(error)),
            })??;
            // These never run again, whatever ended them.
            if !is_ephemeral {
                run.reset()?;
            }
        }
        self.sandbox = None;
        Ok(())
    }
}

/// Writes what the shim and the launcher read.
fn write_run(attempt: &Attempt, config: &serde_json::Value, order: &Order) -> Result<()> {
    let told = || format!("prepare {}", attempt.path().display());
    fs::create_dir_all(attempt.path()).with_context(told)?;
    let last_words = attempt.file("termination-log");
    File::create(&last_words).with_context(told)?;
    // Any user of the container may write there.
    fs::set_permissions(&last_words, fs::Permissions::from_mode(0o666)).with_context(told)?;
    write_json(&attempt.file("config.json"), config)?;
    write_json(&attempt.file("order.json"), order)
}

fn spawn_shim(attempt: &Attempt) -> Result<Child> {
    let log = File::create(attempt.file("shim.log")).context("create the shim's log")?;
    let mut command = ourselves::in_background(log);
    command.arg("shim").arg("--dir").arg(attempt.path()).arg("--log").arg(attempt.log());
    command.spawn().context("start a shim")
}
