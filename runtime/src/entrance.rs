//! Starting a program on a node: in the node's network namespace, with what it sees there.
//!
//! A simulated node's programs get a mount namespace of their own with a `/sys` that shows the node's
//! interfaces, and the node's own `/var/lib/cni`. What a program mounts there is gone with it.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
};

use crate::{ourselves, state::NodeRecord};

/// Where CNI plugins keep state by convention.
const VAR_LIB_CNI: &str = "/var/lib/cni";

/// How to enter.
#[derive(Debug, Args)]
pub(crate) struct EnterArgs {
    /// The network namespace
    #[arg(long)]
    net: PathBuf,
    /// What is to be seen at /var/lib/cni
    #[arg(long)]
    var_lib_cni: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// A command that runs `program` on `node`.
#[expect(clippy::disallowed_methods, reason = "plugins and agents are programs")]
pub(crate) fn command(node: &NodeRecord, program: &Path) -> Result<Command> {
    let Some(net) = &node.netns else {
        return Ok(Command::new(program));
    };
    let mut command = ourselves::command();
    command.arg("enter").arg("--net").arg(net);
    if let Some(dir) = &node.var_lib_cni {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        command.arg("--var-lib-cni").arg(dir);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// Enters, and becomes the program.
#[expect(clippy::disallowed_methods, reason = "this is the module that enters a node")]
pub(crate) fn enter(args: &EnterArgs) -> Result<ExitCode> {
    let at = || format!("enter {}", args.net.display());
    nix::sched::setns(File::open(&args.net).with_context(at)?, CloneFlags::CLONE_NEWNET).with_context(at)?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cut off the mounts")?;
    // The old one shows the interfaces of the namespace that it was mounted in.
    umount2("/sys", MntFlags::MNT_DETACH).context("unmount /sys")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).context("mount /sys")?;
    if let Some(dir) = &args.var_lib_cni {
        fs::create_dir_all(VAR_LIB_CNI).with_context(|| format!("create {VAR_LIB_CNI}"))?;
        mount(Some(dir), VAR_LIB_CNI, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mount {} at {VAR_LIB_CNI}", dir.display()))?;
    }
    let (program, rest) = args.program.split_first().context("no program")?;
    let error = Command::new(program).args(rest).exec();
    Err(anyhow!(error)).with_context(|| format!("start {}", program.to_string_lossy()))
}
