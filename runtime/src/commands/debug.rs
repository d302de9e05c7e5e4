//! `debug`: an ephemeral container in a pod that runs.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use flatpod::manifest::dns_label;
use k8s_openapi::api::core::v1::{
    Capabilities, EphemeralContainer, Pod, PodSpec, SeccompProfile, SecurityContext,
};

use super::{Found, OwnContainerArgs, attach, find};
use crate::{
    admission::generated_name,
    container::{TERMINATION_LOG, ephemeral},
    image::{HOST, Store, TOOLS},
    state::Root,
    supervisor,
};

/// What to look with, and at what.
#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    /// The pod
    pod: String,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// The image of the new container
    #[arg(long, default_value = TOOLS)]
    image: String,
    /// The container whose processes it sees
    #[arg(long, value_name = "CONTAINER")]
    target: Option<String>,
    /// The name of the new container [default: debugger- and five letters]
    #[arg(long, short)]
    container: Option<String>,
    #[command(flatten)]
    own: OwnContainerArgs,
    /// What it may do: general can look into processes of other users, netadmin change the pod's network, sysadmin
    /// everything, restricted nothing that needs a right
    #[arg(long, value_enum, default_value_t = Profile::General)]
    profile: Profile,
    /// The command [default: the image's]
    #[arg(last = true)]
    command: Vec<String>,
}

/// Sets of rights, as kubectl names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    General,
    Restricted,
    Netadmin,
    Sysadmin,
}

impl Profile {
    fn security_context(self) -> SecurityContext {
        let list = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let adding = |names| Capabilities { add: list(names), drop: None };
        let none = SecurityContext::default();
        match self {
            Self::General => SecurityContext { capabilities: Some(adding(&["SYS_PTRACE"])), ..none },
            Self::Netadmin => {
                SecurityContext { capabilities: Some(adding(&["NET_ADMIN", "NET_RAW"])), ..none }
            }
            Self::Sysadmin => SecurityContext { privileged: Some(true), ..none },
            Self::Restricted => SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities { add: None, drop: list(&["ALL"]) }),
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..none
            },
        }
    }
}

/// Adds the container.
pub(crate) fn run(root: &Root, args: &DebugArgs) -> Result<ExitCode> {
    let found = find(root, &args.namespace.namespace, &args.pod)?;
    refuse_what_is_over(&found, &args.pod)?;
    if args.image == TOOLS && args.command.is_empty() {
        bail!(
            "{TOOLS} has no shell: name one of its programs after -- (ns, env, cat FILE, connect IP:PORT, netexec, \
             ...), or an image that has one: --image {HOST}"
        );
    }
    // What is not there can only be waited for.
    Store::new(root.images()).find(&args.image)?;
    let name = match &args.container {
        Some(name) => name.clone(),
        None => {
            let name = generated_name("debugger-")?;
            writeln!(io::stderr(), "Defaulting debug container name to {name}.")
                .context("write to stderr")?;
            name
        }
    };
    if let Some(target) = &args.target {
        writeln!(io::stderr(), "Targeting container {target:?}.").context("write to stderr")?;
    }
    let pod = found.dir.change_manifest(|pod| add(pod, args, &name))?;
    supervisor::ensure(root, &found.dir)?;
    if !args.own.is_attached() {
        return Ok(ExitCode::SUCCESS);
    }
    let found = Found { pod, ..found };
    attach::from_the_start(&found, &found.container(Some(&name))?)
}

fn refuse_what_is_over(found: &Found, name: &str) -> Result<()> {
    if let Some(phase) = found.last_phase()? {
        bail!("cannot add a container to a completed pod; current phase of {name} is {phase}");
    }
    if found.dir.deletion()?.is_some() {
        bail!("cannot add a container to pod {name}: it is being deleted");
    }
    Ok(())
}

/// Adds the container to the pod's manifest, if it fits there.
fn add(pod: &mut Pod, args: &DebugArgs, name: &str) -> Result<()> {
    if let Err(why) = dns_label(name) {
        bail!("--container: Invalid value: {name:?}: {why}");
    }
    let spec = pod.spec.get_or_insert_default();
    let own = own_names(spec);
    let all: Vec<&str> = own.iter().copied().chain(ephemeral(spec).map(|one| one.name.as_str())).collect();
    if all.contains(&name) {
        bail!("--container: Duplicate value: {name:?}; pod {} has: {}", args.pod, all.join(", "));
    }
    if let Some(target) = args.target.as_deref().filter(|target| !own.contains(target)) {
        bail!("--target: Not found: {target:?}; pod {} has: {}", args.pod, own.join(", "));
    }
    spec.ephemeral_containers.get_or_insert_default().push(container(args, name));
    Ok(())
}

/// The names of the containers that the pod was made with.
fn own_names(spec: &PodSpec) -> Vec<&str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.map(|one| one.name.as_str()).collect()
}

fn container(args: &DebugArgs, name: &str) -> EphemeralContainer {
    EphemeralContainer {
        name: name.to_owned(),
        image: Some(args.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(args.command.clone()).filter(|command| !command.is_empty()),
        env: Some(args.own.variables()).filter(|all| !all.is_empty()),
        target_container_name: args.target.clone(),
        stdin: args.own.stdin.then_some(true),
        tty: args.own.tty.then_some(true),
        security_context: Some(args.profile.security_context()),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..EphemeralContainer::default()
    }
}
