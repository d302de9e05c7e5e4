//! What all netfilter subsystems share: `struct nfgenmsg` and the forms of attributes. Numbers go over
//! the wire in network byte order.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NlasIterator};

use super::nla;
use crate::batch::Request;

/// `struct nfgenmsg` (include/uapi/linux/netfilter/nfnetlink.h) and attributes.
pub(crate) struct Message {
    pub(crate) family: u8,
    pub(crate) resource: u16,
    pub(crate) attributes: Vec<DefaultNla>,
}

/// Length of `struct nfgenmsg`.
pub(crate) const HEADER: usize = 4;

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..2].copy_from_slice(&[self.family, 0]);
        buffer[2..HEADER].copy_from_slice(&self.resource.to_be_bytes());
        self.attributes.as_slice().emit(&mut buffer[HEADER..]);
    }
}

/// A request of type `kind` about `family`.
pub(crate) fn request(kind: u16, flags: u16, family: u8, attributes: Vec<DefaultNla>) -> Request {
    Request::new(kind, flags, &Message { family, resource: 0, attributes })
}

pub(crate) fn number(kind: u16, value: u32) -> DefaultNla {
    nla(kind, &value.to_be_bytes())
}

pub(crate) fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    nla(kind, &bytes)
}

pub(crate) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    nla(kind | NLA_F_NESTED, &bytes)
}

/// The value of the first attribute of `kind`.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).flatten();
    all.find(|attribute| attribute.kind() == kind).map(|attribute| attribute.value().to_vec())
}
