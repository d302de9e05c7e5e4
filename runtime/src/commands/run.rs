//! `run`: one image as a pod of one container.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use flatpod::manifest::NAMESPACE;
use k8s_openapi::{
    api::core::v1::{Container, EnvVar, Pod, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::apply;
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
    /// Variables, as NAME=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// Take what follows -- as the command, not as its arguments
    #[arg(long)]
    command: bool,
    /// Arguments
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs it.
pub(crate) fn run(root: &Root, args: &RunArgs) -> Result<ExitCode> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        EnvVar { name: name.to_owned(), value: Some(value.to_owned()), ..EnvVar::default() }
    };
    let line = (!args.args.is_empty()).then(|| args.args.clone());
    let (command, arguments) = if args.command { (line, None) } else { (None, line) };
    let container = Container {
        name: args.name.clone(),
        image: Some(args.image.clone()),
        command,
        args: arguments,
        env: Some(args.env.iter().map(split).collect()),
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
    apply::run_pod(root, &Pod { metadata, spec: Some(spec), status: None }, args.node.as_deref())
}
