//! `wait`: until pods are as they should be.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodStatus;
use netns_fixtures::wait_until;

use super::find;
use crate::{
    state::{PodDir, Root},
    supervisor,
};

/// What a negative time means, as for kubectl.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of so many looks, one is whether the pod has a supervisor.
const LOOKS: u32 = 100;

/// For what.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Pods; or `pod NAME...`
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// condition=NAME, condition=NAME=False, or delete
    #[arg(long = "for", value_name = "WHAT")]
    goal: Goal,
    /// How long, for all of them together: 30s, 2m, 0 to look once, -1s for a week
    #[arg(long, default_value = "30s", value_parser = duration, allow_hyphen_values = true)]
    timeout: Duration,
}

/// How a pod should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Goal {
    Deleted,
    Condition { name: String, value: String },
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Deleted);
        }
        let wrong = || "expected condition=NAME, condition=NAME=VALUE or delete".to_owned();
        let condition = text.strip_prefix("condition=").ok_or_else(wrong)?;
        let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
        if name.is_empty() || value.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Condition { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Goal {
    fn is_met(&self, status: &PodStatus) -> bool {
        let Self::Condition { name, value } = self else { return false };
        let mut all = status.conditions.iter().flatten();
        all.any(|one| one.type_.eq_ignore_ascii_case(name) && one.status.eq_ignore_ascii_case(value))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let found: SignedDuration = text.parse().map_err(|_| "expected a time as 30s or 1m30s".to_owned())?;
    Ok(Duration::try_from(found).unwrap_or(WEEK))
}

/// A pod that is waited for.
struct Waited<'a> {
    name: &'a str,
    /// Nothing for a pod that is not there.
    dir: Option<PodDir>,
}

/// As kubectl names it when it is waited for.
impl fmt::Display for Waited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Waits for all of them; 1 when one was not in time.
pub(crate) fn run(root: &Root, args: &WaitArgs) -> Result<ExitCode> {
    let names = super::pod_names(&args.names);
    if names.is_empty() {
        bail!("name the pods to wait for");
    }
    let namespace = &args.namespace.namespace;
    let one = |name: &'_ String| -> Result<PodDir> { Ok(find(root, namespace, name)?.dir) };
    let mut all = vec![];
    for name in names {
        let dir = match one(name) {
            Ok(dir) => Some(dir),
            // It is as it should be.
            Err(_) if args.goal == Goal::Deleted => None,
            Err(error) => return Err(error),
        };
        all.push(Waited { name: name.strip_prefix("pod/").unwrap_or(name), dir });
    }
    let until = Instant::now().checked_add(args.timeout).context("--timeout is too long")?;
    let mut in_time = true;
    for pod in &all {
        if pod.reaches(root, &args.goal, until.saturating_duration_since(Instant::now()))? {
            writeln!(io::stdout(), "pod/{pod} condition met").context("write to stdout")?;
        } else {
            writeln!(io::stderr(), "error: timed out waiting for the condition on pods/{pod}")
                .context("write to stderr")?;
            in_time = false;
        }
    }
    Ok(if in_time { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Waited<'_> {
    fn reaches(&self, root: &Root, goal: &Goal, within: Duration) -> Result<bool> {
        let Some(dir) = &self.dir else { return Ok(true) };
        let mut looks = 0_u32;
        let seen = wait_until("the condition", within, || {
            looks += 1;
            self.look(root, dir, goal, looks.is_multiple_of(LOOKS)).transpose()
        });
        seen.map_or(Ok(false), |met| met.map(|()| true))
    }

    /// Whether it is so by now; makes sure of a supervisor now and then.
    fn look(&self, root: &Root, dir: &PodDir, goal: &Goal, ensures: bool) -> Result<Option<()>> {
        if !dir.path().exists() {
            return match goal {
                Goal::Deleted => Ok(Some(())),
                Goal::Condition { .. } => bail!("pods {:?} not found: it was deleted meanwhile", self.name),
            };
        }
        if ensures {
            supervisor::ensure(root, dir)?;
        }
        Ok(goal.is_met(&dir.status()?.unwrap_or_default()).then_some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_and_times_as_kubectl_takes_them() {
        let goal = |text: &str| text.parse::<Goal>();
        let ready = |value: &str| Goal::Condition { name: "Ready".to_owned(), value: value.to_owned() };
        assert_eq!(goal("condition=Ready"), Ok(ready("True")));
        assert_eq!(goal("condition=Ready=false"), Ok(ready("false")));
        assert_eq!(goal("delete"), Ok(Goal::Deleted));
        for wrong in ["", "Ready", "condition=", "condition=Ready="] {
            assert!(goal(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!((duration("0"), duration("0s")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        assert_eq!(duration("-1s"), Ok(WEEK));
        assert!(duration("soon").is_err());
    }
}
