//! Host ports: whether the node can lead them to the pod, and what of others is in the way.

use std::net::IpAddr;

use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::hostport::{Held, Holding, HostPort, PodPorts, Protocol};
use flatnet_core::names::IfName;
use flatnet_core::node::Attachment;
use flatnet_core::step::{Ns, Step};
use flatnet_kernel::{NetlinkKernel, facts, nat, sysctl};
use flatnet_node_state::StateDir;

use crate::context;

/// How often ADD looks anew who has its ports. The agent may put back what DEL has just removed, and takes
/// it away when it looks again.
pub(crate) const ATTEMPTS: usize = 10;

/// Refuses what the pod or the kernel has no means for.
pub(crate) fn refuse_impossible(ports: &[HostPort], addresses: &[IpAddr]) -> Result<(), CniError> {
    if let Some(port) = ports.iter().find(|port| !port.fits(addresses)) {
        let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let what = format!("runtimeConfig.portMappings {port}: the pod has no address of that family");
        return Err(CniError::new(Code::InvalidConfig, what).with(format!("it has {}", ips.join(", "))));
    }
    let tracking = |what: &str| sysctl::read(&format!("net/netfilter/nf_conntrack_{what}")).is_ok();
    let sctp = ports.iter().find(|port| port.protocol == Protocol::Sctp);
    match sctp {
        // Where nothing is tracked yet the kernel does not say.
        Some(port) if tracking("max") && !tracking("sctp_timeout_established") => {
            let what = format!("runtimeConfig.portMappings {port}: the kernel does not track SCTP");
            Err(CniError::new(Code::UnsupportedField, what).with("it needs CONFIG_NF_CT_PROTO_SCTP"))
        }
        _ => Ok(()),
    }
}

/// Steps that clear the way for the host ports of `attachment`: what a pod that is gone left there.
///
/// # Errors
/// A pod that is not gone holds one.
pub(crate) fn clear_the_way(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    attachment: &Attachment,
) -> Result<Vec<Step>, CniError> {
    let Some(asked) = PodPorts::of(attachment) else { return Ok(Vec::new()) };
    let mut left = Vec::new();
    for held in nat::conflicts(&asked).map_err(|e| context::io("look for the host ports", &e))? {
        if held.holder().is_some_and(|holder| lives(kernel, state, &holder)) {
            return Err(conflict(&held));
        }
        left.push((held.element, held.comment));
    }
    Ok(if left.is_empty() { Vec::new() } else { vec![Step::DropHostPorts(Holding::These(left))] })
}

/// Whether there is a record of the pod with this host end, whatever is in it, or the interface itself.
/// When in doubt the answer is yes.
pub(crate) fn lives(kernel: &mut NetlinkKernel, state: &StateDir, holder: &IfName) -> bool {
    let attachments = state.attachments();
    if attachments.was_begun(holder) || !matches!(attachments.get(holder), Ok(None)) {
        return true;
    }
    match kernel.netlink(Ns::Node) {
        Ok(node) => !matches!(facts::link(node, holder), Ok(None)),
        Err(_) => true,
    }
}

fn conflict(held: &Held) -> CniError {
    CniError::new(
        Code::Conflict,
        format!("runtimeConfig.portMappings: {} is held by {}", held.element, held.holder_text()),
    )
    .with("another pod of this node has that host port: remove it, or choose another port")
}
