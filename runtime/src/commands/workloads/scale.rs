//! `scale`: how many pods a workload has.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{find, named};
use crate::{
    commands::{NamespaceArg, node::say},
    state::Root,
};

/// What to scale.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Workloads, as KIND/NAME, or as KIND NAME...
    #[arg(required = true)]
    workloads: Vec<String>,
    /// How many pods each shall have
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    replicas: i32,
    #[command(flatten)]
    namespace: NamespaceArg,
}

/// Scales it.
pub(crate) fn run(root: &Root, args: &ScaleArgs) -> Result<ExitCode> {
    let store = root.workloads();
    for (kind, name) in named(&args.workloads)? {
        let _nobody_else = store.lock()?;
        let mut workload = find(root, kind, &args.namespace.namespace, &name)?.workload;
        let told = workload.to_string();
        let Some(replicas) = workload.replicas_mut() else {
            bail!("{told} has no replicas: its pods follow from nodes or from work");
        };
        if *replicas != Some(args.replicas) {
            *replicas = Some(args.replicas);
            let generation = workload.metadata.generation.context("a workload has a generation")?;
            workload.metadata.generation = Some(generation + 1);
            store.put(&workload)?;
        }
        say(&format!("{told} scaled"))?;
    }
    Ok(ExitCode::SUCCESS)
}
