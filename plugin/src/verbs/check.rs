//! CHECK: compares the kernel with the record and with what the runtime was promised, exactly.

use flatnet_core::attach;
use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::{Env, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::result;
use flatnet_core::link::AttachmentIds;
use flatnet_core::step::TABLE;
use flatnet_kernel::{NetlinkKernel, attachment, nat};
use flatnet_node_state::StateDir;

use super::add::{open_sandbox, routes};
use crate::context;
use crate::ipam::Ipam;
use crate::settings::Settings;

pub(crate) fn run(base: &Base, target: &Target, env: Env<'_>) -> Result<(), CniError> {
    let conf = base.add_conf()?;
    let promise = base.prev_result().ok_or_else(|| {
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
    if conf.masquerade {
        check_masquerade(&Settings::resolve(base, &conf, &state)?)?;
    }
    Ipam::of(base, env)?.map_or(Ok(()), |ipam| ipam.forward("CHECK"))
}

/// The chain that ADD made sure of: somebody may have flushed it since.
fn check_masquerade(settings: &Settings) -> Result<(), CniError> {
    let Some(masquerade) = &settings.masquerade else { return Ok(()) };
    if nat::is_masquerading(masquerade).map_err(|e| context::io("read the nftables table", &e))? {
        return Ok(());
    }
    Err(CniError::new(
        Code::Differs,
        format!("chain {} of table inet {TABLE}: expected as ADD made it, found changed", masquerade.chain),
    ))
}
