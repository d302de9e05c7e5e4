//! The plugin `loopback`, which containerd asks for beside the pod network: the binary under that name.
//!
//! It keeps no state and takes no address: the kernel gives `lo` its own when it goes up.

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Command, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::result;
use flatnet_core::execute::{clear, execute};
use flatnet_core::names::IfName;
use flatnet_core::step::{LinkChange, LinkRef, Ns, Step};
use flatnet_kernel::{NetlinkKernel, NetnsFd, facts};
use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::context;
use crate::verbs::add::open_sandbox;

/// The file name that makes the binary this plugin.
pub(crate) const NAME: &str = "loopback";

/// Whatever `CNI_IFNAME` says, the interface is `lo`.
fn lo() -> IfName {
    "lo".parse().expect("lo is an interface name")
}

fn set(up: bool) -> [Step; 1] {
    [Step::SetLink(LinkRef::pod(lo()), LinkChange { up: Some(up), ..LinkChange::default() })]
}

/// Serves one verb. GC and STATUS have nothing to do: there is no state and nothing to run out of.
pub(crate) fn run(command: Command, base: &Base, target: &Target) -> Result<Option<Value>, CniError> {
    match command {
        Command::Add => add(base, target).map(Some),
        Command::Check => check(target).map(|()| None),
        Command::Del => {
            del(target);
            Ok(None)
        }
        Command::Gc | Command::Status | Command::Version => Ok(None),
    }
}

fn enter(ns: NetnsFd) -> Result<NetlinkKernel, CniError> {
    let kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    kernel.with_pod(ns).map_err(|e| context::netns(&e))
}

/// `lo` as the kernel shows it: whether it is up, and its addresses.
fn seen(kernel: &mut NetlinkKernel) -> Result<(bool, Vec<IpNetwork>), CniError> {
    let failed = |e: std::io::Error| context::io("read lo on pod", &e);
    let pod = kernel.netlink(Ns::Pod).map_err(|e| context::kernel(&e))?;
    match facts::link(pod, &lo()).map_err(failed)? {
        Some(link) => Ok((link.up, facts::addresses(pod, &link).map_err(failed)?)),
        None => Err(CniError::new(Code::Kernel, "lo is not in the pod's namespace")),
    }
}

/// A chain's result so far is passed on unchanged (SPEC, section 2, ADD).
fn add(base: &Base, target: &Target) -> Result<Value, CniError> {
    let before = base.prev_result()?;
    let mut kernel = enter(open_sandbox(target)?)?;
    let plan = set(true);
    execute(&mut kernel, &plan).map_err(|e| context::exec(&plan, &e))?;
    if let Some(before) = before {
        return Ok(before.clone());
    }
    let (_, addresses) = seen(&mut kernel)?;
    Ok(result::loopback(base.version, &target.required_netns()?.display().to_string(), &addresses))
}

fn check(target: &Target) -> Result<(), CniError> {
    let (up, _) = seen(&mut enter(open_sandbox(target)?)?)?;
    if up { Ok(()) } else { Err(CniError::new(Code::Differs, "state of lo on pod: expected up, found down")) }
}

/// Best effort: the namespace, and `lo` with it, goes away anyway.
fn del(target: &Target) {
    if let Ok(mut kernel) = open_sandbox(target).and_then(enter) {
        drop(clear(&mut kernel, &set(false)));
    }
}
