//! An interface beside another one in the same pod. The pod's main table sends by destination alone, so an
//! answer would leave through the other interface, whose node's end takes no packets from an address that
//! is not its own. So every further interface has a table of its own, used for whatever its addresses
//! send, and its routes in the main table come after those of the first.

use crate::attach::{Extras, pod_routes};
use crate::link::AttachmentIds;
use crate::node::Attachment;
use crate::step::{Ns, Route, Rule, Step};

/// Priority of our rules: before the main table's (32766), after what is meant to come first.
const PRIORITY: u32 = 1000;
/// Distance between the metrics of interfaces; the first of them has the families' defaults, which are
/// not larger.
const STEP: u32 = 1024;
/// Tables of our own begin here: far above those that people number by hand.
const FIRST_TABLE: u32 = 1 << 24;

/// The metric for a further interface's routes, given those of the default routes that the pod has;
/// `None` where the interface can have the plain ones.
#[must_use]
pub fn metric_beside(taken: &[u32]) -> Option<u32> {
    if taken.iter().all(|metric| *metric > STEP) {
        return None;
    }
    (2..).map(|n| n * STEP).find(|metric| !taken.contains(metric))
}

/// The interface's own table.
#[must_use]
pub fn table_of(attachment: &Attachment) -> u32 {
    let owner = AttachmentIds::of(&attachment.container, &attachment.ifname).owner;
    let low = u32::try_from(owner & u64::from(FIRST_TABLE - 1)).expect("24 bits are fewer than 32");
    FIRST_TABLE | low
}

/// The routes of the interface's own table; none for a pod's first interface.
#[must_use]
pub fn own_routes(attachment: &Attachment, extras: &Extras) -> Vec<Route> {
    if attachment.metric.is_none() {
        return Vec::new();
    }
    pod_routes(attachment, &extras.routes).into_iter().map(|route| Route { metric: None, ..route }).collect()
}

/// The rules that lead to the own table; none for a pod's first interface.
#[must_use]
pub fn rules(attachment: &Attachment) -> Vec<Rule> {
    if attachment.metric.is_none() {
        return Vec::new();
    }
    let table = table_of(attachment);
    attachment.addresses.iter().map(|from| Rule { from: *from, table, priority: PRIORITY }).collect()
}

/// What ADD asks of the pod beyond what every interface needs.
pub(crate) fn plan_beside(attachment: &Attachment, extras: &Extras) -> Vec<Step> {
    let table = table_of(attachment);
    let routes = own_routes(attachment, extras).into_iter();
    let rules = rules(attachment).into_iter().map(|rule| Step::PutRule(Ns::Pod, rule));
    routes.map(|route| Step::PutTableRoute(Ns::Pod, table, route)).chain(rules).collect()
}

/// What DEL asks of a pod that goes on living: rules do not go with the link.
#[must_use]
pub fn plan_leave(attachment: &Attachment) -> Vec<Step> {
    rules(attachment).into_iter().map(|rule| Step::DropRule(Ns::Pod, rule)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::tests::attachment;

    #[test]
    fn each_interface_gets_a_metric_of_its_own() {
        assert_eq!(metric_beside(&[]), None);
        assert_eq!(metric_beside(&[0, 1024]), Some(2048));
        assert_eq!(metric_beside(&[0, 2048]), Some(3072));
        assert_eq!(metric_beside(&[100]), Some(2048), "after the first, whoever made it");
        assert_eq!(metric_beside(&[0, 3072]), Some(2048));
        assert_eq!(metric_beside(&[2048]), None, "the first one is gone: its place is free");
    }

    /// The table is in the kernel of running pods.
    #[test]
    fn the_table_never_changes() {
        let a = attachment(&["10.22.0.5"]);
        assert_eq!(table_of(&a), 19_124_379);
    }

    #[test]
    fn the_first_interface_has_neither_table_nor_rule() {
        let mut a = attachment(&["10.22.0.5", "fd00:22::5"]);
        assert_eq!(plan_beside(&a, &Extras::default()), []);
        assert_eq!(plan_leave(&a), []);
        a.metric = Some(2048);
        let plan: Vec<String> = plan_beside(&a, &Extras::default()).iter().map(ToString::to_string).collect();
        assert_eq!(plan.len(), 6, "{plan:?}");
        assert!(plan[4].contains("rule from 10.22.0.5"), "{plan:?}");
        assert_eq!(plan_leave(&a).len(), 2);
    }
}
