//! `rollout`: from one version of a template to the next.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use flatpod::workload::{Kind, Rollout, rollout};
use jiff::Timestamp;

use super::{find, named};
use crate::{
    commands::{NamespaceArg, node::say, until::until},
    controller,
    state::Root,
};

/// Where a template says when it was restarted: another time is another version.
pub(super) const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// For a roll-out, unless the user says otherwise: as long as it takes.
const FOREVER: u64 = u32::MAX as u64;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Wait until a workload is as its manifest says, and tell how far it is
    #[command(after_help = "Examples:\n  flatpod rollout status deployment/web --timeout 60")]
    Status(StatusArgs),
    /// Replace all pods of a workload, by its update strategy
    #[command(after_help = "Examples:\n  flatpod rollout restart deployment/web")]
    Restart(RestartArgs),
}

/// Which to look at.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The workload, as KIND/NAME, or as KIND NAME
    #[arg(required = true)]
    workload: Vec<String>,
    /// Whether to wait until it is done
    #[arg(long, short, default_value_t = true, action = clap::ArgAction::Set)]
    watch: bool,
    /// How many seconds to wait [default: as long as it takes]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

/// Which to restart.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Workloads, as KIND/NAME, or as KIND NAME...
    #[arg(required = true)]
    workloads: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

/// Does it.
pub(crate) fn run(root: &Root, verb: &RolloutVerb) -> Result<ExitCode> {
    match verb {
        RolloutVerb::Status(args) => {
            for (kind, name) in named(&args.workload)? {
                status(root, args, (kind, &name))?;
            }
        }
        RolloutVerb::Restart(args) => {
            for (kind, name) in named(&args.workloads)? {
                restart(root, &args.namespace.namespace, kind, &name)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(root: &Root, args: &StatusArgs, (kind, name): (Kind, &str)) -> Result<()> {
    let mut last = String::new();
    let patience = Duration::from_secs(args.timeout.unwrap_or(FOREVER));
    let look = || -> Result<Option<()>> {
        let found = find(root, kind, &args.namespace.namespace, name)?;
        let (text, done) = match rollout(&found.workload, &found.status) {
            Rollout::Waiting(text) => (text, None),
            Rollout::Done(text) => (text, Some(())),
            Rollout::None(text) => bail!("{text}"),
        };
        if text != last {
            say(&text)?;
            last = text;
        }
        Ok(done.or((!args.watch).then_some(())))
    };
    let done = until(patience, || controller::ensure(root), look)?;
    done.with_context(|| {
        format!("the roll-out of {}/{name} is not done within {patience:?}", kind.resource())
    })
}

fn restart(root: &Root, namespace: &str, kind: Kind, name: &str) -> Result<()> {
    if !matches!(kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet) {
        bail!("{}.{name}: restarting is not supported", kind.resource());
    }
    let store = root.workloads();
    let _nobody_else = store.lock()?;
    let mut workload = find(root, kind, namespace, name)?.workload;
    if let Some(template) = workload.template_mut() {
        let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.insert(RESTARTED_AT.to_owned(), Timestamp::now().to_string());
    }
    workload.metadata.generation = workload.metadata.generation.map(|number| number + 1);
    store.put(&workload)?;
    say(&format!("{workload} restarted"))
}
