//! `get`: what there is.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use flatpod::status;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Value, json};

use super::{Found, find, watch};
use crate::{state::Root, supervisor};

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// pods, nodes or events
    kind: String,
    /// Only these
    names: Vec<String>,
    #[command(flatten)]
    namespace: super::NamespaceArg,
    /// All namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Go on, and show every change of a pod as a line
    #[arg(long, short)]
    watch: bool,
    /// More columns, or everything
    #[arg(long, short, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Wide,
    Yaml,
    Json,
    Name,
}

impl GetArgs {
    pub(super) fn output(&self) -> Option<Format> {
        self.output
    }
}

/// Shows it.
pub(crate) fn run(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    if args.watch {
        return match args.kind.as_str() {
            "pod" | "pods" | "po" => watch::pods(root, args),
            other => bail!("only pods can be watched, not {other}"),
        };
    }
    let text = match args.kind.as_str() {
        "pod" | "pods" | "po" => pods(root, args)?,
        "node" | "nodes" | "no" => nodes(root)?,
        "event" | "events" | "ev" => events(root, args)?,
        other => bail!("no kind {other:?} is known here: pods, nodes and events are"),
    };
    io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn pods(root: &Root, args: &GetArgs) -> Result<String> {
    let found = selected(root, args)?;
    let pods: Vec<Pod> = found.iter().map(whole).collect::<Result<_>>()?;
    Ok(match args.output {
        Some(Format::Json) => format!("{}\n", serde_json::to_string_pretty(&list(&pods, args)?)?),
        Some(Format::Yaml) => serde_saphyr::to_string(&list(&pods, args)?).context("write YAML")?,
        Some(Format::Name) => pods.iter().map(|pod| format!("pod/{}\n", name(pod))).collect(),
        None | Some(Format::Wide) => table(&pods, args.output == Some(Format::Wide)),
    })
}

/// The pods that were asked for; an error when one that was named is not there.
pub(super) fn selected(root: &Root, args: &GetArgs) -> Result<Vec<Found>> {
    let namespace = &args.namespace.namespace;
    if !args.names.is_empty() {
        return args.names.iter().map(|name| find(root, namespace, name)).collect();
    }
    matching(root, args)
}

/// Those of the pods that were asked for which are there.
pub(super) fn matching(root: &Root, args: &GetArgs) -> Result<Vec<Found>> {
    let namespace = &args.namespace.namespace;
    let named = |pod: &Pod| {
        let names: Vec<_> = args.names.iter().map(|name| name.strip_prefix("pod/").unwrap_or(name)).collect();
        names.is_empty() || names.contains(&name(pod))
    };
    let mut found = vec![];
    for dir in root.pods()? {
        // It may have gone since it was listed.
        let Ok(pod) = dir.manifest() else { continue };
        let here = args.all_namespaces || pod.metadata.namespace.as_ref() == Some(namespace);
        if here && named(&pod) {
            supervisor::ensure(root, &dir)?;
            found.push(Found { dir, pod });
        }
    }
    found.sort_by(|a, b| a.pod.metadata.name.cmp(&b.pod.metadata.name));
    Ok(found)
}

/// The pod as Kubernetes shows it: with status, and when it is to go.
pub(super) fn whole(found: &Found) -> Result<Pod> {
    let mut pod = found.pod.clone();
    pod.status = found.dir.status()?;
    if let Some(deletion) = found.dir.deletion()? {
        pod.metadata.deletion_timestamp = Some(Time(deletion.requested_at));
        pod.metadata.deletion_grace_period_seconds = i64::try_from(deletion.grace_seconds).ok();
    }
    Ok(pod)
}

fn list(pods: &[Pod], args: &GetArgs) -> Result<Value> {
    let mut items: Vec<Value> = pods.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(match args.names.len() {
        1 => items.pop().unwrap_or_default(),
        _ => json!({ "apiVersion": "v1", "kind": "List", "items": items }),
    })
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn table(pods: &[Pod], wide: bool) -> String {
    let names =
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"];
    let shown = if wide { names.len() } else { 5 };
    let now = Timestamp::now();
    let row = |pod: &Pod| {
        let of = status::columns(pod, now);
        let cells = [
            of.name,
            of.ready,
            of.status,
            of.restarts,
            of.age,
            of.ip,
            of.node,
            of.nominated_node,
            of.readiness_gates,
        ];
        cells.into_iter().take(shown).collect()
    };
    let mut rows = vec![names.iter().take(shown).map(|&name| name.to_owned()).collect()];
    rows.extend(pods.iter().map(row));
    columns(&rows)
}

/// Cells in columns as wide as they need to be.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).filter_map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn nodes(root: &Root) -> Result<String> {
    let pods: Vec<_> = root.pods()?.iter().filter_map(|dir| dir.manifest().ok()).collect();
    let mut rows: Vec<Vec<String>> = vec![["NAME", "INTERNAL-IP", "PODS", "CNI"].map(str::to_owned).to_vec()];
    for name in root.nodes()? {
        let node = root.node(&name).record()?;
        let count = pods
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(&name))
            .count();
        let address = node.addresses.first().map_or("<none>".to_owned(), ToString::to_string);
        rows.push(vec![name, address, count.to_string(), node.cni_conf_dir.display().to_string()]);
    }
    Ok(columns(&rows))
}

fn events(root: &Root, args: &GetArgs) -> Result<String> {
    let mut rows: Vec<Vec<String>> =
        vec![["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec()];
    for found in selected(root, args)? {
        let text = std::fs::read_to_string(found.dir.file("events.jsonl")).unwrap_or_default();
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let field = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let time = field("time").parse().ok().map(Time);
            let age = status::age(time.as_ref(), Timestamp::now());
            rows.push(vec![
                age,
                field("type"),
                field("reason"),
                format!("pod/{}", name(&found.pod)),
                field("message"),
            ]);
        }
    }
    Ok(columns(&rows))
}
