//! An in-memory kernel that knows the overlay's objects and what hangs on what. For tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::filter::FilterSeen;
use super::snapshot::{Link, Observe, Snapshot, VxlanSeen};
use super::{is_tunnel_if, sysctl};
use crate::kernel::{Kernel, KernelError};
use crate::link::{Mac, SegmentSizes};
use crate::names::IfName;
use crate::step::{Fdb, LinkChange, LinkRef, Neighbour, Nexthop, Outcome, Put, Route, Step, Via, Vxlan};

const ENODEV: i32 = 19;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;

/// The kernel's objects. Fields are open, so that a test can disturb them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverlayModel {
    /// Links by name.
    pub links: BTreeMap<IfName, Link>,
    /// Links of default routes.
    pub default_links: Vec<IfName>,
    /// Nexthop objects by number, ours.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// Numbers of nexthop objects that are not ours.
    pub foreign_nexthops: BTreeSet<u32>,
    /// Routes by their key, ours.
    pub routes: BTreeMap<(IpNetwork, Option<u32>), Route>,
    /// Routes that are not ours, by their key.
    pub foreign_routes: BTreeSet<(IpNetwork, Option<u32>)>,
    /// Permanent neighbours.
    pub neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    /// Forwarding entries.
    pub fdb: BTreeSet<(IfName, Fdb)>,
    /// Settings.
    pub sysctls: BTreeMap<String, String>,
    /// Chains of the nftables table, but for their rules.
    pub chains: BTreeSet<String>,
    /// Marks of the tunnel's filter.
    pub filter: Vec<String>,
    /// Whom it lets through.
    pub senders: BTreeSet<IpAddr>,
    /// Every node that was forwarded to at some moment, though the filter did not let it through.
    pub deaf_to: BTreeSet<IpAddr>,
    /// Every destination that was without a route of ours at some moment of the last application,
    /// though it had one before.
    pub interrupted: BTreeSet<IpNetwork>,
    /// Steps that are refused with `EINVAL`, by their text: how a test makes one peer fail.
    pub refuse: Option<String>,
}

impl OverlayModel {
    /// A node with one uplink.
    #[must_use]
    pub fn with_uplink(uplink: &IfName, mtu: u32, addresses: &[IpNetwork]) -> Self {
        let link = Link {
            name: uplink.clone(),
            up: true,
            mtu,
            mac: None,
            segments: SegmentSizes::default(),
            addresses: addresses.to_vec(),
            vxlan: None,
        };
        let links = BTreeMap::from([(uplink.clone(), link)]);
        let sysctls = [(sysctl::IPV4_FORWARD, "0"), (sysctl::IPV6_FORWARD, "0")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let accept_ra = [
            (sysctl::accept_ra(uplink), "1".to_owned()),
            (sysctl::ipv4_forwarding(uplink), "0".to_owned()),
            (sysctl::ipv6_forwarding(uplink), "0".to_owned()),
        ];
        Self {
            links,
            default_links: vec![uplink.clone()],
            sysctls: sysctls.into_iter().chain(accept_ra).collect(),
            ..Self::default()
        }
    }

    /// Removes a link with everything that hangs on it.
    pub fn delete_link(&mut self, name: &IfName) {
        self.links.remove(name);
        let ids: Vec<u32> = self.nexthops.values().filter(|n| n.link == *name).map(|n| n.id).collect();
        ids.into_iter().for_each(|id| self.delete_nexthop(id));
        self.neighbours.retain(|(link, _), _| link != name);
        self.fdb.retain(|(link, _)| link != name);
        self.sysctls.retain(|key, _| !key.contains(&format!("/{name}/")));
    }

    /// Removes a nexthop object with its routes.
    pub fn delete_nexthop(&mut self, id: u32) {
        self.nexthops.remove(&id);
        let lost: Vec<_> =
            self.routes.iter().filter(|(_, r)| r.via == Via::Nexthop(id)).map(|(key, _)| *key).collect();
        for key in lost {
            self.routes.remove(&key);
            self.interrupted.insert(key.0);
        }
    }

    fn create_vxlan(&mut self, device: &Vxlan) -> Result<(), i32> {
        let twin = |link: &Link| {
            link.vxlan.as_ref().is_some_and(|v| v.vni == device.vni.get() && v.port == device.port)
        };
        if self.links.contains_key(&device.name) || self.links.values().any(twin) {
            return Err(EEXIST);
        }
        if !self.links.contains_key(&device.uplink) {
            return Err(ENODEV);
        }
        let link = Link {
            name: device.name.clone(),
            up: false,
            mtu: device.mtu,
            mac: Some(device.mac),
            segments: SegmentSizes::default(),
            addresses: Vec::new(),
            vxlan: Some(VxlanSeen::of(device)),
        };
        self.links.insert(device.name.clone(), link);
        for key in [sysctl::ipv4_forwarding(&device.name), sysctl::ipv6_forwarding(&device.name)] {
            self.sysctls.insert(key, "0".to_owned());
        }
        self.sysctls.insert(sysctl::rp_filter(&device.name), "0".to_owned());
        self.sysctls.insert(sysctl::accept_ra(&device.name), "1".to_owned());
        Ok(())
    }

    fn change_vxlan(&mut self, device: &Vxlan) -> Result<(), i32> {
        if !self.links.contains_key(&device.uplink) {
            return Err(ENODEV);
        }
        let vxlan = self.links.get_mut(&device.name).and_then(|link| link.vxlan.as_mut()).ok_or(ENODEV)?;
        if vxlan.port != device.port || vxlan.vni != device.vni.get() {
            return Err(EINVAL);
        }
        vxlan.local = Some(device.local);
        vxlan.uplink = Some(device.uplink.clone());
        vxlan.learning = false;
        Ok(())
    }

    fn link(&mut self, link: &LinkRef) -> Result<&mut Link, i32> {
        self.links.get_mut(&link.name).ok_or(ENODEV)
    }

    fn set_link(&mut self, target: &LinkRef, change: &LinkChange) -> Result<(), i32> {
        let link = self.link(target)?;
        link.up = change.up.unwrap_or(link.up);
        link.mtu = change.mtu.unwrap_or(link.mtu);
        link.segments = change.segment_size.map_or(link.segments, SegmentSizes::of);
        if let Some(mac) = change.mac {
            link.mac = Some(mac);
            self.neighbours.retain(|(name, _), _| *name != target.name);
        }
        Ok(())
    }

    fn put_nexthop(&mut self, nexthop: &Nexthop) -> Result<(), i32> {
        let up = self.links.get(&nexthop.link).ok_or(ENODEV)?.up;
        if !up || self.foreign_nexthops.contains(&nexthop.id) {
            return Err(EINVAL);
        }
        self.nexthops.insert(nexthop.id, nexthop.clone());
        Ok(())
    }

    fn put_route(&mut self, route: &Route, put: Put) -> Result<(), i32> {
        let key = (route.dst, route.metric);
        if let Via::Nexthop(id) = route.via
            && !self.nexthops.contains_key(&id)
        {
            return Err(EINVAL);
        }
        let taken = self.routes.contains_key(&key) || self.foreign_routes.contains(&key);
        if put == Put::New && taken {
            return Err(EEXIST);
        }
        self.routes.insert(key, route.clone());
        Ok(())
    }

    fn put(&mut self, step: &Step) -> Result<(), i32> {
        match step {
            Step::CreateVxlan(device) => self.create_vxlan(device),
            Step::ChangeVxlan(device) => self.change_vxlan(device),
            Step::SetLink(link, change) => self.set_link(link, change),
            Step::AddAddr(link, addr, _) => {
                self.link(link)?.addresses.push(*addr);
                Ok(())
            }
            Step::PutNexthop(nexthop) => self.put_nexthop(nexthop),
            Step::PutRoute(_, route, put) => self.put_route(route, *put),
            Step::PutNeighbour(link, Neighbour { ip, mac }) => {
                self.link(link)?;
                self.neighbours.insert((link.name.clone(), *ip), *mac);
                Ok(())
            }
            Step::PutFdb(link, fdb) => {
                self.link(link)?;
                self.fdb.retain(|(name, old)| *name != link.name || old.mac != fdb.mac);
                self.fdb.insert((link.name.clone(), *fdb));
                Ok(())
            }
            Step::SetSysctl(_, key, value) => {
                let old = self.sysctls.get_mut(key).ok_or(ENODEV)?;
                value.clone_into(old);
                self.spread(key, value);
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }

    /// Forwarding of the node is that of all its links.
    fn spread(&mut self, key: &str, value: &str) {
        let (prefix, suffix) = match key {
            sysctl::IPV4_FORWARD => ("net/ipv4/conf/", "/forwarding"),
            sysctl::IPV6_FORWARD => ("net/ipv6/conf/", "/forwarding"),
            _ => return,
        };
        for (key, own) in &mut self.sysctls {
            if key.starts_with(prefix) && key.ends_with(suffix) {
                value.clone_into(own);
            }
        }
    }

    fn apply_one(&mut self, step: &Step) -> Result<Outcome, KernelError> {
        let text = step.to_string();
        if self.refuse.as_ref().is_some_and(|part| text.contains(part)) {
            return Err(KernelError::from_errno(step, EINVAL, None));
        }
        match step {
            Step::DeleteLink(link) => self.delete_link(&link.name),
            Step::DropAddr(link, addr) => {
                if let Ok(link) = self.link(link) {
                    link.addresses.retain(|have| have != addr);
                }
            }
            Step::DropRoute(_, route) => {
                self.routes.remove(&(route.dst, route.metric));
                self.interrupted.insert(route.dst);
            }
            Step::DropNexthop(nexthop) => self.delete_nexthop(nexthop.id),
            Step::DropNeighbour(link, n) => {
                self.neighbours.remove(&(link.name.clone(), n.ip));
            }
            Step::DropFdb(link, fdb) => {
                self.fdb.remove(&(link.name.clone(), *fdb));
            }
            Step::PutSenders(new) => self.senders.extend(&new.addresses),
            Step::DropSenders(old) => self.senders.retain(|ip| !old.addresses.contains(ip)),
            Step::PutTunnelFilter(filter) => self.filter = filter.marks(),
            Step::DropTunnelFilter => {
                self.filter.clear();
                self.senders.clear();
            }
            Step::PutMasquerade(masquerade) => {
                let new = self.chains.insert(masquerade.chain.clone());
                return Ok(if new { Outcome::Done } else { Outcome::AlreadySo });
            }
            Step::DropMasquerade(chain) => {
                self.chains.remove(chain);
            }
            // The rest of the table is not part of the model: it is as it should be.
            Step::PutGuard | Step::DropTable => {
                return Ok(Outcome::AlreadySo);
            }
            _ => self.put(step).map_err(|errno| KernelError::from_errno(step, errno, None))?,
        }
        Ok(Outcome::Done)
    }
}

impl Kernel for OverlayModel {
    fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
        let one = |step: &Step| {
            let result = self.apply_one(step);
            if !self.filter.is_empty() {
                let nodes = self.fdb.iter().map(|(_, fdb)| fdb.node);
                self.deaf_to.extend(nodes.filter(|node| !self.senders.contains(node)));
            }
            result
        };
        steps.iter().map(one).collect()
    }
}

impl Observe for OverlayModel {
    fn snapshot(&mut self) -> Result<Snapshot, KernelError> {
        let ours = |name: &IfName| is_tunnel_if(name.as_str());
        let neighbours = self.neighbours.iter().filter(|((link, _), _)| ours(link));
        let ids = self.nexthops.keys().chain(&self.foreign_nexthops);
        Ok(Snapshot {
            links: self.links.values().cloned().collect(),
            pods: Vec::new(),
            pod_routes: Vec::new(),
            default_links: self.default_links.clone(),
            routes: self.routes.values().cloned().collect(),
            nexthops: self.nexthops.values().cloned().collect(),
            nexthop_ids: ids.copied().collect(),
            neighbours: neighbours
                .map(|((link, ip), mac)| (link.clone(), Neighbour { ip: *ip, mac: *mac }))
                .collect(),
            fdb: self.fdb.iter().filter(|(link, _)| ours(link)).cloned().collect(),
            sysctls: self.sysctls.clone(),
            filter: FilterSeen {
                marks: self.filter.clone(),
                senders: self.senders.iter().copied().collect(),
            },
            chains: self.chains.iter().cloned().collect(),
        })
    }
}
