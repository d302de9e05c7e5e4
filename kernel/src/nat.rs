//! Our nftables table: source translation of what leaves the cluster, the guard against pods' packets, and
//! the ports of the node that lead to pods.

mod chains;
mod ports;

use std::io;

use flatnet_core::kernel::KernelError;
use flatnet_core::step::{Outcome, Step};
use nix::libc::{EEXIST, ENOENT, EPROTONOSUPPORT};

use crate::batch::{Netlink, Refusal, Request};
use crate::msg::nft::element;
use crate::msg::nft::{self, Chain, Existing, SeenRule};

pub use ports::{conflicts, elements};

/// Of the chains that `steps` ask for the first that is not so: a rule is missing, in another place, or
/// changed under its comment.
///
/// # Errors
/// The kernel has no nf_tables, or the rules cannot be read.
pub fn changed_chain(steps: &[Step]) -> io::Result<Option<String>> {
    let seen = rules(&mut Netlink::open_netfilter()?)?;
    let mut wanted = steps.iter().flat_map(chains::of);
    Ok(wanted.find(|chain| !stands(chain, &seen)).map(|chain| chain.name))
}

fn rules(netlink: &mut Netlink) -> io::Result<Vec<SeenRule>> {
    netlink.dump(&nft::dump_rules(), |body| SeenRule::parse(body).map(Some))
}

fn stands(chain: &Chain, seen: &[SeenRule]) -> bool {
    let mut here = seen.iter().filter(|rule| rule.chain == chain.name);
    let all = chain.rules.iter().all(|rule| here.next().is_some_and(|seen| seen.is(rule)));
    all && here.next().is_none()
}

/// The table, for as long as neighbouring steps about it take. What is in its chains is read once.
struct Table {
    netlink: Netlink,
    rules: Option<Vec<SeenRule>>,
}

/// Applies neighbouring steps about the table, in the namespace of the calling thread.
pub(crate) fn apply(steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
    let mut table = match Netlink::open_netfilter() {
        Ok(netlink) => Table { netlink, rules: None },
        Err(e) => return steps.iter().map(|step| without_nftables(step, &e)).collect(),
    };
    steps.iter().map(|step| table.apply(step)).collect()
}

/// A kernel without nf_tables has nothing of ours in it.
fn without_nftables(step: &Step, error: &io::Error) -> Result<Outcome, KernelError> {
    let removes = matches!(step, Step::DropMasquerade(_) | Step::DropHostPorts(_) | Step::DropTable);
    if removes && error.raw_os_error() == Some(EPROTONOSUPPORT) {
        return Ok(Outcome::AlreadyGone);
    }
    Err(KernelError::from_io(step, error))
}

impl Table {
    fn apply(&mut self, step: &Step) -> Result<Outcome, KernelError> {
        let done = match step {
            Step::PutMasquerade(_) | Step::PutGuard => self.put_chains(step),
            Step::PutHostPorts(asked) => return self.put_ports(step, asked),
            Step::DropHostPorts(holding) => self.drop_ports(holding),
            Step::DropMasquerade(chain) => self.remove(nft::delete_chain(chain)),
            Step::DropTable => self.remove(nft::delete_table()),
            _ => return Err(KernelError::new(step, "not about the nftables table")),
        };
        let done = done.map_err(|e| KernelError::from_io(step, &e))?;
        done.map_err(|refusal| refused(step, &refusal))
    }

    /// Makes the chains where they are not, and rewrites them only where their rules are others: of many
    /// that find none at once, one makes them and the rest find them made.
    fn put_chains(&mut self, step: &Step) -> io::Result<Result<Outcome, Refusal>> {
        let wanted = chains::of(step);
        let mut existing = Existing::Refuse;
        loop {
            let seen = match self.rules.take() {
                Some(seen) => seen,
                None => rules(&mut self.netlink)?,
            };
            if wanted.iter().all(|chain| stands(chain, &seen)) {
                self.rules = Some(seen);
                return Ok(Ok(Outcome::AlreadySo));
            }
            if wanted.iter().any(|chain| seen.iter().any(|rule| rule.chain == chain.name)) {
                existing = Existing::Rewrite;
            }
            let mut requests = vec![nft::make_table()];
            if matches!(step, Step::PutHostPorts(_)) {
                requests.extend(element::ALL.iter().map(nft::make_set));
            }
            requests.extend(wanted.iter().flat_map(|chain| nft::make_chain(chain, existing)));
            match self.transact(None, requests)? {
                Ok(()) => return Ok(Ok(Outcome::Done)),
                Err(refusal) if refusal.errno == EEXIST && existing == Existing::Refuse => {
                    existing = Existing::Rewrite;
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }

    fn remove(&mut self, request: Request) -> io::Result<Result<Outcome, Refusal>> {
        self.rules = None;
        Ok(match self.transact(None, vec![request])? {
            Ok(()) => Ok(Outcome::Done),
            Err(refusal) if refusal.errno == ENOENT => Ok(Outcome::AlreadyGone),
            Err(refusal) => Err(refusal),
        })
    }

    /// All or nothing; with a `generation` only where nothing has changed since.
    fn transact(
        &mut self,
        generation: Option<u32>,
        requests: Vec<Request>,
    ) -> io::Result<Result<(), Refusal>> {
        let (begin, end) = nft::frame(generation);
        let answers = self.netlink.transaction(begin, requests, end)?;
        Ok(answers.into_iter().find_map(Result::err).map_or(Ok(()), Err))
    }
}

fn refused(step: &Step, refusal: &Refusal) -> KernelError {
    let hint = (refusal.errno == ENOENT && matches!(step, Step::PutGuard))
        .then_some("does the kernel have CONFIG_NFT_FIB_INET?");
    KernelError::from_errno(step, refusal.errno, refusal.detail.as_deref().or(hint))
}
