//! What is, in Kubernetes' words: the `status` of a pod.

use std::{fs::File, io::Read as _};

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Supervisor,
    decide::{Decision, Outcome, State, is_sidecar},
    end::{DEADLINE_MESSAGE, Why},
    runs::Run,
};
use crate::state::ExitRecord;

/// The longest last words of a container in bytes.
const LAST_WORDS: u64 = 4096;
/// What stands for them when there are none, in bytes and lines of the log.
const LOG_TAIL: (usize, usize) = (2048, 80);

impl Supervisor {
    /// Writes the status down, when it has changed.
    pub(super) fn put_status(&self, decision: &Decision) -> Result<()> {
        let phase = match self.end.as_ref().map(|end| end.why) {
            // It is not over before its sandbox is gone.
            Some(Why::Over(_) | Why::Deadline) | None => self.facts().phase(),
            Some(Why::Deleted) => {
                self.dir.status()?.and_then(|old| old.phase).map_or("Pending", |phase| match phase.as_str() {
                    "Succeeded" => "Succeeded",
                    "Failed" => "Failed",
                    "Running" => "Running",
                    _ => "Pending",
                })
            }
        };
        self.put(self.status(phase, decision)?)
    }

    /// Writes down how the pod ended.
    pub(super) fn put_final_status(&self) -> Result<()> {
        let phase = match self.outcome() {
            Outcome::Succeeded => "Succeeded",
            Outcome::Failed => "Failed",
        };
        let mut status = self.status(phase, &Decision::default())?;
        if self.end.as_ref().is_some_and(|end| end.why == Why::Deadline) {
            status.reason = Some("DeadlineExceeded".to_owned());
            status.message = Some(DEADLINE_MESSAGE.to_owned());
        }
        self.put(status)
    }

    fn put(&self, mut status: PodStatus) -> Result<()> {
        let old = self.dir.status()?;
        if let Some(old) = &old {
            keep_transitions(&mut status, old);
        }
        if old.as_ref() == Some(&status) { Ok(()) } else { self.dir.put_status(&status) }
    }

    fn status(&self, phase: &str, decision: &Decision) -> Result<PodStatus> {
        let spec = self.spec();
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        let one = |container: &Container| self.container_status(container, decision);
        let init_statuses: Vec<_> = inits.iter().map(one).collect::<Result<_>>()?;
        let statuses: Vec<_> = spec.containers.iter().map(one).collect::<Result<_>>()?;
        let addresses = self.sandbox.as_ref().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default();
        let text = |ip: &std::net::IpAddr| ip.to_string();
        let initialized = inits.iter().zip(&init_statuses).all(|(init, status)| {
            let done =
                |state: &ContainerState| state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
            if is_sidecar(init) {
                status.started == Some(true)
            } else {
                status.state.as_ref().is_some_and(done)
            }
        });
        let sidecars =
            inits.iter().zip(&init_statuses).filter(|(init, _)| is_sidecar(init)).map(|(_, status)| status);
        let ready =
            phase == "Running" && self.end.is_none() && statuses.iter().chain(sidecars).all(|one| one.ready);
        let conditions = [
            ("PodScheduled", true),
            ("PodReadyToStartContainers", self.sandbox.is_some()),
            (
                "Initialized",
                initialized
                    || statuses.iter().any(|one| one.state.as_ref().is_some_and(|s| s.waiting.is_none())),
            ),
            ("ContainersReady", ready),
            ("Ready", ready),
        ];
        Ok(PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(conditions.map(|(kind, so)| condition(kind, so)).to_vec()),
            init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
            container_statuses: Some(statuses),
            host_ip: self.node.addresses.first().map(text),
            host_ips: Some(self.node.addresses.iter().map(|ip| HostIP { ip: text(ip) }).collect()),
            pod_ip: addresses.first().map(text),
            pod_ips: Some(addresses.iter().map(|ip| PodIP { ip: text(ip) }).collect()),
            start_time: Some(Time(self.started_at)),
            ..PodStatus::default()
        })
    }

    fn container_status(&self, container: &Container, decision: &Decision) -> Result<ContainerStatus> {
        let run = self.runs.get(&container.name);
        let started = run.is_some_and(|run| run.state == State::Active { started: true });
        let (state, last) = match run {
            Some(run) => self.states(container, run, decision)?,
            None => (ContainerState::default(), None),
        };
        let last_state = match (last, run.and_then(Run::previous)) {
            (Some(ended), _) | (None, Some(ended)) => terminated(container, run, &ended),
            (None, None) => ContainerState::default(),
        };
        let done = state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
        let init = self.spec().init_containers.iter().flatten().any(|one| one.name == container.name);
        Ok(ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            ready: if init && !is_sidecar(container) {
                done
            } else {
                started && run.is_some_and(|run| run.care.is_ready(container))
            },
            restart_count: run
                .and_then(|run| run.record)
                .map_or(0, |record| i32::try_from(record.attempt).unwrap_or(i32::MAX)),
            started: Some(started),
            state: Some(state),
            last_state: Some(last_state),
            ..ContainerStatus::default()
        })
    }

    /// Its state, and the end of the newest run when that is not its state.
    fn states(
        &self,
        container: &Container,
        run: &Run,
        decision: &Decision,
    ) -> Result<(ContainerState, Option<ExitRecord>)> {
        let waiting = |reason: &str, message: Option<String>| {
            let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
            ContainerState { waiting: Some(waiting), ..ContainerState::default() }
        };
        if let Some((wrong, _)) = &run.held {
            return Ok((waiting(wrong.reason, Some(wrong.message.clone())), run.ended().cloned()));
        }
        Ok(match &run.state {
            State::Ended(ended) => match decision.backing_off.get(&container.name) {
                Some(wait) => {
                    let meta = &self.pod.metadata;
                    let name = meta.name.as_deref().unwrap_or_default();
                    let namespace = meta.namespace.as_deref().unwrap_or_default();
                    let message = format!(
                        "back-off {}s restarting failed container={} pod={name}_{namespace}({})",
                        wait.as_secs(),
                        container.name,
                        self.dir.uid()
                    );
                    (waiting("CrashLoopBackOff", Some(message)), Some(ended.clone()))
                }
                None => (terminated(container, Some(run), ended), None),
            },
            State::Active { .. } if run.started.is_some() => {
                let started_at = run.started.as_ref().map(|started| Time(started.started_at));
                let running = ContainerStateRunning { started_at };
                (ContainerState { running: Some(running), ..ContainerState::default() }, None)
            }
            State::Active { .. } | State::Never => {
                let has_init = self.spec().init_containers.as_ref().is_some_and(|all| !all.is_empty());
                (waiting(if has_init { "PodInitializing" } else { "ContainerCreating" }, None), None)
            }
        })
    }
}

fn terminated(container: &Container, run: Option<&Run>, ended: &ExitRecord) -> ContainerState {
    let newest = run.filter(|run| run.ended() == Some(ended)).and_then(Run::attempt);
    let message =
        ended.message.clone().or_else(|| newest.and_then(|attempt| last_words(container, ended, &attempt)));
    let end = ContainerStateTerminated {
        exit_code: ended.exit_code,
        reason: Some(ended.reason.clone()),
        message,
        started_at: ended.started_at.map(Time),
        finished_at: Some(Time(ended.finished_at)),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

/// What the container wrote to its termination log; or, where it wants that, the end of its output.
fn last_words(container: &Container, ended: &ExitRecord, attempt: &crate::state::Attempt) -> Option<String> {
    let mut words = vec![];
    let file = File::open(attempt.file("termination-log")).ok()?;
    file.take(LAST_WORDS).read_to_end(&mut words).ok()?;
    if !words.is_empty() {
        return Some(String::from_utf8_lossy(&words).into_owned());
    }
    let falls_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !falls_back || ended.exit_code == 0 {
        return None;
    }
    let log = std::fs::read_to_string(attempt.log()).ok()?;
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let (bytes, count) = LOG_TAIL;
    let text = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n");
    let tail: Vec<u8> = text.bytes().rev().take(bytes).collect();
    let tail: Vec<u8> = tail.into_iter().rev().collect();
    Some(String::from_utf8_lossy(&tail).into_owned())
}

fn condition(kind: &str, so: bool) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if so { "True" } else { "False" }.to_owned(),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    }
}

/// A condition that is as it was has been so since it became so.
fn keep_transitions(status: &mut PodStatus, old: &PodStatus) {
    for condition in status.conditions.iter_mut().flatten() {
        let before = old.conditions.iter().flatten().find(|before| before.type_ == condition.type_);
        if let Some(before) = before.filter(|before| before.status == condition.status) {
            condition.last_transition_time.clone_from(&before.last_transition_time);
        }
    }
}
