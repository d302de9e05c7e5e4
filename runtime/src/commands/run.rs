//! `run`: one image as a pod of one container.

use std::{io, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use flatpod::manifest::NAMESPACE;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{OwnContainerArgs, apply, attach, delete, find};
use crate::state::Root;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The pod's name
    name: String,
    /// The image
    #[arg(long)]
    image: String,
    /// The pod's namespace
    #[arg(long, short, default_value = NAMESPACE)]
    namespace: String,
    /// The pod's node [default: the one with the fewest pods]
    #[arg(long)]
    node: Option<String>,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Always")]
    restart: String,
    #[command(flatten)]
    own: OwnContainerArgs,
    /// Delete the pod after attaching to it
    #[arg(long)]
    rm: bool,
    /// Take what follows -- as the command, not as its arguments
    #[arg(long)]
    command: bool,
    /// Arguments
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs it.
pub(crate) fn run(root: &Root, args: &RunArgs) -> Result<ExitCode> {
    let attached = args.own.is_attached();
    if args.rm && !attached {
        bail!("--rm should only be used for attached containers: say -i or --attach as well");
    }
    let pod = pod(args);
    if !attached {
        return apply::run_pod(root, &pod, args.node.as_deref(), &mut io::stdout());
    }
    if root.find(&args.namespace, &args.name)?.is_some() {
        bail!("pods {:?} already exists", args.name);
    }
    let made = apply::run_pod(root, &pod, args.node.as_deref(), &mut io::sink())?;
    let Ok(found) = find(root, &args.namespace, &args.name) else {
        // What is wrong with it has been told.
        return Ok(made);
    };
    let ended = found.container(None).and_then(|container| attach::from_the_start(&found, &container));
    if args.rm {
        delete::delete(root, &[found], None, true)?;
    }
    ended
}

fn pod(args: &RunArgs) -> Pod {
    let line = (!args.args.is_empty()).then(|| args.args.clone());
    let (command, arguments) = if args.command { (line, None) } else { (None, line) };
    let container = Container {
        name: args.name.clone(),
        image: Some(args.image.clone()),
        command,
        args: arguments,
        env: Some(args.own.variables()),
        stdin: args.own.stdin.then_some(true),
        stdin_once: args.own.stdin.then_some(true),
        tty: args.own.tty.then_some(true),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        restart_policy: Some(args.restart.clone()),
        ..PodSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(args.name.clone()),
        namespace: Some(args.namespace.clone()),
        labels: Some([("run".to_owned(), args.name.clone())].into()),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}
