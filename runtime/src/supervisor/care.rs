//! Looking after running containers: hooks, probes, and what comes of their answers (the kubelet's `prober` and
//! `kuberuntime`).

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

use super::{
    Supervisor,
    decide::{FLOOR, State, containers},
    question::{Handler, Question},
};

/// What probes mean unless they say otherwise: seconds, and answers in a row.
const PERIOD: i32 = 10;
const TIMEOUT: i32 = 1;
const FAILURES: i32 = 3;
/// A hook at the start of a container may take its time.
const POST_START: SignedDuration = SignedDuration::from_secs(3600);

/// What is known from one run's hooks and probes.
#[derive(Debug, Default)]
pub(super) struct Care {
    post_start: Hook,
    pre_stop: Hook,
    startup: Prober,
    liveness: Prober,
    readiness: Prober,
    /// Something about it is wrong: it is ended by then, and restarted by policy.
    pub(super) stop_by: Option<Timestamp>,
}

#[derive(Debug, Default)]
enum Hook {
    #[default]
    Due,
    Asked(Question),
    Done,
}

#[derive(Debug, Default)]
struct Prober {
    question: Option<Question>,
    next_at: Option<Timestamp>,
    failures: i32,
    successes: i32,
    /// What the answers come to.
    pub(super) good: bool,
}

impl Care {
    /// Whether it is to get traffic.
    pub(super) fn is_ready(&self, container: &Container) -> bool {
        container.readiness_probe.is_none() || self.readiness.good
    }
}

impl Supervisor {
    /// Looks after every running container.
    pub(super) fn care_for_all(&mut self) -> Result<()> {
        let all: Vec<Container> = containers(self.spec()).cloned().collect();
        for container in &all {
            let Some(run) = self.runs.get_mut(&container.name) else { continue };
            let (State::Active { .. }, Some(started)) = (&run.state, &run.started) else { continue };
            let started_at = started.started_at;
            let mut care = std::mem::take(&mut run.care);
            let ready = self.care_for(container, &mut care, started_at);
            let stop_by = care.stop_by;
            let run = self.runs.get_mut(&container.name).context("every container has a run")?;
            run.care = care;
            run.state = State::Active { started: ready? };
            if let Some(deadline) = stop_by.filter(|_| self.end.is_none()) {
                self.wind_down(container, deadline)?;
            }
        }
        Ok(())
    }

    /// Answers whether the next container may count on this one.
    fn care_for(&self, container: &Container, care: &mut Care, started_at: Timestamp) -> Result<bool> {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        if let Some(hook) = hook {
            let answer =
                care.post_start.step(|| self.question(container, Handler::of_hook(hook)?, POST_START))?;
            match answer {
                None => return Ok(false),
                Some(Ok(())) => {}
                Some(Err(wrong)) => {
                    self.events.warning("FailedPostStartHook", &format!("PostStartHook failed: {wrong}"));
                    self.condemn(care, None);
                }
            }
        }
        if care.stop_by.is_some() || self.end.is_some() {
            return Ok(true);
        }
        let step = |prober: &mut Prober, kind: &str, probe: &Probe| -> Result<Option<bool>> {
            let within = seconds(probe.timeout_seconds, TIMEOUT);
            let (verdict, wrong) = prober
                .step(probe, started_at, || self.question(container, Handler::of_probe(probe)?, within))?;
            if let Some(wrong) = wrong {
                self.events.warning("Unhealthy", &format!("{kind} probe failed: {wrong}"));
            }
            Ok(verdict)
        };
        if let Some(probe) = container.startup_probe.as_ref().filter(|_| !care.startup.good) {
            if step(&mut care.startup, "Startup", probe)? == Some(false) {
                self.condemn(care, probe.termination_grace_period_seconds);
            }
            return Ok(care.startup.good);
        }
        if let Some(probe) = &container.readiness_probe {
            step(&mut care.readiness, "Readiness", probe)?;
        }
        if let Some(probe) = &container.liveness_probe
            && step(&mut care.liveness, "Liveness", probe)? == Some(false)
        {
            self.condemn(care, probe.termination_grace_period_seconds);
        }
        Ok(true)
    }

    /// It shall be ended and started again, as the policy says.
    fn condemn(&self, care: &mut Care, grace: Option<i64>) {
        let grace = grace.map_or_else(|| self.spec_grace(), SignedDuration::from_secs);
        care.stop_by = Timestamp::now().checked_add(grace).ok();
    }

    /// Asks one container to end, and kills it when its time is up.
    fn wind_down(&mut self, container: &Container, deadline: Timestamp) -> Result<()> {
        self.ask(&container.name, deadline)?;
        let run = self.runs.get_mut(&container.name).context("every container has a run")?;
        match run.asked_at {
            Some(asked_at) if Timestamp::now() >= deadline.max(asked_at + FLOOR) => run.kill(),
            _ => Ok(()),
        }
    }

    /// Asks a container to end: its hook first, then the signal. Safe to repeat, and repeated until it was sent.
    pub(super) fn ask(&mut self, name: &str, deadline: Timestamp) -> Result<()> {
        let container = self.container(name)?;
        let run = self.runs.get_mut(name).context("every container has a run")?;
        if run.started.is_none() || run.asked_at.is_some() {
            return Ok(());
        }
        let mut hook = std::mem::take(&mut run.care.pre_stop);
        if matches!(hook, Hook::Due) {
            self.events.normal("Killing", &format!("Stopping container {name}"));
        }
        let left = deadline.duration_since(Timestamp::now());
        let wanted = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let answer = match wanted.filter(|_| left.is_positive() || matches!(hook, Hook::Asked(_))) {
            Some(wanted) => hook.step(|| self.question(&container, Handler::of_hook(wanted)?, left))?,
            None => Some(Ok(())),
        };
        if let Some(Err(wrong)) = &answer {
            self.events.warning("FailedPreStopHook", &format!("PreStopHook failed: {wrong}"));
        }
        let run = self.runs.get_mut(name).context("every container has a run")?;
        run.care.pre_stop = hook;
        if answer.is_some() { run.ask() } else { Ok(()) }
    }
}

impl Hook {
    /// The answer, once; nothing while there is none.
    fn step(&mut self, ask: impl FnOnce() -> Result<Question>) -> Result<Option<Result<(), String>>> {
        if matches!(self, Self::Due) {
            match ask() {
                Ok(question) => *self = Self::Asked(question),
                Err(error) => {
                    *self = Self::Done;
                    return Ok(Some(Err(format!("{error:#}"))));
                }
            }
        }
        let Self::Asked(question) = self else {
            return Ok(Some(Ok(())));
        };
        let answer = question.answer()?;
        if answer.is_some() {
            *self = Self::Done;
        }
        Ok(answer)
    }
}

impl Prober {
    /// What the answers have just come to, if anything, and what was wrong with the last one.
    fn step(
        &mut self,
        probe: &Probe,
        started_at: Timestamp,
        ask: impl FnOnce() -> Result<Question>,
    ) -> Result<(Option<bool>, Option<String>)> {
        let now = Timestamp::now();
        let answer = match &mut self.question {
            Some(question) => question.answer()?,
            None if now < self.next_at.unwrap_or(started_at + seconds(probe.initial_delay_seconds, 0)) => {
                None
            }
            None => {
                self.next_at = Some(now + seconds(probe.period_seconds, PERIOD));
                match ask() {
                    Ok(question) => {
                        self.question = Some(question);
                        None
                    }
                    // What cannot be asked is not answered well.
                    Err(error) => Some(Err(format!("{error:#}"))),
                }
            }
        };
        let Some(answer) = answer else {
            return Ok((None, None));
        };
        self.question = None;
        let (row, needed) = match answer {
            Ok(()) => {
                self.failures = 0;
                self.successes += 1;
                (self.successes, probe.success_threshold.unwrap_or(1))
            }
            Err(_) => {
                self.successes = 0;
                self.failures += 1;
                (self.failures, probe.failure_threshold.unwrap_or(FAILURES))
            }
        };
        let verdict = (row >= needed).then_some(answer.is_ok());
        self.good = verdict.unwrap_or(self.good);
        Ok((verdict, answer.err()))
    }
}

fn seconds(wanted: Option<i32>, default: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(wanted.filter(|wanted| *wanted > 0).unwrap_or(default)))
}
