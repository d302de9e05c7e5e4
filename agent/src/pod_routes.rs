//! Routes to this node's own pods are the plugin's, but it is gone when somebody flushes them. A route that
//! was seen and is missing while its link is still there is put back. Only those: between the making of a
//! link and of its route the plugin is at work.

use std::collections::{HashMap, HashSet};

use flatnet_core::names::IfName;
use flatnet_core::step::{Ns, Put, Route, Step, Via};
use ipnetwork::IpNetwork;

/// This node's pods as the kernel shows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenPods {
    /// The node's ends of their links.
    pub(crate) links: Vec<IfName>,
    /// Routes to them, each through the node's end of the pod's link.
    pub(crate) routes: Vec<(IpNetwork, IfName)>,
}

/// Routes that were seen, by their link.
#[derive(Debug, Default)]
pub(crate) struct PodRoutes(HashMap<IfName, HashSet<IpNetwork>>);

impl PodRoutes {
    /// The steps that put back what was seen before and is missing now.
    pub(crate) fn missing(&mut self, seen: &SeenPods) -> Vec<Step> {
        let links: HashSet<&IfName> = seen.links.iter().collect();
        self.0.retain(|link, _| links.contains(link));
        let have: HashSet<(&IfName, IpNetwork)> =
            seen.routes.iter().map(|(dst, link)| (link, *dst)).collect();
        let known = self.0.iter().flat_map(|(link, all)| all.iter().map(move |dst| (link, *dst)));
        let mut lost: Vec<(&IfName, IpNetwork)> = known.filter(|route| !have.contains(route)).collect();
        lost.sort();
        let put = |(link, dst): (&IfName, IpNetwork)| {
            let route = Route { dst, via: Via::Link(link.clone()), source: None, metric: None };
            Step::PutRoute(Ns::Node, route, Put::New)
        };
        let steps = lost.into_iter().map(put).collect();
        for (dst, link) in &seen.routes {
            self.0.entry(link.clone()).or_default().insert(*dst);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(links: &[&str], routes: &[(&str, &str)]) -> SeenPods {
        let route = |(dst, link): &(&str, &str)| (dst.parse().unwrap(), link.parse().unwrap());
        SeenPods {
            links: links.iter().map(|link| link.parse().unwrap()).collect(),
            routes: routes.iter().map(route).collect(),
        }
    }

    #[test]
    fn only_what_was_there_and_still_has_its_link_comes_back() {
        let mut routes = PodRoutes::default();
        let missing = |routes: &mut PodRoutes, seen: &SeenPods| {
            routes.missing(seen).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let both = [("10.244.1.5/32", "fna"), ("fd00::5/128", "fna")];
        // A link without a route: its plugin is at work.
        assert_eq!(missing(&mut routes, &seen(&["fna"], &[])), [""; 0]);
        assert_eq!(missing(&mut routes, &seen(&["fna"], &both)), [""; 0]);
        assert_eq!(
            missing(&mut routes, &seen(&["fna"], &both[1..])),
            ["add route 10.244.1.5/32 dev fna on node"]
        );
        assert_eq!(missing(&mut routes, &seen(&[], &[])), [""; 0], "the pod is gone");
        assert_eq!(missing(&mut routes, &seen(&["fna"], &[])), [""; 0], "another pod of that name");
    }
}
