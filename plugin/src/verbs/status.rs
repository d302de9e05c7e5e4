//! STATUS: whether an ADD would be served now.

use std::cell::RefCell;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use flatnet_kernel::batch::Netlink;
use flatnet_node_state::StateDir;
use ipnetwork::IpNetwork;

use crate::ipam::Ipam;
use crate::settings::Settings;
use crate::{context, lease};

pub(crate) fn run(base: &Base, env: Env<'_>) -> Result<(), CniError> {
    let conf = base.add_conf()?;
    let state = StateDir::new(&base.state_dir);
    let settings = Settings::resolve(base, &conf, &state).map_err(|e| match e.code {
        Code::TryAgain => CniError { code: Code::NotAvailable, ..e },
        _ => e,
    })?;
    if let Some(ipam) = Ipam::of(base, env)? {
        return ipam.status();
    }
    for family in settings.families() {
        let room = has_room(&state, &family)? || (reclaim(&state) && has_room(&state, &family)?);
        if !room {
            let names: Vec<String> = family.iter().map(ToString::to_string).collect();
            return Err(CniError::new(
                Code::NotAvailable,
                format!("no free address is left in {}", names.join(", ")),
            ));
        }
    }
    Ok(())
}

fn has_room(state: &StateDir, family: &[IpNetwork]) -> Result<bool, CniError> {
    let mut room = false;
    for network in family {
        room |= state.addresses().has_room(*network).map_err(|e| context::state(&e))?;
    }
    Ok(room)
}

/// A runtime that is told "full" may never ask for an ADD, which would find what the dead have left.
fn reclaim(state: &StateDir) -> bool {
    Netlink::open().is_ok_and(|mut node| lease::reclaim(&RefCell::new(&mut node), state))
}
