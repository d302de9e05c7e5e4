//! Elements of the maps that lead ports of the node to pods.
//!
//! Whether a port is free depends on more than one element: a port on all addresses and one on a single
//! address are in each other's way, in different maps. So who adds looks first, and its transaction counts
//! only if nothing has changed since (`NFNL_BATCH_GENID`).

use std::io;

use flatnet_core::hostport::{Element, Held, Holding, PodPorts};
use flatnet_core::kernel::KernelError;
use flatnet_core::step::{Outcome, Step};
use nix::libc::{EAGAIN, EEXIST, ENOENT, ERESTART};

use super::Table;
use crate::batch::{Netlink, Refusal};
use crate::msg::nft::element::{self, set_of};
use crate::msg::nft::{self, Set};

/// Each time round somebody else's change went through.
const ATTEMPTS: usize = 500;

/// All elements of our maps and sets; none where the table is not there.
///
/// # Errors
/// The kernel has no nf_tables, or an answer cannot be read.
pub fn elements() -> io::Result<Vec<Held>> {
    dump(&mut Netlink::open_netfilter()?, &element::ALL)
}

/// Elements of others that keep a pod from having its own.
///
/// # Errors
/// The kernel has no nf_tables, or an answer cannot be read.
pub fn conflicts(asked: &PodPorts) -> io::Result<Vec<Held>> {
    let seen = look(&mut Netlink::open_netfilter()?, asked)?;
    Ok(asked.conflicts(&seen.held).cloned().collect())
}

fn dump(netlink: &mut Netlink, sets: &[Set]) -> io::Result<Vec<Held>> {
    let mut all = Vec::new();
    for set in sets {
        match netlink.dump(&element::dump(set), |body| element::parse(set, body).map(Some)) {
            Ok(messages) => all.extend(messages.into_iter().flatten()),
            Err(e) if e.raw_os_error() == Some(ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

/// What was there, and when.
struct Look {
    generation: Option<u32>,
    held: Vec<Held>,
}

/// Everything that could be in the way of `asked`, and its own.
fn look(netlink: &mut Netlink, asked: &PodPorts) -> io::Result<Look> {
    let mut questions: Vec<Element> = asked.elements.clone();
    let mut whole = Vec::new();
    for element in &asked.elements {
        match *element {
            Element::Port { protocol, at: Some(_), port, pod, pod_port } => {
                questions.push(Element::Port { protocol, at: None, port, pod, pod_port });
            }
            // On any one address: only the whole map tells.
            Element::Port { pod, .. } => {
                whole.push(if pod.is_ipv4() { element::ONE4 } else { element::ONE6 })
            }
            Element::Hairpin(_) => {}
        }
    }
    whole.dedup_by_key(|set| set.name);
    let mut requests = vec![nft::get_generation()];
    requests.extend(questions.iter().map(element::get));
    let mut answers = netlink.batch(&requests)?.into_iter();
    let first = answers.next().and_then(Result::ok).unwrap_or_default();
    let generation = first.first().and_then(|body| nft::generation(body));
    let mut held = Vec::new();
    for (question, answer) in questions.iter().zip(answers) {
        // No table, no map, no element: nothing is there.
        for body in answer.unwrap_or_default() {
            let parsed = element::parse(&set_of(question), &body);
            held.extend(parsed.map_err(|e| io::Error::other(format!("netlink: {e}")))?);
        }
    }
    held.extend(dump(netlink, &whole)?);
    Ok(Look { generation, held })
}

impl Table {
    /// Makes the chains and maps where they are not, and adds the elements that are missing, all or none.
    pub(super) fn put_ports(&mut self, step: &Step, asked: &PodPorts) -> Result<Outcome, KernelError> {
        let failed = |e: io::Error| KernelError::from_io(step, &e);
        let mut ready = false;
        for _ in 0..ATTEMPTS {
            if !ready {
                self.put_chains(step).map_err(failed)?.map_err(|refusal| super::refused(step, &refusal))?;
                ready = true;
            }
            let seen = look(&mut self.netlink, asked).map_err(failed)?;
            if let Some(held) = asked.conflicts(&seen.held).next() {
                let who = format!("{} is held by {}", held.element, held.holder_text());
                return Err(KernelError::from_errno(step, EEXIST, Some(&who)));
            }
            let missing =
                asked.elements.iter().filter(|own| !seen.held.iter().any(|held| held.element == **own));
            let mut requests = Vec::new();
            for own in missing {
                // What is left of an earlier interface of the same name.
                let stale = seen.held.iter().find(|held| held.element.same_key(own));
                requests.extend(stale.map(|held| element::remove(&held.element)));
                requests.push(element::add(own, &asked.comment));
            }
            if requests.is_empty() {
                return Ok(Outcome::AlreadySo);
            }
            match self.transact(seen.generation, requests).map_err(failed)? {
                Ok(()) => return Ok(Outcome::Done),
                Err(Refusal { errno: ERESTART | EEXIST, .. }) => {}
                Err(Refusal { errno: ENOENT, .. }) => {
                    // Somebody took the table away.
                    self.rules = None;
                    ready = false;
                }
                Err(refusal) => return Err(super::refused(step, &refusal)),
            }
        }
        Err(KernelError::from_errno(step, EAGAIN, Some("the nftables tables keep changing")))
    }

    /// Removes what is there of `holding`, all in one transaction: each waits for a grace period.
    pub(super) fn drop_ports(&mut self, holding: &Holding) -> io::Result<Result<Outcome, Refusal>> {
        for _ in 0..ATTEMPTS {
            let generation = match holding {
                // Nobody else adds or removes elements of a holder while it is taken away.
                Holding::Of(_) => None,
                Holding::These(_) => generation(&mut self.netlink)?,
            };
            let seen = dump(&mut self.netlink, &element::ALL)?;
            let requests: Vec<_> = seen
                .iter()
                .filter(|held| holding.includes(held))
                .map(|held| element::remove(&held.element))
                .collect();
            if requests.is_empty() {
                return Ok(Ok(Outcome::AlreadyGone));
            }
            match self.transact(generation, requests)? {
                Ok(()) => return Ok(Ok(Outcome::Done)),
                Err(Refusal { errno: ERESTART | ENOENT, .. }) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(Err(Refusal { errno: EAGAIN, detail: Some("the nftables tables keep changing".to_owned()) }))
    }
}

fn generation(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let answer = netlink.request(nft::get_generation())?.unwrap_or_default();
    Ok(answer.first().and_then(|body| nft::generation(body)))
}
