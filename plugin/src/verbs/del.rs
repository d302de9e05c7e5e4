//! DEL: needs neither the namespace, nor the configuration of the ADD, nor an agent. Every part is
//! tried whatever happened to the others; the address goes last but always.

use std::io::Write;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Env, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::execute::clear;
use flatnet_core::hostport::{Flows, Holding};
use flatnet_core::kernel::{Kernel as _, KernelError};
use flatnet_core::link::AttachmentIds;
use flatnet_core::step::Step;
use flatnet_core::{attach, beside};
use flatnet_kernel::{NetlinkKernel, attachment};
use flatnet_node_state::{StateDir, StateError};

use crate::context;
use crate::ipam::Ipam;

pub(crate) fn run(
    base: &Base,
    target: &Target,
    env: Env<'_>,
    stderr: &mut dyn Write,
) -> Result<(), CniError> {
    let state = StateDir::new(&base.state_dir);
    let ids = AttachmentIds::of(&target.container, &target.ifname);
    let recorded = state.attachments().get(&ids.host_if).ok().flatten().and_then(|record| record.ipam);
    let ipam = Ipam::to_release(base, recorded.as_ref(), env);
    remove(&state, &ids, &|| ipam.as_ref().map_or(Ok(()), |ipam| ipam.forward("DEL")), stderr)
}

/// Gives addresses back to a third-party IPAM plugin, if one gave them.
pub(super) type GiveBack<'a> = &'a dyn Fn() -> Result<(), CniError>;

/// Removes one attachment. Only what a retry can mend is an error: the link or the host ports could not
/// be deleted, or the IPAM plugin failed. Then the record stays, to be found by the retry.
pub(super) fn remove(
    state: &StateDir,
    ids: &AttachmentIds,
    give_back: GiveBack<'_>,
    stderr: &mut dyn Write,
) -> Result<(), CniError> {
    let mut kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    leave_pod(state, ids, stderr);
    let ports = ports_plan(state, ids);
    // Each of both waits for the kernel's grace periods: side by side.
    let left: Vec<KernelError> = std::thread::scope(|scope| {
        let beside = scope.spawn(|| clear_ports(&ports));
        let mut left = clear(&mut kernel, &attach::plan_del(ids));
        left.extend(beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        left
    });
    if let Some(e) = left.first() {
        // The address stays with the link: it must not go to another pod while this one has it.
        return Err(context::kernel(e));
    }
    give_back()?;
    let failures = forget(state, ids);
    for e in &failures {
        // stderr is for people; when even that is gone there is nobody to tell.
        let _ = writeln!(stderr, "flatnet: DEL {}: {e}", ids.host_if);
    }
    if failures.is_empty() && leads_ports(&ports) {
        // An agent that had read the record before may have put back what was removed above. Whoever comes
        // with it only now finds the record gone, and takes it back itself.
        if let Some(e) = clear_ports(&[Step::DropHostPorts(Holding::Of(ids.host_if.clone()))]).first() {
            return Err(context::kernel(e));
        }
    }
    match failures.iter().find(|e| matches!(e, StateError::Locked { .. })) {
        Some(e) => Err(CniError::new(Code::TryAgain, e)),
        None => Ok(()),
    }
}

/// A pod that lives on without this interface: what does not go with the link is taken out of it, if its
/// namespace is still to be found.
fn leave_pod(state: &StateDir, ids: &AttachmentIds, stderr: &mut dyn Write) {
    let Ok(Some(record)) = state.attachments().get(&ids.host_if) else { return };
    let plan = beside::plan_leave(&record);
    let Some(ns) = (!plan.is_empty()).then(|| attachment::namespace(&record)).flatten() else { return };
    let kernel = NetlinkKernel::open_node().ok().and_then(|kernel| kernel.with_pod(ns).ok());
    for e in kernel.map_or(Vec::new(), |mut kernel| clear(&mut kernel, &plan)) {
        // stderr is for people; when even that is gone there is nobody to tell.
        let _ = writeln!(stderr, "flatnet: DEL {}: {e}", ids.host_if);
    }
}

/// What DEL takes away besides the link: the host ports, first, and then the tracked connections, which
/// nothing leads to the pod any more. A record that is missing or damaged does not tell of either.
fn ports_plan(state: &StateDir, ids: &AttachmentIds) -> Vec<Step> {
    let attachments = state.attachments();
    let ports = Step::DropHostPorts(Holding::Of(ids.host_if.clone()));
    match attachments.get(&ids.host_if) {
        Ok(Some(record)) => {
            let flows = Step::ForgetFlows(record.addresses.iter().copied().map(Flows::OfPod).collect());
            let has_ports = !record.host_ports.is_empty() || attachments.was_begun(&ids.host_if);
            if has_ports { vec![ports, flows] } else { vec![flows] }
        }
        Ok(None) | Err(_) => vec![ports],
    }
}

fn leads_ports(plan: &[Step]) -> bool {
    plan.iter().any(|step| matches!(step, Step::DropHostPorts(_)))
}

/// What matters of `plan` if it fails: a retry cannot mend that a connection was not forgotten.
fn clear_ports(plan: &[Step]) -> Vec<KernelError> {
    let mut kernel = match NetlinkKernel::open_node() {
        Ok(kernel) => kernel,
        Err(e) => return vec![KernelError::from_io("open netlink", &e)],
    };
    let results = kernel.apply(plan).into_iter().zip(plan);
    results
        .filter(|(_, step)| !matches!(step, Step::ForgetFlows(_)))
        .filter_map(|(result, _)| result.err())
        .collect()
}

/// Frees the addresses and drops the record.
fn forget(state: &StateDir, ids: &AttachmentIds) -> Vec<StateError> {
    let attachments = state.attachments();
    let (mut failures, damaged) = free(state, ids);
    if !failures.is_empty() {
        failures.extend(damaged);
        return failures;
    }
    match damaged {
        Some(e) => {
            failures.push(e);
            failures.extend(attachments.set_aside(&ids.host_if).err());
        }
        None => failures.extend(attachments.remove(&ids.host_if).err()),
    }
    failures
}

/// Frees the addresses; what could not be freed, and what is wrong with the record. A record that is
/// damaged, or was being written when its writer died, need not name them all: the owner's tag in the pool
/// finds them without it.
pub(super) fn free(state: &StateDir, ids: &AttachmentIds) -> (Vec<StateError>, Option<StateError>) {
    let attachments = state.attachments();
    let (hints, damaged) = match attachments.get(&ids.host_if) {
        Ok(Some(record)) if !attachments.was_begun(&ids.host_if) => (record.addresses, None),
        Ok(_) => (Vec::new(), None),
        Err(e) => (Vec::new(), Some(e)),
    };
    (state.addresses().release(ids.owner, &hints), damaged)
}
