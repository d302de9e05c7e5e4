//! Whom the tunnel hears: the sets of peers' addresses and the chain that drops VXLAN of all others, in our
//! nftables table.

use std::io;

use flatnet_core::kernel::KernelError;
use flatnet_core::link::Underlay;
use flatnet_core::overlay::filter::{FilterSeen, Senders, TunnelFilter};
use flatnet_core::step::{Outcome, Step};
use nix::libc::{ENOENT, EPROTONOSUPPORT};

use crate::batch::{Netlink, Refusal, Request};
use crate::msg::nft::{self, SeenRule, senders};

/// Reads what is there; nothing where the kernel has no nf_tables.
pub(crate) fn read() -> io::Result<FilterSeen> {
    let mut netlink = match Netlink::open_netfilter() {
        Ok(netlink) => netlink,
        Err(e) if e.raw_os_error() == Some(EPROTONOSUPPORT) => return Ok(FilterSeen::default()),
        Err(e) => return Err(e),
    };
    let marks = netlink.dump(&nft::dump_rules(), |body| {
        let rule = SeenRule::parse(body)?;
        Ok((rule.chain == senders::CHAIN).then(|| rule.comment()))
    })?;
    let mut seen = FilterSeen { marks, senders: Vec::new() };
    for underlay in [Underlay::V4, Underlay::V6] {
        match netlink.dump(&senders::dump(underlay), |body| Ok(Some(senders::parse(body)))) {
            Ok(messages) => seen.senders.extend(messages.into_iter().flatten()),
            Err(e) if e.raw_os_error() == Some(ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(seen)
}

/// Names of the chains of our table; none where the kernel has no nf_tables.
pub(crate) fn chains() -> io::Result<Vec<String>> {
    match Netlink::open_netfilter() {
        Ok(mut netlink) => netlink.dump(&senders::dump_chains(), |body| Ok(senders::own_chain(body))),
        Err(e) if e.raw_os_error() == Some(EPROTONOSUPPORT) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Applies one step about it, in the namespace of the calling thread.
pub(crate) fn apply(step: &Step) -> Result<Outcome, KernelError> {
    let failed = |e: io::Error| KernelError::from_io(step, &e);
    let mut netlink = match Netlink::open_netfilter() {
        Ok(netlink) => netlink,
        Err(e) if e.raw_os_error() == Some(EPROTONOSUPPORT) => {
            let remedy = "this kernel has no nf_tables; load it, or set backend.peersOnly to false";
            return match step {
                Step::DropTunnelFilter | Step::DropSenders(_) => Ok(Outcome::AlreadyGone),
                _ => Err(KernelError::new(step, remedy)),
            };
        }
        Err(e) => return Err(failed(e)),
    };
    let done = match step {
        Step::PutSenders(senders) => put_senders(&mut netlink, senders),
        Step::DropSenders(senders) => drop_senders(&mut netlink, senders),
        Step::PutTunnelFilter(filter) => put_filter(&mut netlink, filter),
        Step::DropTunnelFilter => drop_filter(&mut netlink),
        _ => return Err(KernelError::new(step, "not about the tunnel's filter")),
    };
    done.map_err(failed)?
        .map(|()| Outcome::Done)
        .map_err(|r| KernelError::from_errno(step, r.errno, r.detail.as_deref()))
}

type Done = io::Result<Result<(), Refusal>>;

fn transact(netlink: &mut Netlink, requests: Vec<Request>) -> Done {
    let (begin, end) = nft::frame(None);
    let answers = netlink.transaction(begin, requests, end)?;
    Ok(answers.into_iter().find_map(Result::err).map_or(Ok(()), Err))
}

fn put_senders(netlink: &mut Netlink, new: &Senders) -> Done {
    if let Err(refusal) = transact(netlink, senders::put_set(new.underlay))? {
        return Ok(Err(refusal));
    }
    for some in new.addresses.chunks(senders::ELEMENTS) {
        if let Err(refusal) = transact(netlink, vec![senders::add(new.underlay, some)])? {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(()))
}

fn drop_senders(netlink: &mut Netlink, old: &Senders) -> Done {
    for some in old.addresses.chunks(senders::ELEMENTS) {
        match transact(netlink, vec![senders::remove(old.underlay, some)])? {
            // One that is gone makes the whole transaction fail: the rest goes one by one.
            Err(refusal) if refusal.errno == ENOENT => {
                for one in some {
                    let done = transact(netlink, vec![senders::remove(old.underlay, &[*one])])?;
                    if let Err(refusal) = done
                        && refusal.errno != ENOENT
                    {
                        return Ok(Err(refusal));
                    }
                }
            }
            Err(refusal) => return Ok(Err(refusal)),
            Ok(()) => {}
        }
    }
    Ok(Ok(()))
}

fn put_filter(netlink: &mut Netlink, filter: &TunnelFilter) -> Done {
    transact(netlink, senders::put_chain(filter))
}

fn drop_filter(netlink: &mut Netlink) -> Done {
    for requests in senders::remove_all() {
        if let Err(refusal) = transact(netlink, requests)?
            && refusal.errno != ENOENT
        {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(()))
}
