//! CHECK: compares the kernel with the record and with what the runtime was promised, exactly.

use std::io;

use flatnet_core::attach;
use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Env, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::result;
use flatnet_core::hostport::{self, PodPorts};
use flatnet_core::link::AttachmentIds;
use flatnet_core::node::Attachment;
use flatnet_core::shaping;
use flatnet_core::step::{Masquerade, Step, TABLE};
use flatnet_kernel::{NetlinkKernel, nat};
use flatnet_node_state::StateDir;

use super::add::{open_sandbox, routes};
use crate::ipam::Ipam;
use crate::settings::Settings;
use crate::{context, seen};

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
    if record.netns_inode != ns.inode() {
        return Err(CniError::new(
            Code::Differs,
            format!("CNI_NETNS {} is not the namespace that ADD was given", ns.path().display()),
        ));
    }
    let kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    let mut kernel = kernel.with_pod(ns).map_err(|e| context::netns(&e))?;
    let seen = seen::attachment(&mut kernel, &record)?;
    let extra = routes(&conf, &record);
    attach::check(&record, &extra, &promise, &seen).map_err(|e| CniError::new(Code::Differs, e))?;
    // Only an agent says what it should be.
    if let Ok(Some(node)) = state.snapshot() {
        attach::check_segments(&record, node.segment_size, &seen)
            .map_err(|e| CniError::new(Code::Differs, e))?;
    }
    if !record.limits.is_empty() {
        let seen = seen::limits(&mut kernel, &record)?;
        shaping::check(&record.host_ifname, record.limits, seen)
            .map_err(|e| CniError::new(Code::Differs, e))?;
    }
    let masquerade = if conf.masquerade { Settings::resolve(base, &conf, &state)?.masquerade } else { None };
    check_table(&record, masquerade)?;
    Ipam::of(base, env)?.map_or(Ok(()), |ipam| ipam.forward("CHECK"))
}

/// The chains that ADD made sure of, and the elements it added: somebody may have flushed them since.
fn check_table(record: &Attachment, masquerade: Option<Masquerade>) -> Result<(), CniError> {
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
