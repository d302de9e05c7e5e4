//! Our nftables table: source translation of what leaves the cluster.

use std::io;

use flatnet_core::kernel::KernelError;
use flatnet_core::step::{Masquerade, Outcome, Step};
use nix::libc::{EEXIST, ENOENT, EPROTONOSUPPORT};

use crate::batch::{Netlink, Refusal, Request};
use crate::msg::nft::{self, Existing};

/// Whether the chain's rules are ours, all of them, in order, and nothing between them.
///
/// # Errors
/// The kernel has no nf_tables, or the rules cannot be read.
pub fn is_masquerading(masquerade: &Masquerade) -> io::Result<bool> {
    Ok(marks(&mut Netlink::open_netfilter()?, &masquerade.chain)? == nft::marks(masquerade))
}

fn marks(netlink: &mut Netlink, chain: &str) -> io::Result<Vec<Vec<u8>>> {
    netlink.dump(&nft::dump_rules(chain), |body| Ok(Some(nft::mark(body)?)))
}

/// Applies one step about the table, in the namespace of the calling thread.
pub(crate) fn apply(step: &Step) -> Result<Outcome, KernelError> {
    let failed = |e: io::Error| KernelError::from_io(step, &e);
    let refused = |r: Refusal| KernelError::from_errno(step, r.errno, r.detail.as_deref());
    let opened = Netlink::open_netfilter();
    let removed = match (step, opened) {
        (Step::PutMasquerade(masquerade), opened) => {
            return put(&mut opened.map_err(failed)?, masquerade).map_err(failed)?.map_err(refused);
        }
        (Step::DropMasquerade(chain), Ok(netlink)) => remove(netlink, nft::delete_chain(chain)),
        (Step::DropTable, Ok(netlink)) => remove(netlink, nft::delete_table()),
        // A kernel without nf_tables has nothing of ours in it.
        (_, Err(e)) if e.raw_os_error() == Some(EPROTONOSUPPORT) => return Ok(Outcome::AlreadyGone),
        (_, Err(e)) => return Err(failed(e)),
        (_, Ok(_)) => return Err(KernelError::new(step, "not about the nftables table")),
    };
    match removed.map_err(failed)? {
        Err(refusal) if refusal.errno != ENOENT => Err(refused(refusal)),
        Err(_) => Ok(Outcome::AlreadyGone),
        Ok(()) => Ok(Outcome::Done),
    }
}

/// Makes the chain where it is not, and rewrites it only where its rules are others: of many that find
/// none at once, one makes it and the rest find it made.
fn put(netlink: &mut Netlink, masquerade: &Masquerade) -> io::Result<Result<Outcome, Refusal>> {
    let wanted = nft::marks(masquerade);
    let mut existing = Existing::Refuse;
    loop {
        let seen = marks(netlink, &masquerade.chain)?;
        if seen == wanted {
            return Ok(Ok(Outcome::AlreadySo));
        }
        if !seen.is_empty() {
            existing = Existing::Rewrite;
        }
        match transact(netlink, nft::put_masquerade(masquerade, existing))? {
            Ok(()) => return Ok(Ok(Outcome::Done)),
            Err(refusal) if refusal.errno == EEXIST && existing == Existing::Refuse => {
                existing = Existing::Rewrite;
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
}

fn remove(mut netlink: Netlink, request: Request) -> io::Result<Result<(), Refusal>> {
    transact(&mut netlink, vec![request])
}

fn transact(netlink: &mut Netlink, requests: Vec<Request>) -> io::Result<Result<(), Refusal>> {
    let (begin, end) = nft::frame();
    let answers = netlink.transaction(begin, requests, end)?;
    Ok(answers.into_iter().find_map(Result::err).map_or(Ok(()), Err))
}
