//! A node fails and is healed: only its pods are away, those of a Deployment are replaced, and all come back.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use netns_fixtures::{probe::ping, wait_until};
use serde_json::Value;

use super::{
    CLIENTS, FAR, SERVERS,
    reach::reached,
    report::{Row, Section},
    stage::Stage,
};
use crate::commands::check::Subject;

/// The node that fails.
const FAILED: &str = "n2";
/// An answer takes well under a millisecond; this is how long one is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// For a healed node's pods to be back, and for a pod to be replaced.
const RECOVERY: Duration = Duration::from_secs(20);

/// Lets the node fail, looks who still reaches whom, and who is replaced.
pub(super) fn fail(stage: &Stage) -> Result<Section> {
    let clients = stage.subjects(CLIENTS)?;
    let before = stage.pods(SERVERS)?;
    let lost = before.iter().find(|pod| node(pod) == FAILED);
    let lost = name(lost.context("no server is on the node that is to fail")?);
    stage.flatpod(&["node", "fail", FAILED])?;
    let mut rows = vec![];
    for (from, to) in [("n1", FAILED), (FAR, FAILED), ("n1", FAR), (FAR, "n1")] {
        let (from, to) = (on(&clients, from)?, on(&clients, to)?);
        rows.extend(to.addresses.iter().map(|address| look(from, to, *address)));
    }
    rows.push(Row::of(format!("{lost}, of a Deployment, on {FAILED}"), replacement(stage, &names(&before))));
    let claim = format!(
        "{FAILED} has failed: its pods are away, all others unaffected; another node has a new pod for the Deployment's"
    );
    Ok(Section::new(claim, "from and to", rows))
}

/// Heals it, and waits until its pods are back.
pub(super) fn heal(stage: &Stage) -> Result<Section> {
    let clients = stage.subjects(CLIENTS)?;
    stage.flatpod(&["node", "heal", FAILED])?;
    let mut rows = vec![];
    for (from, to) in [("n1", FAILED), (FAR, FAILED), (FAILED, "n1")] {
        let (from, to) = (on(&clients, from)?, on(&clients, to)?);
        for address in &to.addresses {
            let rtt = reached(from, to, *address, RECOVERY);
            rows.push(Row::of(subject(from, to, *address), rtt.map(|rtt| format!("reached in {rtt:.1?}"))));
        }
    }
    Ok(Section::new(format!("{FAILED} is healed: its pods are back"), "from and to", rows))
}

fn on<'a>(pods: &'a [Subject], node: &str) -> Result<&'a Subject> {
    let found = pods.iter().find(|pod| pod.node.name == node);
    found.with_context(|| format!("no client is on {node}"))
}

fn subject(from: &Subject, to: &Subject, address: IpAddr) -> String {
    format!("{} ({}) → {} ({}, {address})", from.name, from.node.name, to.name, to.node.name)
}

fn look(from: &Subject, to: &Subject, address: IpAddr) -> Row {
    let answer = ping(&from.net, address, SILENCE).map_err(anyhow::Error::from);
    let seen = match &answer {
        Ok(pong) => format!("reached in {:.1?}", pong.rtt),
        Err(error) => format!("not reached: {error:#}"),
    };
    Row::new(subject(from, to, address), seen, answer.is_ok() == (to.node.name != FAILED))
}

/// Waits until there are as many ready servers on nodes that live as there were before, and names the new one.
fn replacement(stage: &Stage, before: &[String]) -> Result<String> {
    let new = wait_until("a new server on another node", RECOVERY, || {
        let pods = stage.pods(SERVERS).ok()?;
        let ready = |pod: &&Value| {
            let all = pod["status"]["conditions"].as_array();
            all.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        let alive: Vec<&Value> = pods.iter().filter(ready).filter(|pod| node(pod) != FAILED).collect();
        let new = alive.iter().find(|pod| !before.contains(&name(pod)))?;
        (alive.len() == before.len()).then(|| format!("replaced by {} on {}", name(new), node(new)))
    });
    Ok(new?)
}

fn names(pods: &[Value]) -> Vec<String> {
    pods.iter().map(name).collect()
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn node(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}
