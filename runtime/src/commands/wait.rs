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
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use super::{find, until::until};
use crate::{
    observed::observed,
    print::{Query, WrongTemplate},
    state::{PodDir, Root},
    supervisor,
};

/// What a negative time means, as for kubectl.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// For what.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Pods; or `pod NAME...`
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// condition=NAME, condition=NAME=False, jsonpath={.PATH}=VALUE, jsonpath={.PATH} for any value, or delete
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
    Condition {
        name: String,
        value: String,
    },
    /// That what is found has this value, or just that something is found.
    Value {
        path: Query,
        value: Option<String>,
    },
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Deleted);
        }
        if let Some(rest) = text.strip_prefix("jsonpath=") {
            return Self::value(rest).map_err(|error| error.to_string());
        }
        let wrong = || {
            "expected condition=NAME, condition=NAME=VALUE, jsonpath={.PATH}, jsonpath={.PATH}=VALUE or delete"
                .to_owned()
        };
        let condition = text.strip_prefix("condition=").ok_or_else(wrong)?;
        let (name, value) = condition.split_once('=').unwrap_or((condition, "True"));
        if name.is_empty() || value.is_empty() {
            return Err(wrong());
        }
        Ok(Self::Condition { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Goal {
    /// What follows `jsonpath=`; quotes that no shell has taken away do not count.
    fn value(text: &str) -> Result<Self, WrongTemplate> {
        let quotes = ['\'', '"'];
        let (path, rest) = Query::first(text.trim_start_matches(quotes))?;
        let rest = rest.trim_start_matches(quotes);
        let value = match rest.strip_prefix('=').map(|value| value.trim_matches(quotes)) {
            None if rest.is_empty() => None,
            Some(value) if !value.is_empty() => Some(value.to_owned()),
            _ => return Err(WrongTemplate::new(format!("{rest:?} follows a path: write {{.A.PATH}}=VALUE"))),
        };
        Ok(Self::Value { path, value })
    }

    fn is_met(&self, pod: &Pod) -> Result<bool> {
        match self {
            Self::Deleted => Ok(false),
            Self::Condition { name, value } => {
                let mut all = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let is_so = |one: &PodCondition| {
                    one.type_.eq_ignore_ascii_case(name) && one.status.eq_ignore_ascii_case(value)
                };
                Ok(all.any(is_so))
            }
            Self::Value { path, value } => {
                let found = path.find(&serde_json::to_value(pod).context("write the pod as JSON")?);
                match (value, &found[..]) {
                    (Some(_), [_, _, ..]) => bail!(
                        "the path finds several values ({}): write one that finds one",
                        found.join(", ")
                    ),
                    (Some(value), [one]) => Ok(one == value),
                    (Some(_), []) => Ok(false),
                    (None, found) => Ok(!found.is_empty()),
                }
            }
        }
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
        let ensure = || if dir.path().exists() { supervisor::ensure(root, dir) } else { Ok(()) };
        Ok(until(within, ensure, || self.look(root, dir, goal))?.is_some())
    }

    /// Whether it is so by now.
    fn look(&self, root: &Root, dir: &PodDir, goal: &Goal) -> Result<Option<()>> {
        if !dir.path().exists() {
            return match goal {
                Goal::Deleted => Ok(Some(())),
                _ => bail!("pods {:?} not found: it was deleted meanwhile", self.name),
            };
        }
        let pod = dir.manifest().ok().map(|pod| observed(root, dir, pod)).transpose()?.flatten();
        let met = pod.map(|pod| goal.is_met(&pod)).transpose()?;
        Ok((met == Some(true)).then_some(()))
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
        let valued = |text: &str| match goal(text) {
            Ok(Goal::Value { value, .. }) => value,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(valued("jsonpath={.status.phase}=Running").as_deref(), Some("Running"));
        assert_eq!(valued("jsonpath='{.status.phase}'='Running'").as_deref(), Some("Running"));
        assert_eq!(valued("jsonpath={.a[?(@.b==\"c=}\")].d}=a=b}").as_deref(), Some("a=b}"));
        assert_eq!(valued("jsonpath={.status.podIP}"), None);
        for wrong in [
            "",
            "Ready",
            "condition=",
            "condition=Ready=",
            "jsonpath={.a",
            "jsonpath={.a}=",
            "jsonpath={.a}b",
        ] {
            assert!(goal(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!((duration("0"), duration("0s")), (Ok(Duration::ZERO), Ok(Duration::ZERO)));
        assert_eq!(duration("-1s"), Ok(WEEK));
        assert!(duration("soon").is_err());
    }
}
