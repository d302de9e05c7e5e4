//! Running pods follow the node's segment size: the pod's end first, then the node's, so that an end that
//! is still to be changed is found by looking at the node alone.

use std::io;

use flatnet_core::kernel::Kernel as _;
use flatnet_core::names::IfName;
use flatnet_core::node::Attachment;
use flatnet_core::step::{LinkChange, LinkRef, Outcome, Step};
use flatnet_kernel::{NetlinkKernel, NetnsError, NetnsFd};
use flatnet_node_state::StateDir;

/// Gives both ends of each pod's pair the segment size `size`, and answers with how many were changed and
/// what could not be.
pub(crate) fn follow(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    pods: &[IfName],
    size: u32,
) -> (usize, Vec<String>) {
    let (mut changed, mut failures) = (0, Vec::new());
    for host in pods {
        // Without a record the node's end still follows: what it sends to the pod is what the node pays for.
        let record = state.attachments().get(host).ok().flatten();
        let inside = record.map_or(Ok(()), |record| pod_end(&record, size));
        match inside.and_then(|()| set(kernel, LinkRef::node(host.clone()), size)) {
            Ok(()) => changed += 1,
            Err(error) => failures.push(error),
        }
    }
    (changed, failures)
}

/// A pod whose namespace is gone, or is another one by now, has no end to be changed.
fn pod_end(record: &Attachment, size: u32) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("segment size of {}: {e}", record.host_ifname);
    let ns = match NetnsFd::open(record.netns.as_ref()) {
        Ok(ns) if ns.inode() == record.netns_inode => ns,
        Ok(_) | Err(NetnsError::NotANamespace { .. }) => return Ok(()),
        Err(NetnsError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(&e)),
    };
    let kernel = NetlinkKernel::open_node().map_err(|e| failed(&e))?;
    let mut kernel = kernel.with_pod(ns).map_err(|e| failed(&e))?;
    set(&mut kernel, LinkRef::pod(record.ifname.clone()), size)
}

fn set(kernel: &mut NetlinkKernel, link: LinkRef, size: u32) -> Result<(), String> {
    const ENODEV: i32 = 19;
    let step = Step::SetLink(link, LinkChange { segment_size: Some(size), ..LinkChange::default() });
    match kernel.apply(&[step]).pop() {
        // A pod that ended meanwhile.
        Some(Err(e)) if e.errno == Some(ENODEV) => Ok(()),
        Some(Err(e)) => Err(e.to_string()),
        Some(Ok(Outcome::Done | Outcome::AlreadySo | Outcome::AlreadyGone)) | None => Ok(()),
    }
}
