//! `RTM_NEWRULE`, `RTM_DELRULE`, `RTM_GETRULE`: rules that choose a table by source address.

use flatnet_core::step::{ROUTE_PROTOCOL, Rule};
use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{NEW, family};
use crate::batch::Request;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

pub(crate) fn put(rule: &Rule) -> Request {
    Request::new(RTM_NEWRULE, NEW, &message(rule))
}

pub(crate) fn remove(rule: &Rule) -> Request {
    Request::new(RTM_DELRULE, 0, &message(rule))
}

/// All rules of one family.
pub(crate) fn dump(family: AddressFamily) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = family;
    Request::new(RTM_GETRULE, 0, &message)
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.from);
    message.header.src_len = IpNetwork::from(rule.from).prefix();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(rule.from),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
    ];
    message
}
