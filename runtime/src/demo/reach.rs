//! Every pod reaches every other one, and the receiver sees the sender's own address.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Result, anyhow};
use netns_fixtures::{probe::ping, wait_until};

use super::{
    report::{Row, Section},
    stage::Stage,
};
use crate::commands::check::{Subject, pair::untranslated};

/// For routes to carry packets, on a busy machine.
const SETTLE: Duration = Duration::from_secs(10);
/// For one look at whether a pod is reached yet.
const GLANCE: Duration = Duration::from_millis(200);

/// Whether an address is of a family.
type Family = fn(&IpAddr) -> bool;

/// One section per family.
pub(super) fn check(stage: &Stage) -> Result<Vec<Section>> {
    let pods = stage.subjects(super::ALL_PODS)?;
    settle(&pods)?;
    let families: [(&str, Family); 2] = [("IPv4", IpAddr::is_ipv4), ("IPv6", IpAddr::is_ipv6)];
    let sections = families.map(|(name, family)| {
        let claim = format!(
            "{name}: every pod reaches every other by TCP, UDP and ping; the receiver saw the sender's own address and port"
        );
        Ok(Section::new(claim, "from and to", rows(&pods, family)?))
    });
    sections.into_iter().collect()
}

/// Waits until every pod reaches every other.
fn settle(pods: &[Subject]) -> Result<()> {
    for (from, to) in pairs(pods) {
        for address in &to.addresses {
            reached(from, to, *address, SETTLE)?;
        }
    }
    Ok(())
}

/// Waits until `from` reaches `to` by ping.
pub(super) fn reached(from: &Subject, to: &Subject, address: IpAddr, within: Duration) -> Result<Duration> {
    let what =
        format!("{} on {} to reach {} ({address}) on {}", from.name, from.node.name, to.name, to.node.name);
    Ok(wait_until(&what, within, || ping(&from.net, address, GLANCE).ok())?.rtt)
}

fn rows(pods: &[Subject], family: Family) -> Result<Vec<Row>> {
    thread::scope(|scope| {
        let probers: Vec<_> = pods
            .iter()
            .map(|from| {
                let others = pods.iter().filter(|to| to.name != from.name);
                scope.spawn(move || others.filter_map(|to| row(from, to, family)).collect::<Vec<_>>())
            })
            .collect();
        let rows = probers.into_iter().map(|prober| prober.join().map_err(|_| anyhow!("a prober panicked")));
        Ok(rows.collect::<Result<Vec<_>>>()?.concat())
    })
}

fn row(from: &Subject, to: &Subject, family: Family) -> Option<Row> {
    let address = to.addresses.iter().copied().find(family)?;
    let subject = format!("{} ({}) → {} ({})", from.name, from.node.name, to.name, to.node.name);
    Some(Row::of(subject, untranslated(from, to, address).map(|itself| itself.to_string())))
}

fn pairs(pods: &[Subject]) -> impl Iterator<Item = (&Subject, &Subject)> {
    pods.iter().flat_map(move |from| pods.iter().filter(|to| to.name != from.name).map(move |to| (from, to)))
}
