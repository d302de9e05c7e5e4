//! The host ports of this node's pods, kept as the plugin's records say.

use std::collections::BTreeMap;

use flatnet_core::hostport::heal;
use flatnet_core::kernel::KernelError;
use flatnet_core::names::IfName;
use flatnet_core::step::{Ns, Step};
use flatnet_kernel::{NetlinkKernel, facts, nat};
use flatnet_node_state::StateDir;

/// What is to be put right. The kernel is read first: whoever added an element has written its record
/// before, so what is seen without one is of a pod that is gone.
///
/// # Errors
/// The maps cannot be read.
pub(crate) fn steps(kernel: &mut NetlinkKernel, state: &StateDir) -> Result<Vec<Step>, KernelError> {
    // A kernel without nf_tables has no maps; that they cannot be made is what the steps will say.
    let seen = match nat::elements() {
        Ok(seen) => seen,
        Err(e) if e.raw_os_error() == Some(EPROTONOSUPPORT) => Vec::new(),
        Err(e) => return Err(KernelError::from_io("read the host ports", &e)),
    };
    let attachments = state.attachments();
    // What cannot be read is a reason to leave alone, not to remove.
    let Ok((records, _)) = attachments.list() else { return Ok(Vec::new()) };
    let mut living: BTreeMap<IfName, bool> = BTreeMap::new();
    for holder in seen.iter().filter_map(flatnet_core::hostport::Held::holder) {
        if living.contains_key(&holder) {
            continue;
        }
        let recorded = attachments.was_begun(&holder) || !matches!(attachments.get(&holder), Ok(None));
        let lives = recorded || !matches!(facts::link(kernel.netlink(Ns::Node)?, &holder), Ok(None));
        living.insert(holder, lives);
    }
    Ok(heal(&records, &seen, |holder| living.get(holder).copied().unwrap_or(true)))
}

const EPROTONOSUPPORT: i32 = 93;
