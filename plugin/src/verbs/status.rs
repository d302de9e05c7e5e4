//! STATUS: whether an ADD would be served now.

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use flatnet_node_state::StateDir;

use crate::context;
use crate::ipam::Ipam;
use crate::settings::Settings;

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
        let mut room = false;
        for network in &family {
            room |= state.addresses().has_room(*network).map_err(|e| context::state(&e))?;
        }
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
