//! One step, one message: resolves names to indexes, sends batches, and reads the errno table.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::RawFd;

use flatnet_core::kernel::{Kernel, KernelError};
use flatnet_core::step::{LinkRef, Ns, Outcome, Step, Via};
use nix::libc::{EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENOENT, ESRCH};

use crate::batch::{Answer, Netlink, Request};
use crate::netns::{NetnsError, NetnsFd};
use crate::{conntrack, facts, msg, nat, sysctl, tunnel_filter};

/// Explicit interface indexes are drawn from here on, far above the kernel's own counter.
const FIRST_INDEX: u32 = 1 << 20;
/// How many there are, up to `i32::MAX`.
const INDEXES: u64 = (1 << 31) - (1 << 20);

/// The index of `lo` in every namespace (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK_INDEX: u32 = 1;

/// The running kernel: the node's namespace, and for the plugin one pod's.
#[derive(Debug)]
pub struct NetlinkKernel {
    node: Netlink,
    pod: Option<Pod>,
}

#[derive(Debug)]
struct Pod {
    ns: NetnsFd,
    netlink: Netlink,
}

/// Indexes of links by name. Lives for one call: names move between links while nobody looks.
type Indexes = HashMap<LinkRef, u32>;

impl NetlinkKernel {
    /// The namespace the calling thread runs in, as the node.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn open_node() -> io::Result<Self> {
        Ok(Self { node: Netlink::open()?, pod: None })
    }

    /// Adds a pod's namespace.
    ///
    /// # Errors
    /// It cannot be entered, or no socket can be opened in it.
    pub fn with_pod(mut self, ns: NetnsFd) -> Result<Self, NetnsError> {
        let netlink = ns
            .run(Netlink::open)?
            .map_err(|source| NetnsError::Enter { path: ns.path().to_owned(), source })?;
        self.pod = Some(Pod { ns, netlink });
        Ok(self)
    }

    /// The socket of `ns`, for reading.
    ///
    /// # Errors
    /// There is no pod.
    pub fn netlink(&mut self, ns: Ns) -> Result<&mut Netlink, KernelError> {
        match (ns, &mut self.pod) {
            (Ns::Node, _) => Ok(&mut self.node),
            (Ns::Pod, Some(pod)) => Ok(&mut pod.netlink),
            (Ns::Pod, None) => Err(KernelError::new("reach the pod", "no pod namespace is open")),
        }
    }

    /// The pod's namespace.
    #[must_use]
    pub fn pod_namespace(&self) -> Option<&NetnsFd> {
        self.pod.as_ref().map(|pod| &pod.ns)
    }

    fn pod_fd(&self) -> RawFd {
        self.pod.as_ref().map_or(-1, |pod| pod.ns.raw_fd())
    }

    /// Writes neighbouring settings of one namespace, entered once.
    fn apply_sysctls(&self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
        let all = || steps.iter().map(write_sysctl).collect::<Vec<_>>();
        let failed = |why: &dyn std::fmt::Display| {
            steps.iter().map(|step| Err(KernelError::new(step, why))).collect::<Vec<_>>()
        };
        match (steps.first().map(Step::ns), &self.pod) {
            (Some(Ns::Pod), Some(pod)) => pod.ns.run(all).unwrap_or_else(|e| failed(&e)),
            (Some(Ns::Pod), None) => failed(&"no pod namespace is open"),
            (Some(Ns::Node) | None, _) => all(),
        }
    }

    /// Applies neighbouring steps of one namespace.
    fn apply_batch(&mut self, steps: &[Step], known: &mut Indexes) -> Vec<Result<Outcome, KernelError>> {
        let mut results: Vec<Option<Result<Outcome, KernelError>>> = vec![None; steps.len()];
        let mut requests = Vec::with_capacity(steps.len());
        let mut senders = Vec::with_capacity(steps.len());
        for (i, step) in steps.iter().enumerate() {
            match self.prepare(step, known) {
                Ok(Prepared::Request(request)) => {
                    requests.push(request);
                    senders.push(i);
                }
                Ok(Prepared::AlreadyGone) => results[i] = Some(Ok(Outcome::AlreadyGone)),
                Err(e) => results[i] = Some(Err(e)),
            }
        }
        let answers = match steps.first().map(|step| self.netlink(step.ns())) {
            Some(Ok(netlink)) if !requests.is_empty() => netlink.batch(&requests),
            _ => Ok(Vec::new()),
        };
        match answers {
            Ok(answers) => {
                for (i, answer) in senders.into_iter().zip(answers) {
                    results[i] = Some(read_answer(&steps[i], answer));
                }
            }
            Err(e) => {
                for i in senders {
                    results[i] = Some(Err(KernelError::from_io(&steps[i], &e)));
                }
            }
        }
        let lost = |i: usize| Err(KernelError::new(&steps[i], "the kernel did not answer"));
        results.into_iter().enumerate().map(|(i, r)| r.unwrap_or_else(|| lost(i))).collect()
    }

    /// Removes neighbouring links of the node as one group, named after the first one's index, which nobody
    /// else has: the kernel waits for grace periods at every removal, and for a group only once.
    fn apply_removals(&mut self, steps: &[Step], known: &mut Indexes) -> Vec<Result<Outcome, KernelError>> {
        let mut indexes = Vec::with_capacity(steps.len());
        for step in steps {
            indexes.push(match step {
                Step::DeleteLink(link) => self.index(step, link, known),
                _ => Err(KernelError::new(step, "not a removal")),
            });
        }
        let found: Vec<u32> = indexes.iter().flatten().copied().flatten().collect();
        match found[..] {
            [group, _, ..] if self.remove_group(group, &found) => {
                known.clear();
                let outcome = |index: Option<u32>| match index {
                    Some(_) => Outcome::Done,
                    None => Outcome::AlreadyGone,
                };
                indexes.into_iter().map(|index| index.map(outcome)).collect()
            }
            _ => self.apply_batch(steps, known),
        }
    }

    /// Whether links were removed as one; if not, they are all there still.
    fn remove_group(&mut self, group: u32, links: &[u32]) -> bool {
        let join = links.iter().map(|index| msg::link::join(*index, group));
        let requests: Vec<Request> = join.chain([msg::link::delete_group(group)]).collect();
        self.node.batch(&requests).is_ok_and(|answers| matches!(answers.last(), Some(Ok(_))))
    }

    fn prepare(&mut self, step: &Step, known: &mut Indexes) -> Result<Prepared, KernelError> {
        let request = match step {
            Step::CreateVeth(_) | Step::CreateVxlan(_) | Step::CreateIfb(_) => self.create(step, known)?,
            Step::ChangeVxlan(vxlan) => {
                let device = self.must_index(step, &LinkRef::node(vxlan.name.clone()), known)?;
                let uplink = self.must_index(step, &LinkRef::node(vxlan.uplink.clone()), known)?;
                msg::link::change_vxlan(vxlan, device, uplink)
            }
            Step::Redirect(link, to) => {
                let to = self.must_index(step, &LinkRef::node(to.clone()), known)?;
                msg::tc::redirect(self.must_index(step, link, known)?, to)
            }
            Step::SetLink(link, _)
            | Step::Settle(link)
            | Step::PutRate(link, _)
            | Step::AddIngress(link)
            | Step::AddAddr(link, ..)
            | Step::PutNeighbour(link, _)
            | Step::PutFdb(link, _) => about_link(step, self.must_index(step, link, known)?),
            Step::PutRoute(ns, route, mode) => {
                let index = self.via_index(step, *ns, &route.via, known)?.ok_or_else(|| no_link(step))?;
                msg::route::put(route, index, *mode)
            }
            Step::PutTableRoute(ns, table, route) => {
                let index = self.via_index(step, *ns, &route.via, known)?.ok_or_else(|| no_link(step))?;
                msg::route::put_in_table(*table, route, index)
            }
            Step::PutRule(_, rule) => msg::rule::put(rule),
            Step::DropRule(_, rule) => msg::rule::remove(rule),
            Step::PutNexthop(nexthop) => {
                let index = self.must_index(step, &LinkRef::node(nexthop.link.clone()), known)?;
                msg::nexthop::put(nexthop, index)
            }
            Step::DropNexthop(nexthop) => msg::nexthop::remove(nexthop),
            Step::DropRoute(ns, route) => match self.via_index(step, *ns, &route.via, known)? {
                Some(index) => msg::route::remove(route, index),
                None => return Ok(Prepared::AlreadyGone),
            },
            Step::DeleteLink(link)
            | Step::DropIngress(link)
            | Step::DropAddr(link, _)
            | Step::DropNeighbour(link, _)
            | Step::DropFdb(link, _) => match self.index(step, link, known)? {
                Some(index) => {
                    if matches!(step, Step::DeleteLink(_)) {
                        // Whatever is called so afterwards is another link.
                        known.remove(link);
                    }
                    removal(step, index)
                }
                None => return Ok(Prepared::AlreadyGone),
            },
            // [`Way`] leads no other step here.
            _ => return Err(KernelError::new(step, "not an rtnetlink request")),
        };
        Ok(Prepared::Request(request))
    }

    fn create(&mut self, step: &Step, known: &mut Indexes) -> Result<Request, KernelError> {
        match step {
            Step::CreateVeth(veth) => {
                let host = self.free_index(Ns::Node, step)?;
                let pod = self.free_index(Ns::Pod, step)?;
                known.insert(LinkRef::node(veth.host.clone()), host);
                known.insert(LinkRef::pod(veth.pod.clone()), pod);
                Ok(msg::link::create_veth(veth, host, pod, self.pod_fd()))
            }
            Step::CreateVxlan(vxlan) => {
                known.remove(&LinkRef::node(vxlan.name.clone()));
                let uplink = self.must_index(step, &LinkRef::node(vxlan.uplink.clone()), known)?;
                Ok(msg::link::create_vxlan(vxlan, uplink))
            }
            Step::CreateIfb(ifb) => {
                known.remove(&LinkRef::node(ifb.name.clone()));
                Ok(msg::link::create_ifb(ifb))
            }
            _ => Err(KernelError::new(step, "makes no link")),
        }
    }

    /// The index of the link a route names; zero where it names none; `None` where that link is gone.
    fn via_index(
        &mut self,
        step: &Step,
        ns: Ns,
        via: &Via,
        known: &mut Indexes,
    ) -> Result<Option<u32>, KernelError> {
        match via {
            Via::Link(name) | Via::Gateway { link: name, .. } => {
                self.index(step, &LinkRef { ns, name: name.clone() }, known)
            }
            Via::Nexthop(_) | Via::Unreachable => Ok(Some(0)),
        }
    }

    fn must_index(&mut self, step: &Step, link: &LinkRef, known: &mut Indexes) -> Result<u32, KernelError> {
        self.index(step, link, known)?.ok_or_else(|| no_link(step))
    }

    fn index(
        &mut self,
        step: &Step,
        link: &LinkRef,
        known: &mut Indexes,
    ) -> Result<Option<u32>, KernelError> {
        if let Some(index) = known.get(link) {
            return Ok(Some(*index));
        }
        if link.name.as_str() == "lo" {
            return Ok(Some(LOOPBACK_INDEX));
        }
        let found = facts::link(self.netlink(link.ns)?, &link.name)
            .map_err(|e| KernelError::from_io(step, &e))?
            .map(|seen| seen.index);
        if let Some(index) = found {
            known.insert(link.clone(), index);
        }
        Ok(found)
    }

    /// An interface index that nothing in `ns` has. Random, so that parallel plugins do not collide.
    fn free_index(&mut self, ns: Ns, step: &Step) -> Result<u32, KernelError> {
        let netlink = self.netlink(ns)?;
        for _ in 0..16 {
            // Seeded by the kernel once a process, and another value every time.
            let random = RandomState::new().build_hasher().finish();
            let index = FIRST_INDEX + u32::try_from(random % INDEXES).unwrap_or(0);
            let taken = netlink
                .request(msg::link::get_by_index(index))
                .map_err(|e| KernelError::from_io(step, &e))?
                .is_ok();
            if !taken {
                return Ok(index);
            }
        }
        Err(KernelError::new(step, "no free interface index"))
    }
}

impl Kernel for NetlinkKernel {
    fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
        let mut known = Indexes::new();
        let mut results = Vec::with_capacity(steps.len());
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let way = Way::of(first);
            let (batch, after) = rest.split_at(batch_length(rest));
            results.extend(match way {
                Way::Setting => self.apply_sysctls(batch),
                Way::Table => nat::apply(batch),
                Way::Tracking => batch.iter().map(conntrack::apply).collect(),
                Way::Filter => batch.iter().map(tunnel_filter::apply).collect(),
                Way::Routing => self.apply_batch(batch, &mut known),
                Way::Removal => self.apply_removals(batch, &mut known),
            });
            rest = after;
        }
        results
    }
}

/// How many of `steps` go together: one namespace, one way of asking, and nothing after a request that
/// makes a link whose index the kernel chooses.
fn batch_length(steps: &[Step]) -> usize {
    let Some(first) = steps.first() else { return 0 };
    let alike = |step: &&Step| step.ns() == first.ns() && Way::of(step) == Way::of(first);
    let length = steps.iter().take_while(alike).count();
    let ends = |at: &usize| matches!(steps[*at], Step::CreateVxlan(_) | Step::CreateIfb(_));
    (0..length).find(ends).map_or(length, |at| at + 1)
}

/// How the kernel is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through `/proc/sys`.
    Setting,
    /// Through nf_tables.
    Table,
    /// Through ctnetlink.
    Tracking,
    /// Through nf_tables, about the tunnel's senders.
    Filter,
    /// Through rtnetlink.
    Routing,
    /// Through rtnetlink as well, each on its own: what it takes away may come back by the same name, and
    /// waits are long.
    Removal,
}

impl Way {
    const fn of(step: &Step) -> Self {
        match step {
            Step::SetSysctl(..) => Self::Setting,
            Step::PutMasquerade(_)
            | Step::DropMasquerade(_)
            | Step::PutGuard
            | Step::PutHostPorts(_)
            | Step::DropHostPorts(_)
            | Step::DropTable => Self::Table,
            Step::ForgetFlows(_) => Self::Tracking,
            Step::DeleteLink(LinkRef { ns: Ns::Node, .. }) => Self::Removal,
            Step::PutSenders(_)
            | Step::DropSenders(_)
            | Step::PutTunnelFilter(_)
            | Step::DropTunnelFilter => Self::Filter,
            _ => Self::Routing,
        }
    }
}

fn write_sysctl(step: &Step) -> Result<Outcome, KernelError> {
    match step {
        Step::SetSysctl(_, key, value) => {
            sysctl::write(key, value).map_err(|e| KernelError::from_io(step, &e))
        }
        _ => Err(KernelError::new(step, "not a setting")),
    }
}

enum Prepared {
    Request(Request),
    AlreadyGone,
}

/// What is put on a link that is there.
fn about_link(step: &Step, index: u32) -> Request {
    match step {
        Step::SetLink(_, change) => msg::link::change(index, change),
        Step::PutRate(_, rate) => msg::tc::put_rate(index, *rate),
        Step::AddIngress(_) => msg::tc::add_ingress(index),
        Step::AddAddr(_, addr, scope) => msg::addr::add(index, *addr, *scope),
        Step::PutNeighbour(_, neighbour) => msg::neigh::put(index, neighbour),
        Step::PutFdb(_, fdb) => msg::neigh::put_fdb(index, fdb),
        // Asking for a link is what settles it.
        _ => msg::link::get_by_index(index),
    }
}

fn removal(step: &Step, index: u32) -> Request {
    match step {
        Step::DropIngress(_) => msg::tc::remove_ingress(index),
        Step::DropAddr(_, addr) => msg::addr::remove(index, *addr),
        Step::DropNeighbour(_, neighbour) => msg::neigh::remove(index, neighbour),
        Step::DropFdb(_, fdb) => msg::neigh::remove_fdb(index, fdb),
        _ => msg::link::delete(index),
    }
}

fn no_link(step: &Step) -> KernelError {
    KernelError::from_errno(step, ENODEV, None)
}

/// The errno table: which refusals mean that there was nothing to do.
fn read_answer(step: &Step, answer: Answer) -> Result<Outcome, KernelError> {
    let refusal = match answer {
        Ok(_) => return Ok(Outcome::Done),
        Err(refusal) => refusal,
    };
    let harmless = match step {
        // The kernel's key is (link, address, prefix length): the same key is the same address.
        // Nor can there be two rules that are the same in everything (`rule_exists`, net/core/fib_rules.c).
        Step::AddAddr(..) | Step::PutRule(..) if refusal.errno == EEXIST => Some(Outcome::AlreadySo),
        Step::DeleteLink(_) if refusal.errno == ENODEV => Some(Outcome::AlreadyGone),
        Step::DropAddr(..) if matches!(refusal.errno, EADDRNOTAVAIL | ENODEV) => Some(Outcome::AlreadyGone),
        // Another hook than ours is EINVAL (`tc_get_qdisc`, net/sched/sch_api.c).
        Step::DropIngress(_) if matches!(refusal.errno, ENOENT | EINVAL | ENODEV) => {
            Some(Outcome::AlreadyGone)
        }
        Step::DropRoute(..) if matches!(refusal.errno, ESRCH | ENODEV) => Some(Outcome::AlreadyGone),
        Step::DropNexthop(_) | Step::DropNeighbour(..) | Step::DropFdb(..) | Step::DropRule(..)
            if matches!(refusal.errno, ENOENT | ENODEV) =>
        {
            Some(Outcome::AlreadyGone)
        }
        _ => None,
    };
    harmless.ok_or_else(|| KernelError::from_errno(step, refusal.errno, refusal.detail.as_deref()))
}
