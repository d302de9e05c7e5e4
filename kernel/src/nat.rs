//! Our nftables table: source translation of what leaves the cluster.

use std::io;

use flatnet_core::kernel::KernelError;
use flatnet_core::step::{Masquerade, Outcome, Step};
use nix::libc::ENOENT;

use crate::batch::Netlink;
use crate::msg::nft;

/// Whether the chain's rules are ours, all of them, in order, and nothing between them.
///
/// # Errors
/// The kernel has no nf_tables, or the rules cannot be read.
pub fn is_masquerading(masquerade: &Masquerade) -> io::Result<bool> {
    matches(&mut Netlink::open_netfilter()?, masquerade)
}

fn matches(netlink: &mut Netlink, masquerade: &Masquerade) -> io::Result<bool> {
    let seen = netlink.dump(&nft::dump_rules(&masquerade.chain), |body| Ok(Some(nft::mark(body)?)))?;
    Ok(seen == nft::marks(masquerade))
}

/// Applies one step about the table, in the namespace of the calling thread.
pub(crate) fn apply(step: &Step) -> Result<Outcome, KernelError> {
    let failed = |e: io::Error| KernelError::from_io(step, &e);
    let mut netlink = Netlink::open_netfilter().map_err(failed)?;
    let requests = match step {
        Step::PutMasquerade(masquerade) if matches(&mut netlink, masquerade).map_err(failed)? => {
            return Ok(Outcome::AlreadySo);
        }
        Step::PutMasquerade(masquerade) => nft::put_masquerade(masquerade),
        Step::DropTable => vec![nft::delete_table()],
        _ => return Err(KernelError::new(step, "not about the nftables table")),
    };
    let (begin, end) = nft::frame();
    let answers = netlink.transaction(begin, requests, end).map_err(failed)?;
    match answers.into_iter().find_map(Result::err) {
        None => Ok(Outcome::Done),
        Some(refusal) if *step == Step::DropTable && refusal.errno == ENOENT => Ok(Outcome::AlreadyGone),
        Some(refusal) => Err(KernelError::from_errno(step, refusal.errno, refusal.detail.as_deref())),
    }
}
