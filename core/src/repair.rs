//! Putting a running pod back to its record: only what is missing or different is asked of the kernel,
//! and what others added stays.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::attach::{
    Difference, Extras, SeenAttachment, SeenEnd, default_metric, is_same_setting, node_link, plan_node,
    plan_pod, pod_link,
};
use crate::link::Mac;
use crate::node::Attachment;
use crate::step::{AddrScope, LinkChange, LinkRef, Ns, Put, Route, Step, Via};

/// The settings inside the pod that [`plan_repair`] wants to see: keys with slashes.
#[must_use]
pub fn pod_settings(attachment: &Attachment) -> Vec<String> {
    let plan = plan_pod(attachment, &Extras::of(attachment));
    let key = |step: Step| match step {
        Step::SetSysctl(Ns::Pod, key, _) => Some(key),
        _ => None,
    };
    plan.into_iter().filter_map(key).collect()
}

/// Everything that makes the kernel what the record says, on both sides. Empty for a healthy pod. With
/// either end of the pair gone, what is left of it goes and the pair is made anew. `segment_size` is the
/// node's, where an agent says it. Limits are [`crate::shaping::plan_repair`]'s.
///
/// # Errors
/// The pod has an interface of that name which is not ours.
pub fn plan_repair(
    attachment: &Attachment,
    segment_size: Option<u32>,
    seen: &SeenAttachment,
) -> Result<Vec<Step>, Difference> {
    let extras = Extras { segment_size, ..Extras::of(attachment) };
    let (node_plan, pod_plan) = (plan_node(attachment, &extras), plan_pod(attachment, &extras));
    let (Some(node), Some(pod)) = (&seen.node, &seen.pod) else {
        let mut plan = remains(attachment, seen)?;
        plan.extend(node_plan);
        plan.extend(pod_plan);
        return Ok(plan);
    };
    let mut plan = Vec::new();
    let birth = Birth { mtu: attachment.mtu.get(), segment_size };
    plan.extend(birth.reset(node_link(attachment), node, attachment.host_mac));
    plan.extend(birth.reset(pod_link(attachment), pod, attachment.mac));
    let node = Healthy { end: node, mac: attachment.host_mac, pod: None };
    plan.extend(node_plan.into_iter().filter_map(|step| node.mend(step)));
    let pod = Healthy { end: pod, mac: attachment.mac, pod: Some(seen) };
    plan.extend(pod_plan.into_iter().filter_map(|step| pod.mend(step)));
    Ok(plan)
}

/// The node's half of [`plan_repair`], for who does not look into pods: `node` is the node's end, whose
/// segment size changes with the pod's end's only.
#[must_use]
pub fn plan_repair_node(attachment: &Attachment, node: &SeenEnd) -> Vec<Step> {
    let mut plan = Vec::new();
    let birth = Birth { mtu: attachment.mtu.get(), segment_size: None };
    plan.extend(birth.reset(node_link(attachment), node, attachment.host_mac));
    let node = Healthy { end: node, mac: attachment.host_mac, pod: None };
    plan.extend(plan_node(attachment, &Extras::default()).into_iter().filter_map(|step| node.mend(step)));
    plan
}

/// What is left of a pair of which an end was renamed or moved away.
fn remains(attachment: &Attachment, seen: &SeenAttachment) -> Result<Vec<Step>, Difference> {
    match (&seen.node, &seen.pod) {
        (Some(_), _) => Ok(vec![Step::DeleteLink(node_link(attachment))]),
        (None, Some(pod)) if pod.mac == Some(attachment.mac) => {
            Ok(vec![Step::DeleteLink(pod_link(attachment))])
        }
        (None, Some(pod)) => Err(Difference {
            object: format!("link {}", pod_link(attachment)),
            expected: format!("the end of {} with MAC {}", attachment.host_ifname, attachment.mac),
            found: format!(
                "another link with MAC {}; remove or rename it, then repair again",
                pod.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string())
            ),
        }),
        (None, None) => Ok(Vec::new()),
    }
}

/// What ADD gives both ends at birth, beside the MAC.
#[derive(Clone, Copy)]
struct Birth {
    mtu: u32,
    segment_size: Option<u32>,
}

impl Birth {
    fn reset(self, link: LinkRef, end: &SeenEnd, mac: Mac) -> Option<Step> {
        let change = LinkChange {
            mtu: (end.mtu != self.mtu).then_some(self.mtu),
            mac: (end.mac != Some(mac)).then_some(mac),
            segment_size: self.segment_size.filter(|size| !end.segments.is(*size)),
            ..LinkChange::default()
        };
        (change != LinkChange::default()).then_some(Step::SetLink(link, change))
    }
}

/// One end that is there, held against the steps that made it.
#[derive(Clone, Copy)]
struct Healthy<'a> {
    end: &'a SeenEnd,
    /// What its MAC should be.
    mac: Mac,
    /// The rest of the pod, where this is its end.
    pod: Option<&'a SeenAttachment>,
}

impl Healthy<'_> {
    /// What is left to do of `step`.
    fn mend(&self, step: Step) -> Option<Step> {
        match step {
            Step::CreateVeth(_) => None,
            Step::SetLink(link, _) if link.name.as_str() == "lo" => {
                let up = self.pod.is_none_or(|pod| pod.loopback_up);
                (!up).then_some(Step::SetLink(link, LinkChange { up: Some(true), ..LinkChange::default() }))
            }
            Step::SetLink(link, change) => self.rest_of(change).map(|change| Step::SetLink(link, change)),
            Step::AddAddr(link, address, scope) => {
                (!self.has_address(address, scope)).then_some(Step::AddAddr(link, address, scope))
            }
            Step::PutRoute(ns, route, put) => self.put_route(ns, route, put),
            Step::PutNeighbour(link, neighbour) => {
                // A new MAC makes the kernel forget the link's neighbours, permanent ones too
                // (`neigh_changeaddr`, net/core/neighbour.c).
                let kept = self.end.mac == Some(self.mac) && self.end.neighbours.contains(&neighbour);
                (!kept).then_some(Step::PutNeighbour(link, neighbour))
            }
            Step::PutTableRoute(ns, table, route) => {
                let (dst, wanted) = (route.dst, gateway(&route));
                let is_so =
                    |pod: &SeenAttachment| pod.own_routes.iter().any(|r| r.dst == dst && r.gateway == wanted);
                (!self.pod.is_some_and(is_so)).then_some(Step::PutTableRoute(ns, table, route))
            }
            Step::PutRule(ns, rule) => {
                let kept = self.pod.is_some_and(|pod| pod.rules.contains(&rule));
                (!kept).then_some(Step::PutRule(ns, rule))
            }
            Step::SetSysctl(ns, key, value) => {
                let found = self.pod.and_then(|pod| pod.sysctls.get(&key));
                let same = found.is_some_and(|found| is_same_setting(&value, found));
                (!same).then_some(Step::SetSysctl(ns, key, value))
            }
            other => Some(other),
        }
    }

    /// The settings of `change` that the link does not show. Where link-local addresses come from is not
    /// shown, and counts only while the first one is made.
    fn rest_of(&self, change: LinkChange) -> Option<LinkChange> {
        let missing = LinkChange {
            up: change.up.filter(|up| *up != self.end.up),
            alias: change.alias.filter(|alias| self.end.alias.as_ref() != Some(alias)),
            ipv4: change.ipv4.into_iter().filter(|conf| !self.end.conf.contains(conf)).collect(),
            ..LinkChange::default()
        };
        (missing != LinkChange::default()).then_some(missing)
    }

    fn has_address(&self, address: IpNetwork, scope: AddrScope) -> bool {
        self.end.addresses.iter().any(|found| match scope {
            AddrScope::Global => *found == address,
            AddrScope::Host => found.ip() == address.ip(),
        })
    }

    /// A route of ours that leads elsewhere is replaced; somebody else's of the same key is not.
    fn put_route(&self, ns: Ns, route: Route, put: Put) -> Option<Step> {
        let metric = route.metric.unwrap_or(default_metric(&route.dst));
        let mut same_key =
            self.end.routes.iter().filter(|r| r.dst == route.dst && r.metric == metric).peekable();
        let put = if same_key.peek().is_some() { Put::Replace } else { put };
        let wanted = gateway(&route);
        (!same_key.any(|found| found.gateway == wanted)).then_some(Step::PutRoute(ns, route, put))
    }
}

fn gateway(route: &Route) -> Option<IpAddr> {
    match &route.via {
        Via::Gateway { gateway, .. } => Some(*gateway),
        Via::Link(_) | Via::Nexthop(_) | Via::Unreachable => None,
    }
}

#[cfg(test)]
mod tests;
