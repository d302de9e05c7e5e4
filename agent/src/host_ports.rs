//! The host ports of this node's pods, kept as the plugin's records say.

use std::collections::BTreeMap;

use flatnet_core::hostport::{Holding, heal};
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

/// Whose elements `steps` add.
pub(crate) fn holders(steps: &[Step]) -> Vec<IfName> {
    let holder = |step: &Step| match step {
        Step::PutHostPorts(ports) => Some(ports.holder.clone()),
        _ => None,
    };
    steps.iter().filter_map(holder).collect()
}

/// What to take back of `holders` once their elements are there: a pod's record may have gone since it was
/// read. A DEL that removes the record later than this looks for elements after that.
pub(crate) fn withdraw(state: &StateDir, holders: &[IfName]) -> Vec<Step> {
    let attachments = state.attachments();
    let is_gone =
        |holder: &&IfName| matches!(attachments.get(holder), Ok(None)) && !attachments.was_begun(holder);
    let take_back = |holder: &IfName| Step::DropHostPorts(Holding::Of(holder.clone()));
    holders.iter().filter(is_gone).map(take_back).collect()
}

const EPROTONOSUPPORT: i32 = 93;

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod that is gone is taken back; one that lives, or is being made again, is not.
    #[test]
    fn what_was_added_for_a_pod_that_went_meanwhile_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let name = |name: &str| name.parse::<IfName>().unwrap();
        let [lives, begun, gone] = ["fnaaaaaaaaaaaaa", "fnbbbbbbbbbbbbb", "fnccccccccccccc"].map(name);
        let mark = state.attachments().begin(&begun, 7).unwrap();
        std::fs::write(dir.path().join("attachments/fnaaaaaaaaaaaaa.json"), "damaged, but there").unwrap();
        let steps = withdraw(&state, &[lives, begun, gone.clone()]);
        assert_eq!(steps, [Step::DropHostPorts(Holding::Of(gone))]);
        drop(mark);
    }
}
