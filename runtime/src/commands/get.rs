//! `get`: what there is.

mod events;
mod format;
mod nodes;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use flatpod::{
    status,
    workload::{Kind, Selector},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Found, find, is_pods, watch, workloads::show};
use crate::{observed::observed, state::Root, supervisor};
use events::EventType;
use format::How;

pub(super) use events::{Seen, events, rows as event_rows};
pub(super) use format::{Format, Shown, columns, values};

/// What to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    /// pods, nodes, events, all, or a kind of workload; KIND/NAME for one
    kind: String,
    #[command(flatten)]
    pub(super) which: Which,
    /// Go on, and show every change of a pod, or every event, as a line
    #[arg(long, short)]
    watch: bool,
    /// wide, yaml, json, name, or jsonpath=TEMPLATE [default: a table]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// Without the line that names the columns
    #[arg(long)]
    no_headers: bool,
    /// Only events of these types.
    #[arg(skip)]
    types: Vec<EventType>,
}

/// Which events to show.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    which: Which,
    /// Go on, and show every event as a line
    #[arg(long, short)]
    watch: bool,
    /// Only events of these types: Normal, Warning
    #[arg(long, value_enum, ignore_case = true, value_delimiter = ',')]
    types: Vec<EventType>,
    /// yaml, json, or jsonpath=TEMPLATE [default: a table]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
    /// Without the line that names the columns
    #[arg(long)]
    no_headers: bool,
}

impl EventsArgs {
    /// As what is asked of `get`.
    pub(crate) fn as_get(&self) -> GetArgs {
        GetArgs {
            kind: "events".to_owned(),
            which: self.which.clone(),
            watch: self.watch,
            output: self.output.clone(),
            no_headers: self.no_headers,
            types: self.types.clone(),
        }
    }
}

/// Which of them.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
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
}

impl GetArgs {
    pub(super) fn format(&self) -> &Format {
        self.output.as_ref().unwrap_or(&Format::Table)
    }

    pub(super) fn has_no_headers(&self) -> bool {
        self.no_headers
    }

    pub(super) fn is_wide(&self) -> bool {
        matches!(self.output, Some(Format::Wide))
    }
}

/// Shows it.
pub(crate) fn run(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    let mut args = args.clone();
    if let Some((kind, name)) = args.kind.clone().split_once('/') {
        args.which.names.insert(0, name.to_owned());
        kind.clone_into(&mut args.kind);
    }
    if args.watch {
        return match args.kind.as_str() {
            kind if is_pods(kind) => watch::pods(root, &args),
            kind if is_events(kind) => watch::events(root, &args),
            other => bail!("only pods and events can be watched, not {other}"),
        };
    }
    let alone = args.which.names.len() == 1 && args.kind != "all" && !is_events(&args.kind);
    let how = How { format: args.format(), no_headers: args.no_headers, alone };
    let text = match args.kind.as_str() {
        kind if is_pods(kind) => how.one(pods(root, &args)?)?,
        "node" | "nodes" | "no" => how.one(nodes::nodes(root, &args)?)?,
        kind if is_events(kind) => {
            how.one(events::shown(&events(root, &args, &selected(root, &args.which)?, &mut Seen::new())?))?
        }
        "all" => how.many(everything(root, &args)?)?,
        other => match Kind::named(other) {
            Some(kind) => how.one(show::some(root, &args, kind)?)?,
            None => bail!(
                "no kind {other:?} is known here: pods, nodes, events, all and the kinds of workloads are"
            ),
        },
    };
    io::stdout().write_all(text.as_bytes()).context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn is_events(kind: &str) -> bool {
    matches!(kind, "event" | "events" | "ev")
}

/// Pods, then workloads, one kind after the other.
fn everything(root: &Root, args: &GetArgs) -> Result<Vec<Shown>> {
    let mut all = vec![pods(root, args)?];
    all.extend(show::all(root, args)?);
    Ok(all)
}

fn pods(root: &Root, args: &GetArgs) -> Result<Shown> {
    let found = selected(root, &args.which)?;
    let seen = found.into_iter().map(|one| observed(root, &one.dir, one.pod));
    let pods: Vec<Pod> = seen.filter_map(Result::transpose).collect::<Result<_>>()?;
    if pods.len() < args.which.names.len() {
        bail!("a pod has gone meanwhile; ask again");
    }
    Ok(Shown { resource: "pod".to_owned(), rows: rows(&pods, args.is_wide()), objects: values(&pods)? })
}

/// The pods that were asked for; an error when one that was named is not there.
pub(super) fn selected(root: &Root, which: &Which) -> Result<Vec<Found>> {
    let namespace = &which.namespace.namespace;
    if !which.names.is_empty() {
        return which.names.iter().map(|name| find(root, namespace, name)).collect();
    }
    matching(root, which)
}

/// The pods of a namespace that have these labels.
pub(super) fn labelled(
    root: &Root,
    namespace: &super::NamespaceArg,
    labels: &Selector,
) -> Result<Vec<Found>> {
    let (namespace, selector) = (namespace.clone(), labels.clone());
    matching(root, &Which { names: vec![], selector, namespace, all_namespaces: false })
}

/// Those of the pods that were asked for which are there.
pub(super) fn matching(root: &Root, which: &Which) -> Result<Vec<Found>> {
    let namespace = &which.namespace.namespace;
    let named = |pod: &Pod| {
        let names: Vec<_> =
            which.names.iter().map(|name| name.strip_prefix("pod/").unwrap_or(name)).collect();
        names.is_empty() || names.contains(&name(pod))
    };
    let mut found = vec![];
    for dir in root.pods()? {
        // It may have gone since it was listed.
        let Ok(pod) = dir.manifest() else { continue };
        let is_here = which.all_namespaces || pod.metadata.namespace.as_ref() == Some(namespace);
        if is_here && named(&pod) && which.selector.is_met(pod.metadata.labels.as_ref()) {
            supervisor::ensure(root, &dir)?;
            found.push(Found { dir, pod });
        }
    }
    found.sort_by(|a, b| a.pod.metadata.name.cmp(&b.pod.metadata.name));
    Ok(found)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The names of columns, then a row for each pod.
pub(super) fn rows(pods: &[Pod], wide: bool) -> Vec<Vec<String>> {
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
    rows
}
