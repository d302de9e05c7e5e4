//! Workloads: the selector, the template, and what their restart policy may be.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PodTemplateSpec, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::Value as Json;

use super::{each, metadata, pod};
use crate::{
    manifest::{default, kind::Workload, path::Path, problem::Report},
    workload::is_selected,
};

const NOT_NEGATIVE: [&str; 7] = [
    "replicas",
    "minReadySeconds",
    "revisionHistoryLimit",
    "parallelism",
    "completions",
    "backoffLimit",
    "activeDeadlineSeconds",
];

/// Checks a workload that the table has let through.
pub(in crate::manifest) fn check(workload: &Workload, json: &Json, report: &mut Report) {
    let (spec, path) = (&json["spec"], Path::root().field("spec"));
    for field in NOT_NEGATIVE {
        if let Some(number) = spec[field].as_i64().filter(|number| *number < 0) {
            report.invalid(&path.field(field), number, "must be greater than or equal to 0");
        }
    }
    let template = serde_json::from_value::<PodTemplateSpec>(spec["template"].clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let labels = meta.labels.clone().unwrap_or_default();
    selector(workload, &spec["selector"], &labels, &path, report);
    let at = path.field("template");
    metadata::labels(meta.labels.as_ref(), &at.field("metadata").field("labels"), report);
    metadata::annotations(meta.annotations.as_ref(), &at.field("metadata").field("annotations"), report);
    if let Some(mut pod_spec) = template.spec {
        default::pod_spec(&mut pod_spec);
        let at = at.field("spec");
        let policy = pod_spec.restart_policy.as_deref().unwrap_or_default();
        if ["Always", "OnFailure", "Never"].contains(&policy) && !workload.restart.contains(&policy) {
            report.unsupported(&at.field("restartPolicy"), policy, workload.restart);
        }
        if workload.kind != "Job" && pod_spec.active_deadline_seconds.is_some() {
            let why = format!("activeDeadlineSeconds in {} is not supported", workload.kind);
            report.forbidden(&at.field("activeDeadlineSeconds"), &why);
        }
        pod::check(&pod_spec, &at, report);
    }
    rolling(&spec["strategy"], &path.field("strategy"), report);
}

fn selector(
    workload: &Workload,
    json: &Json,
    labels: &BTreeMap<String, String>,
    path: &Path,
    report: &mut Report,
) {
    let at = path.field("selector");
    let selector = match workload.kind {
        "Job" => return,
        // The oldest workload writes labels as such, and takes the template's if there are none.
        "ReplicationController" => LabelSelector {
            match_labels: serde_json::from_value(json.clone()).ok().or_else(|| Some(labels.clone())),
            match_expressions: None,
        },
        _ => serde_json::from_value(json.clone()).unwrap_or_default(),
    };
    metadata::labels(selector.match_labels.as_ref(), &at.field("matchLabels"), report);
    let empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && each(&selector.match_expressions).is_empty();
    if empty && !json.is_null() {
        report.invalid(&at, "", "empty selector is invalid: it would select every pod");
    } else if !empty && !is_selected(&selector, labels) {
        let at = path.field("template").field("metadata").field("labels");
        report.invalid(&at, labels, "`selector` does not match template `labels`");
    }
}

/// The numbers of a rolling update: counts or percents, and not both nothing.
fn rolling(strategy: &Json, path: &Path, report: &mut Report) {
    let rolling = &strategy["rollingUpdate"];
    let at = path.field("rollingUpdate");
    if strategy["type"] == "Recreate" && rolling.is_object() {
        report.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
    }
    let mut nothing = 0;
    for field in ["maxSurge", "maxUnavailable"] {
        let value = &rolling[field];
        let amount = match value {
            Json::String(text) => {
                text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok()).map(i64::from)
            }
            Json::Number(number) => number.as_i64().filter(|number| *number >= 0),
            _ => continue,
        };
        match amount {
            None => report.invalid(&at.field(field), value, "must be an integer or percentage (e.g '5%')"),
            Some(0) => nothing += 1,
            Some(_) => {}
        }
    }
    if nothing == 2 {
        report.invalid(&at.field("maxUnavailable"), 0, "may not be 0 when `maxSurge` is 0");
    }
}
