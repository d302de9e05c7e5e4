//! One step, one message: resolves names to indexes, sends batches, and reads the errno table.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;

use flatnet_core::kernel::{Kernel, KernelError};
use flatnet_core::step::{LinkRef, Ns, Outcome, Step, Via};
use nix::libc::{EADDRNOTAVAIL, EEXIST, ENODEV, ENOENT, ESRCH};

use crate::batch::{Answer, Netlink, Request};
use crate::netns::{NetnsError, NetnsFd};
use crate::{facts, msg, nat, sysctl};

/// Explicit interface indexes are drawn from here on up to `i32::MAX`, far above the kernel's own counter.
const FIRST_INDEX: u32 = 1 << 20;

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

    fn prepare(&mut self, step: &Step, known: &mut Indexes) -> Result<Prepared, KernelError> {
        let request = match step {
            Step::CreateVeth(veth) => {
                let host = self.free_index(Ns::Node, step)?;
                let pod = self.free_index(Ns::Pod, step)?;
                known.insert(LinkRef::node(veth.host.clone()), host);
                known.insert(LinkRef::pod(veth.pod.clone()), pod);
                msg::link::create_veth(veth, host, pod, self.pod_fd())
            }
            Step::CreateVxlan(vxlan) => {
                known.remove(&LinkRef::node(vxlan.name.clone()));
                let uplink = self.must_index(step, &LinkRef::node(vxlan.uplink.clone()), known)?;
                msg::link::create_vxlan(vxlan, uplink)
            }
            Step::SetLink(link, change) => msg::link::change(self.must_index(step, link, known)?, change),
            Step::AddAddr(link, addr, scope) => {
                msg::addr::add(self.must_index(step, link, known)?, *addr, *scope)
            }
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
            Step::PutNeighbour(link, n) => msg::neigh::put(self.must_index(step, link, known)?, n),
            Step::PutFdb(link, fdb) => msg::neigh::put_fdb(self.must_index(step, link, known)?, fdb),
            Step::DropNexthop(nexthop) => msg::nexthop::remove(nexthop),
            Step::DropRoute(ns, route) => match self.via_index(step, *ns, &route.via, known)? {
                Some(index) => msg::route::remove(route, index),
                None => return Ok(Prepared::AlreadyGone),
            },
            Step::DeleteLink(link)
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
            Step::SetSysctl(..) | Step::PutMasquerade(_) | Step::DropMasquerade(_) | Step::DropTable => {
                return Err(KernelError::new(step, "not an rtnetlink request"));
            }
        };
        Ok(Prepared::Request(request))
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
            let random = getrandom::u32().map_err(|e| KernelError::new(step, e))?;
            let index = (random >> 1).max(FIRST_INDEX);
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
                Way::Table => batch.iter().map(nat::apply).collect(),
                Way::Routing => self.apply_batch(batch, &mut known),
            });
            rest = after;
        }
        results
    }
}

/// How many of `steps` go together: one namespace, one way of asking, and nothing after a request that
/// makes a link whose index the kernel chooses, or takes away one whose name may come back.
fn batch_length(steps: &[Step]) -> usize {
    let Some(first) = steps.first() else { return 0 };
    let alike = |step: &&Step| step.ns() == first.ns() && Way::of(step) == Way::of(first);
    let length = steps.iter().take_while(alike).count();
    let ends = |at: &usize| match (&steps[*at], steps.get(at + 1)) {
        (Step::CreateVxlan(_), _) => true,
        (Step::DeleteLink(_), next) => !matches!(next, Some(Step::DeleteLink(_))),
        _ => false,
    };
    (0..length).find(ends).map_or(length, |at| at + 1)
}

/// How the kernel is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through `/proc/sys`.
    Setting,
    /// Through nf_tables.
    Table,
    /// Through rtnetlink.
    Routing,
}

impl Way {
    const fn of(step: &Step) -> Self {
        match step {
            Step::SetSysctl(..) => Self::Setting,
            Step::PutMasquerade(_) | Step::DropMasquerade(_) | Step::DropTable => Self::Table,
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

fn removal(step: &Step, index: u32) -> Request {
    match step {
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
