//! GC: removes every attachment of the network that the runtime does not list. One that cannot be
//! removed does not keep the others. One that is being made at the same time is not in the list for
//! that reason alone: it is left.

use std::collections::HashSet;
use std::io::Write;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::execute::clear;
use flatnet_core::hostport::Holding;
use flatnet_core::link::AttachmentIds;
use flatnet_core::step::Step;
use flatnet_kernel::{NetlinkKernel, nat};
use flatnet_node_state::StateDir;

use super::del;
use crate::ipam::Ipam;
use crate::{context, ports};

pub(crate) fn run(base: &Base, env: Env<'_>, stderr: &mut dyn Write) -> Result<(), CniError> {
    let valid: HashSet<(String, String)> = base.valid_attachments()?.into_iter().collect();
    let state = StateDir::new(&base.state_dir);
    let (records, damaged) = state.attachments().list().map_err(|e| context::state(&e))?;
    let mut failures: Vec<String> = damaged.iter().map(ToString::to_string).collect();
    for record in records.into_iter().filter(|r| r.network == base.name) {
        let key = (record.container.to_string(), record.ifname.to_string());
        let ids = AttachmentIds::of(&record.container, &record.ifname);
        if valid.contains(&key) || state.attachments().is_being_made(&ids.host_if) {
            continue;
        }
        let ipam = Ipam::to_release(base, record.ipam.as_ref(), env).filter(|_| record.ipam.is_some());
        let give_back = || ipam.as_ref().map_or(Ok(()), |ipam| ipam.release(&record));
        failures.extend(del::remove(&state, &ids, &give_back, stderr).err().map(|e| e.to_string()));
    }
    failures.extend(drop_ports_of_the_dead(&state).err().map(|e| e.to_string()));
    let forwarded = Ipam::of(base, env)?.map_or(Ok(()), |ipam| ipam.forward("GC"));
    if let (Err(e), true) = (&forwarded, failures.is_empty()) {
        return Err(e.clone());
    }
    failures.extend(forwarded.err().map(|e| e.to_string()));
    if failures.is_empty() {
        return Ok(());
    }
    Err(CniError::new(Code::Io, failures.join("; ")))
}

/// Host ports whose holder left neither record nor interface.
fn drop_ports_of_the_dead(state: &StateDir) -> Result<(), CniError> {
    let seen = match nat::elements() {
        Ok(seen) if !seen.is_empty() => seen,
        // A kernel without nf_tables has none.
        _ => return Ok(()),
    };
    let mut kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    let dead = seen.into_iter().filter(|held| {
        let holder = held.holder();
        holder.is_some_and(|holder| !ports::lives(&mut kernel, state, &holder))
    });
    let dead: Vec<_> = dead.map(|held| (held.element, held.comment)).collect();
    if dead.is_empty() {
        return Ok(());
    }
    let left = clear(&mut kernel, &[Step::DropHostPorts(Holding::These(dead))]);
    left.first().map_or(Ok(()), |e| Err(context::kernel(e)))
}
