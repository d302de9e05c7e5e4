//! Traffic control (include/uapi/linux/pkt_sched.h, pkt_cls.h): a token bucket, and a hook that sends what
//! arrives on a link through another one.

use flatnet_core::rate::Rate;
use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NlasIterator};

use super::{NEW, PUT, nla};
use crate::batch::Request;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// The only handle the hook can have.
const INGRESS_HANDLE: u32 = 0xffff_0000;
const TBF_HANDLE: u32 = 0x0001_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Packets count with their Ethernet header; no table of times is needed (`TC_LINKLAYER_ETHERNET`).
const ETHERNET: u8 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_MIRRED_PARMS: u16 = 2;

/// `struct tcmsg` and attributes.
struct Message {
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
    attributes: Vec<DefaultNla>,
}

const TCMSG: usize = 20;

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        TCMSG + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..4].fill(0);
        for (i, word) in [self.index, self.handle, self.parent, self.info].into_iter().enumerate() {
            buffer[4 + 4 * i..8 + 4 * i].copy_from_slice(&word.to_ne_bytes());
        }
        self.attributes.as_slice().emit(&mut buffer[TCMSG..]);
    }
}

/// A token bucket at the root of a link, in place of what was there.
pub(crate) fn put_rate(index: u32, rate: Rate) -> Request {
    let bytes = rate.bytes_per_second();
    let slow = u32::try_from(bytes).unwrap_or(u32::MAX);
    // struct tc_tbf_qopt: struct tc_ratespec twice (rate, peak rate), then limit, buffer, mtu.
    let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parms.extend(slow.to_ne_bytes());
    parms.resize(24, 0);
    parms.extend(rate.queue_bytes().to_ne_bytes());
    parms.resize(36, 0);
    let mut options = vec![nla(TCA_TBF_PARMS, &parms), nla(TCA_TBF_BURST, &rate.burst_bytes.to_ne_bytes())];
    if bytes > u64::from(slow) {
        options.push(nla(TCA_TBF_RATE64, &bytes.to_ne_bytes()));
    }
    let attributes = vec![kind("tbf"), nested(TCA_OPTIONS, &options)];
    let message = Message { index, handle: TBF_HANDLE, parent: TC_H_ROOT, info: 0, attributes };
    Request::new(RTM_NEWQDISC, PUT, &message)
}

/// The hook for what arrives.
pub(crate) fn add_ingress(index: u32) -> Request {
    let attributes = vec![kind("ingress")];
    let message = Message { index, handle: INGRESS_HANDLE, parent: TC_H_INGRESS, info: 0, attributes };
    Request::new(RTM_NEWQDISC, NEW, &message)
}

/// Takes that hook away; its classifiers go with it.
pub(crate) fn remove_ingress(index: u32) -> Request {
    let attributes = vec![kind("ingress")];
    let message = Message { index, handle: INGRESS_HANDLE, parent: TC_H_INGRESS, info: 0, attributes };
    Request::new(RTM_DELQDISC, 0, &message)
}

/// Sends all that arrives on `index` through link `to`. The u32 classifier, matching anything, is in every
/// kernel that has classifiers.
pub(crate) fn redirect(index: u32, to: u32) -> Request {
    const PRIORITY: u32 = 1;
    const TC_U32_TERMINAL: u8 = 1;
    const TC_ACT_STOLEN: u32 = 4;
    const TCA_EGRESS_REDIR: u32 = 1;
    let every_protocol = u32::from(u16::to_be(3)); // ETH_P_ALL
    // struct tc_u32_sel with one key: the packet's first word under an empty mask.
    let mut selector = vec![0; 16 + 16];
    selector[0] = TC_U32_TERMINAL;
    selector[2] = 1;
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mirred: Vec<u8> = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to]
        .iter()
        .flat_map(|w: &u32| w.to_ne_bytes())
        .collect();
    let action = [kind("mirred"), nested(TCA_OPTIONS, &[nla(TCA_MIRRED_PARMS, &mirred)])];
    let options = [nla(TCA_U32_SEL, &selector), nested(TCA_U32_ACT, &[nested(1, &action)])];
    let attributes = vec![kind("u32"), nested(TCA_OPTIONS, &options)];
    let info = PRIORITY << 16 | every_protocol;
    Request::new(RTM_NEWTFILTER, NEW, &Message { index, handle: 0, parent: INGRESS_HANDLE, info, attributes })
}

/// All queueing disciplines; the kernel does not filter by link.
pub(crate) fn dump_qdiscs() -> Request {
    let message = Message { index: 0, handle: 0, parent: 0, info: 0, attributes: Vec::new() };
    Request::new(RTM_GETQDISC, 0, &message)
}

/// Classifiers of what arrives on a link.
pub(crate) fn dump_filters(index: u32) -> Request {
    let message = Message { index, handle: 0, parent: INGRESS_HANDLE, info: 0, attributes: Vec::new() };
    Request::new(RTM_GETTFILTER, 0, &message)
}

/// The token bucket at the root of link `index`, if the body is about it.
pub(crate) fn read_rate(body: &[u8], index: u32) -> Result<Option<Rate>, DecodeError> {
    /// Nanoseconds in a tick (`PSCHED_SHIFT`, include/net/pkt_sched.h).
    const TICK: u128 = 64;
    if word(body, 4) != Some(index) || word(body, 12) != Some(TC_H_ROOT) {
        return Ok(None);
    }
    let Some(options) = options(body, "tbf")? else { return Ok(None) };
    let parms = attribute(&options, TCA_TBF_PARMS)?.unwrap_or_default();
    let (Some(slow), Some(ticks)) = (word(&parms, 8), word(&parms, 28)) else { return Ok(None) };
    let fast =
        attribute(&options, TCA_TBF_RATE64)?.and_then(|b| Some(u64::from_ne_bytes(b.try_into().ok()?)));
    let bytes = fast.unwrap_or(u64::from(slow));
    let burst = u128::from(ticks) * TICK * u128::from(bytes) / 1_000_000_000;
    let burst_bytes = u32::try_from(burst).unwrap_or(u32::MAX);
    Ok(Some(Rate { bits_per_second: bytes.saturating_mul(8), burst_bytes }))
}

/// Where a classifier sends everything; `None` for any other.
pub(crate) fn read_redirect(body: &[u8], index: u32) -> Result<Option<u32>, DecodeError> {
    if word(body, 4) != Some(index) {
        return Ok(None);
    }
    let Some(options) = options(body, "u32")? else { return Ok(None) };
    let Some(actions) = attribute(&options, TCA_U32_ACT)? else { return Ok(None) };
    let Some(action) = attribute(&actions, 1)? else { return Ok(None) };
    let Some(action) = attribute(&action, TCA_OPTIONS)? else { return Ok(None) };
    Ok(attribute(&action, TCA_MIRRED_PARMS)?.and_then(|mirred| word(&mirred, 24)))
}

fn options(body: &[u8], of_kind: &str) -> Result<Option<Vec<u8>>, DecodeError> {
    let attributes = body.get(TCMSG..).unwrap_or_default();
    let found = attribute(attributes, TCA_KIND)?.unwrap_or_default();
    if found.strip_suffix(&[0]) != Some(of_kind.as_bytes()) {
        return Ok(None);
    }
    attribute(attributes, TCA_OPTIONS)
}

fn attribute(attributes: &[u8], wanted: u16) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == wanted {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn kind(name: &str) -> DefaultNla {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    nla(TCA_KIND, &bytes)
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    nla(kind | NLA_F_NESTED, &bytes)
}
