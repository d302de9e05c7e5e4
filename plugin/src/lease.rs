//! Addresses of the built-in pool for one attachment; a pool that is full is first looked through for what
//! the dead have left.

use std::cell::RefCell;
use std::net::IpAddr;

use flatnet_core::attach;
use flatnet_core::cni::conf::AddConf;
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::execute::clear;
use flatnet_core::life::{DEFAULT_GRACE_SECONDS, Moment};
use flatnet_core::node::Attachment;
use flatnet_kernel::batch::Netlink;
use flatnet_kernel::{NetlinkKernel, attachment, facts};
use flatnet_node_state::{Judge, PoolError, Request, StateDir, boot_seconds};
use ipnetwork::IpNetwork;

use crate::context;
use crate::settings::Settings;

/// Who hands out addresses to one attachment.
pub(crate) struct Lessor<'a> {
    node: RefCell<&'a mut Netlink>,
    state: &'a StateDir,
    conf: &'a AddConf,
    owner: u64,
}

impl<'a> Lessor<'a> {
    /// `node` is the node's socket, `owner` the attachment's tag, whose mark is held.
    pub(crate) const fn new(
        node: &'a mut Netlink,
        state: &'a StateDir,
        conf: &'a AddConf,
        owner: u64,
    ) -> Self {
        Self { node: RefCell::new(node), state, conf, owner }
    }

    /// One address of each family that the node has subnets of.
    pub(crate) fn lease(&self, settings: &Settings) -> Result<Vec<IpAddr>, CniError> {
        let mut leased = Vec::new();
        for family in settings.families() {
            leased.push(self.of_family(&family).map_err(|e| context::pool(&e))?);
        }
        let unmet = self.conf.requested.iter().find(|ip| !leased.contains(ip));
        match unmet {
            None => Ok(leased),
            Some(ip) => Err(CniError::new(
                Code::InvalidConfig,
                format!(
                    "requested address {ip} cannot be given: one address per family, of the node's subnets"
                ),
            )),
        }
    }

    fn of_family(&self, family: &[IpNetwork]) -> Result<IpAddr, PoolError> {
        match self.take_from(family) {
            Err(e @ PoolError::Exhausted { .. }) => {
                if reclaim(&self.node, self.state) {
                    self.take_from(family)
                } else {
                    Err(e)
                }
            }
            other => other,
        }
    }

    /// The first subnet of a family that has the address, or any.
    fn take_from(&self, family: &[IpNetwork]) -> Result<IpAddr, PoolError> {
        let v4 = family.iter().all(IpNetwork::is_ipv4);
        let wanted = self.conf.requested.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let in_use = |ip: IpAddr| self.in_use(ip);
        let cooldown = self.conf.cooldown_seconds;
        let request = Request { owner: self.owner, wanted, cooldown, in_use: &in_use };
        let mut last = None;
        for network in family {
            match self.state.addresses().take(*network, request) {
                Err(e @ (PoolError::Exhausted { .. } | PoolError::Outside { .. })) => last = Some(e),
                other => return other,
            }
        }
        Err(last.unwrap_or(PoolError::Exhausted {
            network: IpNetwork::from(IpAddr::from([0, 0, 0, 0])),
            capacity: 0,
        }))
    }

    fn in_use(&self, ip: IpAddr) -> bool {
        facts::is_routed(&mut self.node.borrow_mut(), ip)
    }
}

/// Takes back what the dead have left, and answers whether there was something. Without the boot's name
/// nobody can be told to be of an earlier one: then nothing is.
pub(crate) fn reclaim(node: &RefCell<&mut Netlink>, state: &StateDir) -> bool {
    let Ok(boot) = attachment::boot_id() else { return false };
    let moment = Moment { boot, now: boot_seconds() };
    let is_dead = |record: &Attachment| {
        attachment::is_dead(&mut node.borrow_mut(), record, &moment, DEFAULT_GRACE_SECONDS)
    };
    let in_use = |ip: IpAddr| facts::is_routed(&mut node.borrow_mut(), ip);
    let collected =
        state.collect(&Judge { is_dead: &is_dead, in_use: &in_use, grace: DEFAULT_GRACE_SECONDS });
    if let Ok(mut kernel) = NetlinkKernel::open_node() {
        // What is left now, DEL, GC or an agent takes away.
        collected.attachments.iter().for_each(|record| drop(clear(&mut kernel, &attach::plan_bury(record))));
    }
    !collected.is_empty()
}
