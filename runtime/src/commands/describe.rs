//! `describe`: all that is known of a pod, in kubectl's layout.

mod container;
mod events;
mod tabs;
mod volume;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

use super::{Found, find};
use crate::{
    container::{as_container, ephemeral},
    observed::observed,
    state::Root,
};

/// What to describe.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Pods; or `pod NAME...`
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
}

/// Describes it.
pub(crate) fn run(root: &Root, args: &DescribeArgs) -> Result<ExitCode> {
    let names = super::pod_names(&args.names);
    if names.is_empty() {
        bail!("name the pods to describe");
    }
    let one = |name: &String| describe(root, find(root, &args.namespace.namespace, name)?);
    let texts: Vec<String> = names.iter().map(one).collect::<Result<_>>()?;
    io::stdout().write_all(texts.join("\n\n").as_bytes()).context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn describe(root: &Root, found: Found) -> Result<String> {
    let pod = observed(root, &found.dir, found.pod)?.context("the pod has gone meanwhile")?;
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let (spec, status) = (pod.spec.as_ref().unwrap_or(&no_spec), pod.status.as_ref().unwrap_or(&no_status));
    let mut text = String::new();
    head(&mut text, &pod, spec, status)?;
    container::list(&mut text, "Init Containers", spec.init_containers.iter().flatten(), status)?;
    container::list(&mut text, "Containers", &spec.containers, status)?;
    let added: Vec<_> = ephemeral(spec).map(as_container).collect();
    container::list(&mut text, "Ephemeral Containers", &added, status)?;
    conditions(&mut text, status)?;
    volume::list(&mut text, spec)?;
    writeln!(text, "QoS Class:\t{}", status.qos_class.as_deref().unwrap_or("<none>"))?;
    let selectors = spec.node_selector.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    lines(&mut text, "Node-Selectors", selectors)?;
    events::list(&mut text, &found.dir.file("events.jsonl"), Timestamp::now())?;
    Ok(tabs::align(&text))
}

fn head(text: &mut String, pod: &Pod, spec: &PodSpec, status: &PodStatus) -> Result<()> {
    let meta = &pod.metadata;
    writeln!(text, "Name:\t{}", meta.name.as_deref().unwrap_or_default())?;
    writeln!(text, "Namespace:\t{}", meta.namespace.as_deref().unwrap_or_default())?;
    writeln!(text, "Priority:\t{}", spec.priority.unwrap_or(0))?;
    writeln!(text, "Service Account:\t{}", spec.service_account_name.as_deref().unwrap_or_default())?;
    let node = spec.node_name.as_deref().unwrap_or("<none>");
    match &status.host_ip {
        Some(ip) => writeln!(text, "Node:\t{node}/{ip}")?,
        None => writeln!(text, "Node:\t{node}")?,
    }
    if let Some(start) = &status.start_time {
        writeln!(text, "Start Time:\t{}", time(start.0))?;
    }
    let pairs = |map: &Option<std::collections::BTreeMap<String, String>>, between: &str| -> Vec<String> {
        map.iter().flatten().map(|(key, value)| format!("{key}{between}{value}")).collect()
    };
    lines(text, "Labels", pairs(&meta.labels, "=").into_iter())?;
    lines(text, "Annotations", pairs(&meta.annotations, ": ").into_iter())?;
    let phase = status.phase.as_deref().unwrap_or("Pending");
    match &meta.deletion_timestamp {
        Some(since) => {
            let ago = flatpod::status::human_duration(Timestamp::now().duration_since(since.0));
            writeln!(text, "Status:\tTerminating (lasts {ago})")?;
            let grace = meta.deletion_grace_period_seconds.unwrap_or_default();
            writeln!(text, "Termination Grace Period:\t{grace}s")?;
        }
        None => writeln!(text, "Status:\t{phase}")?,
    }
    for (key, value) in [("Reason", &status.reason), ("Message", &status.message)] {
        if let Some(value) = value {
            writeln!(text, "{key}:\t{value}")?;
        }
    }
    writeln!(text, "IP:\t{}", status.pod_ip.as_deref().unwrap_or_default())?;
    let ips: Vec<_> = status.pod_ips.iter().flatten().map(|one| &one.ip).collect();
    if ips.is_empty() {
        writeln!(text, "IPs:\t<none>")?;
    } else {
        writeln!(text, "IPs:")?;
        ips.iter().try_for_each(|ip| writeln!(text, "  IP:\t{ip}"))?;
    }
    Ok(())
}

fn conditions(text: &mut String, status: &PodStatus) -> Result<()> {
    let all = status.conditions.as_deref().unwrap_or_default();
    if !all.is_empty() {
        writeln!(text, "Conditions:\n  Type\tStatus")?;
        all.iter().try_for_each(|one| writeln!(text, "  {}\t{}", one.type_, one.status))?;
    }
    Ok(())
}

/// Values one below the other, or that there is none.
fn lines(text: &mut String, key: &str, mut values: impl Iterator<Item = String>) -> Result<()> {
    writeln!(text, "{key}:\t{}", values.next().unwrap_or_else(|| "<none>".to_owned()))?;
    values.try_for_each(|value| writeln!(text, "\t{value}")).context("describe")
}

/// As kubectl writes it: RFC 1123 with the zone as a number.
fn time(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}
