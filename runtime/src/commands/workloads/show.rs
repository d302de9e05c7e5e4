//! `get` for workloads: kubectl's columns, after `pkg/printers/internalversion/printers.go`.

use anyhow::Result;
use flatpod::{
    status::{age, human_duration},
    workload::{Kind, Workload},
};
use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::JobStatus, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::Value;

use super::find;
use crate::{
    commands::get::{GetArgs, Shown, Which},
    state::{Root, Stored},
};

/// The order of `get all`, in which pods come first.
const ORDER: [Kind; 6] = [
    Kind::ReplicationController,
    Kind::DaemonSet,
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::Job,
];

/// The workloads of one kind, as it was asked for.
pub(in crate::commands) fn some(root: &Root, args: &GetArgs, kind: Kind) -> Result<Shown> {
    let found: Vec<Stored> = match args.which.names.is_empty() {
        false => {
            let one = |name: &String| find(root, kind, &args.which.namespace.namespace, name);
            args.which.names.iter().map(one).collect::<Result<_>>()?
        }
        true => selected(root, &args.which)?.into_iter().filter(|one| one.workload.kind() == kind).collect(),
    };
    shown(&found, kind, args.is_wide())
}

/// All workloads, kind by kind.
pub(in crate::commands) fn all(root: &Root, args: &GetArgs) -> Result<Vec<Shown>> {
    let found = selected(root, &args.which)?;
    let of = |kind: Kind| found.iter().filter(|one| one.workload.kind() == kind).cloned().collect::<Vec<_>>();
    let kinds = ORDER.map(|kind| (kind, of(kind)));
    let some = kinds.into_iter().filter(|(_, some)| !some.is_empty());
    some.map(|(kind, some)| shown(&some, kind, args.is_wide())).collect()
}

/// The workloads of the namespace that have the labels.
pub(in crate::commands) fn selected(root: &Root, which: &Which) -> Result<Vec<Stored>> {
    let mut found = root.workloads().all()?;
    found.retain(|one| {
        let is_here = which.all_namespaces || one.workload.namespace() == which.namespace.namespace;
        is_here && which.selector.is_met(one.workload.metadata.labels.as_ref())
    });
    Ok(found)
}

fn shown(found: &[Stored], kind: Kind, wide: bool) -> Result<Shown> {
    let now = Timestamp::now();
    let mut rows = vec![head(kind, wide)];
    rows.extend(found.iter().map(|one| row(one, wide, now)));
    let objects = found.iter().map(whole).collect::<Result<_>>()?;
    Ok(Shown { resource: kind.resource().to_owned(), rows, objects })
}

/// The whole object, with status.
fn whole(stored: &Stored) -> Result<Value> {
    let mut json = stored.workload.to_json()?;
    if !stored.status.is_null() {
        json["status"] = stored.status.clone();
    }
    Ok(json)
}

/// The names of a kind's columns.
fn head(kind: Kind, wide: bool) -> Vec<String> {
    let (narrow, more): (&[&str], &[&str]) = match kind {
        Kind::Deployment => {
            (&["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"], &["CONTAINERS", "IMAGES", "SELECTOR"])
        }
        Kind::ReplicaSet | Kind::ReplicationController => {
            (&["NAME", "DESIRED", "CURRENT", "READY", "AGE"], &["CONTAINERS", "IMAGES", "SELECTOR"])
        }
        Kind::StatefulSet => (&["NAME", "READY", "AGE"], &["CONTAINERS", "IMAGES"]),
        Kind::DaemonSet => (
            &["NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"],
            &["CONTAINERS", "IMAGES", "SELECTOR"],
        ),
        Kind::Job => {
            (&["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"], &["CONTAINERS", "IMAGES", "SELECTOR"])
        }
    };
    let more = if wide { more } else { &[] };
    narrow.iter().chain(more).map(|&name| name.to_owned()).collect()
}

/// A workload's line.
fn row(stored: &Stored, wide: bool, now: Timestamp) -> Vec<String> {
    let workload = &stored.workload;
    let number = |field: &str| stored.status[field].as_i64().unwrap_or(0).to_string();
    let wanted = workload.replicas().unwrap_or(1);
    let of = |field: &str| format!("{}/{wanted}", number(field));
    let mut cells = vec![workload.name().to_owned()];
    match workload.kind() {
        Kind::Deployment => {
            cells.extend([of("readyReplicas"), number("updatedReplicas"), number("availableReplicas")]);
        }
        Kind::ReplicaSet | Kind::ReplicationController => {
            cells.extend([wanted.to_string(), number("replicas"), number("readyReplicas")]);
        }
        Kind::StatefulSet => cells.push(of("readyReplicas")),
        Kind::DaemonSet => {
            let fields = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"];
            cells.extend(fields.map(number));
            cells.extend([number("updatedNumberScheduled"), number("numberAvailable"), nodes(workload)]);
        }
        Kind::Job => cells.extend(job(stored, now)),
    }
    cells.push(age(workload.metadata.creation_timestamp.as_ref(), now));
    if wide {
        cells.extend(containers(workload));
        if workload.kind() != Kind::StatefulSet {
            cells.push(workload.selector().map_or("<none>".to_owned(), |selector| written(&selector)));
        }
    }
    cells
}

fn nodes(workload: &Workload) -> String {
    let spec = workload.template().and_then(|template| template.spec.as_ref());
    let selector = spec.and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
    written(&LabelSelector { match_labels: Some(selector), match_expressions: None })
}

/// `STATUS`, `COMPLETIONS` and `DURATION`.
fn job(stored: &Stored, now: Timestamp) -> [String; 3] {
    let status: JobStatus = serde_json::from_value(stored.status.clone()).unwrap_or_default();
    let so =
        |kind: &str| status.conditions.iter().flatten().any(|one| one.type_ == kind && one.status == "True");
    let state = match () {
        () if so("Complete") => "Complete",
        () if so("Failed") => "Failed",
        () if stored.removal.is_some() => "Terminating",
        () => "Running",
    };
    let flatpod::workload::Spec::Job(spec) = &stored.workload.spec else {
        return [String::new(), String::new(), String::new()];
    };
    let succeeded = status.succeeded.unwrap_or(0);
    let parallelism = spec.parallelism.unwrap_or(0);
    let completions = match spec.completions {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let duration = status.start_time.map_or_else(String::new, |start| {
        let end = status.completion_time.map_or(now, |end| end.0);
        human_duration(end.duration_since(start.0))
    });
    [state.to_owned(), completions, duration]
}

/// `CONTAINERS` and `IMAGES`.
fn containers(workload: &Workload) -> [String; 2] {
    let spec = workload.template().and_then(|template| template.spec.as_ref());
    let all = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let images: Vec<&str> = all.iter().filter_map(|one| one.image.as_deref()).collect();
    [names.join(","), images.join(",")]
}

/// `app=web,tier in (a,b)`.
fn written(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let rules = selector.match_expressions.iter().flatten().map(|rule| {
        let values = rule.values.clone().unwrap_or_default().join(",");
        match rule.operator.as_str() {
            "In" => format!("{} in ({values})", rule.key),
            "NotIn" => format!("{} notin ({values})", rule.key),
            "Exists" => rule.key.clone(),
            _ => format!("!{}", rule.key),
        }
    });
    let all: Vec<String> = labels.chain(rules).collect();
    if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
}
