//! What is, in Kubernetes' words: the `status` of a pod.

use std::{fs::File, io::Read as _};

use anyhow::Result;
use flatpod::status::{self, Observed, Phase, PhaseFacts, is_sidecar};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    Supervisor,
    decide::{Decision, Outcome, State},
    end::{DEADLINE_MESSAGE, Why},
    runs::Run,
};
use crate::{
    container::{as_container, ephemeral},
    log,
    state::ExitRecord,
};

/// The longest last words of a container in bytes.
const LAST_WORDS: u64 = 4096;
/// What stands for them when there are none, in bytes and lines of the log.
const LOG_TAIL: (usize, usize) = (2048, 80);

/// Whether the pod is over, and how.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Going,
    Over(Phase),
}

impl Supervisor {
    /// Writes the status down, when it has changed.
    pub(super) fn put_status(&mut self, decision: &Decision) -> Result<()> {
        self.put(self.observe(decision, Stage::Going)?)
    }

    /// Writes down how the pod ended.
    pub(super) fn put_final_status(&mut self) -> Result<()> {
        let phase = match self.outcome() {
            Outcome::Succeeded => Phase::Succeeded,
            Outcome::Failed => Phase::Failed,
        };
        let mut status = self.observe(&Decision::default(), Stage::Over(phase))?;
        if self.end.as_ref().is_some_and(|end| end.why == Why::Deadline) {
            status.reason = Some("DeadlineExceeded".to_owned());
            status.message = Some(DEADLINE_MESSAGE.to_owned());
        }
        self.put(status)
    }

    fn put(&mut self, status: PodStatus) -> Result<()> {
        // Not what the file says: it has times in whole seconds.
        if self.status != status {
            self.dir.put_status(&status)?;
            self.status = status;
        }
        Ok(())
    }

    fn observe(&self, decision: &Decision, stage: Stage) -> Result<PodStatus> {
        let spec = self.spec();
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        let one_of = |container: &Container| self.container_status(container, decision);
        let init_statuses: Vec<_> = inits.iter().map(one_of).collect::<Result<_>>()?;
        let statuses: Vec<_> = spec.containers.iter().map(one_of).collect::<Result<_>>()?;
        let ephemeral_statuses: Vec<_> = ephemeral(spec)
            .map(|one| Ok(ContainerStatus { ready: false, started: None, ..one_of(&as_container(one))? }))
            .collect::<Result<_>>()?;
        let all: Vec<_> = init_statuses.iter().chain(&statuses).cloned().collect();
        let old = &self.status;
        let phase = match stage {
            Stage::Over(phase) => phase,
            Stage::Going => self.phase(&all, old.phase.as_deref().and_then(Phase::named)),
        };
        let before = old.conditions.as_deref().unwrap_or_default();
        let sandbox = self.sandbox.is_some();
        let observed = Observed { spec, statuses: Some(&all), phase, sandbox, unschedulable: None, before };
        let addresses = self.sandbox.as_ref().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default();
        let text = |ip: &std::net::IpAddr| ip.to_string();
        Ok(PodStatus {
            phase: Some(phase.as_str().to_owned()),
            qos_class: Some(status::qos(spec).as_str().to_owned()),
            conditions: Some(status::conditions(&observed, Timestamp::now())),
            init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
            container_statuses: Some(statuses),
            ephemeral_container_statuses: (!ephemeral_statuses.is_empty()).then_some(ephemeral_statuses),
            host_ip: self.node.addresses.first().map(text),
            host_ips: Some(self.node.addresses.iter().map(|ip| HostIP { ip: text(ip) }).collect()),
            pod_ip: addresses.first().map(text),
            pod_ips: Some(addresses.iter().map(|ip| PodIP { ip: text(ip) }).collect()),
            start_time: Some(Time(self.started_at)),
            ..PodStatus::default()
        })
    }

    /// The phase of a pod that is not over before its sandbox is gone.
    fn phase(&self, all: &[ContainerStatus], before: Option<Phase>) -> Phase {
        let has_run = |app: &Container| self.runs.get(&app.name).is_some_and(|run| run.state != State::Never);
        let initialized = self.spec().containers.iter().any(has_run);
        let facts = PhaseFacts { before, ending: self.end.is_some(), initialized };
        match status::phase(self.spec(), all, facts) {
            phase if phase.is_terminal() => before.unwrap_or(Phase::Pending),
            phase => phase,
        }
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
            // A pod that shall go is none to send anything to any more.
            ready: if init && !is_sidecar(container) {
                done
            } else {
                self.end.is_none() && started && run.is_some_and(|run| run.care.is_ready(container))
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
                let waits = has_init && !self.is_ephemeral(&container.name);
                (waiting(if waits { "PodInitializing" } else { "ContainerCreating" }, None), None)
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
    let (wanted_bytes, wanted_lines) = LOG_TAIL;
    let is_enough = |text: &[u8]| {
        text.len() > wanted_bytes * 2 || text.iter().filter(|byte| **byte == b'\n').count() > wanted_lines
    };
    let (log, _) = log::last(attempt.log(), is_enough).ok()??;
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let (bytes, count) = LOG_TAIL;
    let text = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n");
    let tail: Vec<u8> = text.bytes().rev().take(bytes).collect();
    let tail: Vec<u8> = tail.into_iter().rev().collect();
    Some(String::from_utf8_lossy(&tail).into_owned())
}
