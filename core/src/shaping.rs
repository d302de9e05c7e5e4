//! Bandwidth limits in the kernel. Both directions are held on the node, where the pod cannot lift them:
//! what goes to the pod at the node's end of its pair, what comes from it in an intermediate device that
//! everything arriving on that end is sent through first.

use crate::attach::{Difference, same};
use crate::link::{HOST_IF_PREFIX, SHAPER_PREFIX};
use crate::names::IfName;
use crate::node::Attachment;
use crate::rate::{Limits, Rate};
use crate::step::{Ifb, LinkChange, LinkLocal, LinkRef, Step};

/// Name of the device that shapes what comes from a pod: the node's end's, with another prefix, so that DEL
/// needs no record to find it.
#[must_use]
pub fn device(host_if: &IfName) -> IfName {
    let name = host_if.as_str();
    let hash = name.strip_prefix(HOST_IF_PREFIX).unwrap_or(name);
    format!("{SHAPER_PREFIX}{hash}").parse().expect("a prefix of the same length is as valid")
}

/// What makes the limits of a new attachment; nothing where there are none.
#[must_use]
pub fn plan(attachment: &Attachment) -> Vec<Step> {
    let mut plan = to_pod(attachment);
    plan.extend(from_pod(attachment));
    plan
}

/// What is left to do where the kernel shows `seen`.
#[must_use]
pub fn plan_repair(attachment: &Attachment, seen: SeenLimits) -> Vec<Step> {
    let Limits { to_pod: to, from_pod: from } = attachment.limits;
    let mut plan = Vec::new();
    if !is_held(to, seen.to_pod) {
        plan.extend(to_pod(attachment));
    }
    if !is_held(from, seen.from_pod) || (from.is_some() && !seen.redirected) {
        // A classifier that is left would go on sending everything where it did.
        plan.push(Step::DropIngress(LinkRef::node(attachment.host_ifname.clone())));
        plan.push(Step::DeleteLink(LinkRef::node(device(&attachment.host_ifname))));
        plan.extend(from_pod(attachment));
    }
    plan
}

fn to_pod(attachment: &Attachment) -> Vec<Step> {
    let link = LinkRef::node(attachment.host_ifname.clone());
    attachment.limits.to_pod.map(|rate| Step::PutRate(link, rate)).into_iter().collect()
}

fn from_pod(attachment: &Attachment) -> Vec<Step> {
    let Some(rate) = attachment.limits.from_pod else { return Vec::new() };
    let link = LinkRef::node(attachment.host_ifname.clone());
    let name = device(&attachment.host_ifname);
    let shaper = LinkRef::node(name.clone());
    let quiet = LinkChange { link_local: Some(LinkLocal::None), ..LinkChange::default() };
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    vec![
        Step::CreateIfb(Ifb { name: name.clone(), mtu: attachment.mtu.get() }),
        Step::SetLink(shaper.clone(), quiet),
        Step::PutRate(shaper.clone(), rate),
        Step::SetLink(shaper, up),
        Step::AddIngress(link.clone()),
        Step::Redirect(link, name),
    ]
}

/// The limits that the kernel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeenLimits {
    /// What shapes the node's end of the pair.
    pub to_pod: Option<Rate>,
    /// What shapes the intermediate device.
    pub from_pod: Option<Rate>,
    /// Whether what arrives on the node's end is sent through that device, and that is up.
    pub redirected: bool,
}

/// Compares the kernel with the record. A direction without a limit is not looked at: another plugin may
/// limit it.
///
/// # Errors
/// The first difference.
pub fn check(host_if: &IfName, limits: Limits, seen: SeenLimits) -> Result<(), Difference> {
    let text = |rate: Option<Rate>| rate.map_or_else(|| "none".to_owned(), |r| r.to_string());
    for (direction, limit, found) in
        [("towards", limits.to_pod, seen.to_pod), ("from", limits.from_pod, seen.from_pod)]
    {
        let Some(limit) = limit else { continue };
        if !is_held(Some(limit), found) {
            same(format!("limit {direction} the pod of {host_if}"), &limit.to_string(), &text(found))?;
        }
    }
    let way = |redirected: bool| if redirected { "through its limit" } else { "past its limit" };
    if limits.from_pod.is_some() {
        same(format!("way from the pod of {host_if}"), way(true), way(seen.redirected))?;
    }
    Ok(())
}

fn is_held(limit: Option<Rate>, found: Option<Rate>) -> bool {
    limit.is_none_or(|limit| found.is_some_and(|found| alike(limit, found)))
}

/// The kernel keeps a burst as the time it takes (`psched_l2t_ns`, include/net/sch_generic.h), so it comes
/// back rounded.
fn alike(limit: Rate, found: Rate) -> bool {
    limit.bytes_per_second() == found.bytes_per_second()
        && limit.burst_bytes.abs_diff(found.burst_bytes) <= limit.burst_bytes / 100 + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::tests::attachment;

    fn limited(limits: Limits) -> Attachment {
        Attachment { limits, ..attachment(&["10.22.0.5"]) }
    }

    #[test]
    fn the_devices_name_follows_the_interfaces() {
        assert_eq!(device(&"fnuugbpipskpd6c".parse().unwrap()).as_str(), "fiuugbpipskpd6c");
    }

    #[test]
    fn nothing_is_made_without_limits_and_one_device_for_what_comes_from_the_pod() {
        assert_eq!(plan(&limited(Limits::default())), []);
        let rate = Some(Rate::new(1_000_000, None));
        let to_pod = plan(&limited(Limits { to_pod: rate, from_pod: None }));
        assert!(matches!(to_pod.as_slice(), [Step::PutRate(..)]), "{to_pod:?}");
        let from_pod = plan(&limited(Limits { to_pod: None, from_pod: rate }));
        assert!(matches!(from_pod.first(), Some(Step::CreateIfb(_))), "{from_pod:?}");
        assert!(matches!(from_pod.last(), Some(Step::Redirect(..))), "{from_pod:?}");
    }

    #[test]
    fn only_the_direction_that_lost_its_limit_is_repaired() {
        let rate = Rate::new(1_000_000, None);
        let limited = limited(Limits { to_pod: Some(rate), from_pod: Some(rate) });
        let all = SeenLimits { to_pod: Some(rate), from_pod: Some(rate), redirected: true };
        assert_eq!(plan_repair(&limited, all), []);
        let to_pod = plan_repair(&limited, SeenLimits { to_pod: None, ..all });
        assert!(matches!(to_pod.as_slice(), [Step::PutRate(..)]), "{to_pod:?}");
        for seen in [SeenLimits { from_pod: None, ..all }, SeenLimits { redirected: false, ..all }] {
            let from_pod = plan_repair(&limited, seen);
            assert!(matches!(from_pod.first(), Some(Step::DropIngress(_))), "{from_pod:?}");
            assert_eq!(from_pod[2..], plan(&limited)[1..]);
        }
        assert_eq!(plan_repair(&attachment(&["10.22.0.5"]), SeenLimits::default()), []);
    }

    #[test]
    fn check_names_the_direction_and_leaves_others_limits_alone() {
        let rate = Rate::new(1_000_000, None);
        let host_if = attachment(&["10.22.0.5"]).host_ifname;
        let both = Limits { to_pod: Some(rate), from_pod: Some(rate) };
        let all = SeenLimits { to_pod: Some(rate), from_pod: Some(rate), redirected: true };
        assert_eq!(check(&host_if, both, all), Ok(()));
        assert_eq!(check(&host_if, Limits::default(), all), Ok(()));
        let rounded = Rate { burst_bytes: rate.burst_bytes - 50, ..rate };
        assert_eq!(check(&host_if, both, SeenLimits { to_pod: Some(rounded), ..all }), Ok(()));
        let faster = Some(Rate::new(2_000_000, None));
        for (seen, word) in [
            (SeenLimits { to_pod: None, ..all }, "towards the pod"),
            (SeenLimits { from_pod: faster, ..all }, "2000000 bit/s"),
            (SeenLimits { redirected: false, ..all }, "past its limit"),
        ] {
            let e = check(&host_if, both, seen).unwrap_err();
            assert!(e.to_string().contains(word), "{e}");
        }
    }
}
