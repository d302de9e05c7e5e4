//! CHECK: compares the kernel with the record and with what the runtime was promised, exactly.

use std::io;

use flatnet_core::attach::{self, Difference, SeenAttachment};
use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Env, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::result;
use flatnet_core::hostport::{self, PodPorts};
use flatnet_core::link::AttachmentIds;
use flatnet_core::node::Attachment;
use flatnet_core::shaping;
use flatnet_core::step::{Masquerade, Ns, Step, TABLE};
use flatnet_kernel::{NetlinkKernel, attachment, nat};
use flatnet_node_state::StateDir;

use super::add::{open_sandbox, routes};
use crate::context;
use crate::ipam::Ipam;
use crate::settings::Settings;

pub(crate) fn run(base: &Base, target: &Target, env: Env<'_>) -> Result<(), CniError> {
    let conf = base.add_conf()?;
    let promise = base.prev_result()?.ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "prevResult is missing: CHECK compares with what ADD answered")
    })?;
    let promise = result::promise(promise, target.ifname.as_str());
    let ids = AttachmentIds::of(&target.container, &target.ifname);
    let ns = open_sandbox(target)?;
    let state = StateDir::new(&base.state_dir);
    let record = state.attachments().get(&ids.host_if).map_err(|e| context::state(&e))?.ok_or_else(|| {
        CniError::new(
            Code::Differs,
            format!("there is no record of container {} interface {}", target.container, target.ifname),
        )
    })?;
    if !attachment::is_namespace_of(&record, &ns) {
        return Err(CniError::new(
            Code::Differs,
            format!("CNI_NETNS {} is not the namespace that ADD was given", ns.path().display()),
        ));
    }
    let kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    let mut kernel = kernel.with_pod(ns).map_err(|e| context::netns(&e))?;
    let seen = attachment::see(&mut kernel, &record).map_err(|e| context::kernel(&e))?;
    let extra = routes(&conf, &record);
    attach::check(&record, &extra, &promise, &seen).map_err(|e| CniError::new(Code::Differs, e))?;
    // Only an agent says what it should be.
    let segment_size = state.snapshot().ok().flatten().map(|node| node.segment_size);
    check_sizes_and_limits(&mut kernel, &record, segment_size, &seen)?;
    let masquerade = if conf.masquerade { Settings::resolve(base, &conf, &state)?.masquerade } else { None };
    check_table(&record, masquerade)?;
    Ipam::of(base, env)?.map_or(Ok(()), |ipam| ipam.forward("CHECK"))
}

/// Both ends' segment sizes, and the bandwidth limits.
pub(crate) fn check_sizes_and_limits(
    kernel: &mut NetlinkKernel,
    record: &Attachment,
    segment_size: Option<u32>,
    seen: &SeenAttachment,
) -> Result<(), CniError> {
    let differs = |e: Difference| CniError::new(Code::Differs, e);
    if let Some(size) = segment_size {
        attach::check_segments(record, size, seen).map_err(differs)?;
    }
    if record.limits.is_empty() {
        return Ok(());
    }
    let node = kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?;
    let seen = attachment::see_limits(node, record).map_err(|e| context::kernel(&e))?;
    shaping::check(&record.host_ifname, record.limits, seen).map_err(differs)
}

/// The chains that ADD made sure of, and the elements it added: somebody may have flushed them since.
pub(crate) fn check_table(record: &Attachment, masquerade: Option<Masquerade>) -> Result<(), CniError> {
    let failed = |e: io::Error| context::io("read the nftables table", &e);
    let ports = PodPorts::of(record);
    let mut wanted = vec![Step::PutGuard];
    wanted.extend(masquerade.map(Step::PutMasquerade));
    wanted.extend(ports.clone().map(Step::PutHostPorts));
    if let Some(chain) = nat::changed_chain(&wanted).map_err(failed)? {
        let what = format!("chain {chain} of table inet {TABLE}: expected as ADD made it, found changed");
        return Err(CniError::new(Code::Differs, what));
    }
    if ports.is_none() {
        return Ok(());
    }
    let seen = nat::elements().map_err(failed)?;
    hostport::check(record, &seen).map_err(|e| CniError::new(Code::Differs, e))
}
