//! `get`: what there is.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use flatpod::{
    status,
    workload::{Kind, Selector},
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Found, find, watch, workloads::show};
use crate::{observed::observed, state::Root, supervisor};

/// What to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    /// pods, nodes, events, all, or a kind of workload; KIND/NAME for one
    kind: String,
    /// Only these
    pub(super) names: Vec<String>,
    /// Only those with these labels: KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY, !KEY, and commas between
    #[arg(long, short = 'l', value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub(super) selector: Selector,
    #[command(flatten)]
    pub(super) namespace: super::NamespaceArg,
    /// All namespaces
    #[arg(long, short = 'A')]
    pub(super) all_namespaces: bool,
    /// Go on, and show every change of a pod as a line
    #[arg(long, short)]
    watch: bool,
    /// More columns, or everything
    #[arg(long, short, value_enum)]
    pub(super) output: Option<Format>,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Wide,
    Yaml,
    Json,
    Name,
}

/// Shows it.
pub(crate) fn run(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    let mut args = args.clone();
    if let Some((kind, name)) = args.kind.clone().split_once('/') {
        args.names.insert(0, name.to_owned());
        kind.clone_into(&mut args.kind);
    }
    if args.watch {
        return match args.kind.as_str() {
            "pod" | "pods" | "po" => watch::pods(root, &args),
            other => bail!("only pods can be watched, not {other}"),
        };
    }
    let text = match args.kind.as_str() {
        "pod" | "pods" | "po" => pods(root, &args)?,
        "node" | "nodes" | "no" => nodes(root)?,
        "event" | "events" | "ev" => events(root, &args)?,
        "all" => format!("{}{}", prefixed(&pods(root, &args)?, "pod"), show::all(root, &args)?),
        other => match Kind::named(other) {
            Some(kind) => show::some(root, &args, kind)?,
            None => bail!(
                "no kind {other:?} is known here: pods, nodes, events, all and the kinds of workloads are"
            ),
        },
    };
    io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// A table whose names say what they are names of.
pub(super) fn prefixed(table: &str, resource: &str) -> String {
    let pad = " ".repeat(resource.len() + 1);
    let line = |(index, line): (usize, &str)| match index {
        0 => line.replacen("NAME", &format!("NAME{pad}"), 1) + "\n",
        _ => format!("{resource}/{line}\n"),
    };
    table.lines().enumerate().map(line).collect()
}

fn pods(root: &Root, args: &GetArgs) -> Result<String> {
    let found = selected(root, args)?;
    let seen = found.into_iter().map(|one| observed(root, &one.dir, one.pod));
    let pods: Vec<Pod> = seen.filter_map(Result::transpose).collect::<Result<_>>()?;
    if pods.len() < args.names.len() {
        bail!("a pod has gone meanwhile; ask again");
    }
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
        let is_here = args.all_namespaces || pod.metadata.namespace.as_ref() == Some(namespace);
        if is_here && named(&pod) && args.selector.is_met(pod.metadata.labels.as_ref()) {
            supervisor::ensure(root, &dir)?;
            found.push(Found { dir, pod });
        }
    }
    found.sort_by(|a, b| a.pod.metadata.name.cmp(&b.pod.metadata.name));
    Ok(found)
}

/// One object stands alone, several are a list.
pub(super) fn list(objects: &[impl Serialize], args: &GetArgs) -> Result<Value> {
    let mut items: Vec<Value> = objects.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
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
    let mut rows: Vec<Vec<String>> =
        vec![["NAME", "STATUS", "INTERNAL-IP", "PODS", "CNI"].map(str::to_owned).to_vec()];
    for name in root.nodes()? {
        let node = root.node(&name).record()?;
        let count = pods
            .iter()
            .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_ref()) == Some(&name))
            .count();
        let address = node.addresses.first().map_or("<none>".to_owned(), ToString::to_string);
        let dir = root.node(&name);
        let state = if dir.failure()?.is_some() { "NotReady" } else { "Ready" };
        let state = format!("{state}{}", if dir.is_leaving() { ",SchedulingDisabled" } else { "" });
        rows.push(vec![name, state, address, count.to_string(), node.cni_conf_dir.display().to_string()]);
    }
    Ok(columns(&rows))
}

fn events(root: &Root, args: &GetArgs) -> Result<String> {
    let mut rows: Vec<Vec<String>> =
        vec![["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec()];
    let mut sources: Vec<(String, PathBuf)> = vec![];
    if args.names.is_empty() {
        for stored in show::selected(root, args)? {
            let workload = &stored.workload;
            sources.push((workload.to_string(), root.workloads().events_file(workload)));
        }
    }
    let pods = selected(root, args)?.into_iter();
    sources.extend(pods.map(|found| (format!("pod/{}", name(&found.pod)), found.dir.file("events.jsonl"))));
    for (object, file) in sources {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let field = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let time = field("time").parse().ok().map(Time);
            let age = status::age(time.as_ref(), Timestamp::now());
            rows.push(vec![age, field("type"), field("reason"), object.clone(), field("message")]);
        }
    }
    Ok(columns(&rows))
}
