//! The VXLAN device: made, made again, or put right.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Diff;
use crate::overlay::desired::Tunnel;
use crate::overlay::is_tunnel_if;
use crate::overlay::snapshot::{Link, VxlanSeen};
use crate::step::{AddrScope, LinkChange, LinkRef, Ns, Step, Vxlan};

impl<'a> Diff<'a> {
    /// The device with its addresses and settings.
    pub(super) fn tunnel(&mut self, tunnel: &'a Tunnel) {
        let device = &tunnel.device;
        for link in &self.have.links {
            let wrong = link.name == device.name && !is_same_tunnel(link, device);
            if wrong || link.name != device.name && is_in_the_way(link, device) {
                self.delete_link(link);
            }
        }
        let seen = self.have.link(&device.name).filter(|link| !self.gone.contains(&link.name));
        if seen.is_none() {
            self.steps.push(Step::CreateVxlan(device.clone()));
        } else if seen.and_then(|seen| seen.vxlan.as_ref()).is_some_and(|seen| !is_in_place(seen, device)) {
            self.steps.push(Step::ChangeVxlan(device.clone()));
        }
        let link = || LinkRef::node(device.name.clone());
        for address in &tunnel.addresses {
            if !seen.is_some_and(|seen| seen.addresses.contains(address)) {
                self.steps.push(Step::AddAddr(link(), *address, AddrScope::Global));
            }
        }
        for (key, value) in &tunnel.sysctls {
            if seen.is_none() || self.have.sysctls.get(key) != Some(value) {
                self.steps.push(Step::SetSysctl(Ns::Node, key.clone(), value.clone()));
            }
        }
        let change = repair(seen, device);
        if change.mac.is_some() {
            // A change of MAC flushes the device's neighbours, permanent ones too (neigh_changeaddr,
            // net/core/neighbour.c).
            self.forgetful.insert(&device.name);
        }
        if change != LinkChange::default() {
            self.steps.push(Step::SetLink(link(), change));
        }
        for address in seen.iter().flat_map(|seen| &seen.addresses) {
            if !tunnel.addresses.contains(address) && !is_automatic(*address) {
                self.away.push(Step::DropAddr(link(), *address));
            }
        }
    }
}

/// Settings that a device is born with (`vxlan_nl2conf`, drivers/net/vxlan/vxlan_core.c).
fn is_same_tunnel(link: &Link, device: &Vxlan) -> bool {
    link.vxlan.as_ref().is_some_and(|seen| {
        seen.vni == device.vni.get()
            && seen.port == device.port
            && seen.local.is_none_or(|local| local.is_ipv4() == device.local.is_ipv4())
    })
}

/// Settings that can change while packets flow.
fn is_in_place(seen: &VxlanSeen, device: &Vxlan) -> bool {
    seen.local == Some(device.local) && seen.uplink.as_ref() == Some(&device.uplink) && !seen.learning
}

/// The kernel refuses two devices with one VNI on one port. One that was renamed is still known by its MAC,
/// which is made from this node's name; somebody else's stays, and creating ours then fails with a reason.
fn is_in_the_way(link: &Link, device: &Vxlan) -> bool {
    let ours = is_tunnel_if(link.name.as_str()) || link.mac == Some(device.mac);
    let same = |seen: &VxlanSeen| seen.vni == device.vni.get() && seen.port == device.port;
    ours && link.vxlan.as_ref().is_some_and(same)
}

fn repair(seen: Option<&Link>, device: &Vxlan) -> LinkChange {
    let Some(seen) = seen else {
        return LinkChange { up: Some(true), ..LinkChange::default() };
    };
    LinkChange {
        up: (!seen.up).then_some(true),
        mtu: (seen.mtu != device.mtu).then_some(device.mtu),
        mac: (seen.mac != Some(device.mac)).then_some(device.mac),
        ..LinkChange::default()
    }
}

/// Link-local addresses come and go with the kernel's own rules.
fn is_automatic(address: IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
