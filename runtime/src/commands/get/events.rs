//! What happened to pods and workloads.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use flatpod::status;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{Found, GetArgs, format::Shown, name};
use crate::{commands::workloads::show, state::Root};

const COLUMNS: [&str; 5] = ["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"];

/// What an event says of its object: that all is well, or that it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum EventType {
    Normal,
    Warning,
}

/// How many lines of each file of events have been seen.
pub(in crate::commands) type Seen = BTreeMap<PathBuf, usize>;

/// An event of an object.
#[derive(Debug)]
pub(in crate::commands) struct Event {
    object: String,
    time: Option<Timestamp>,
    value: Value,
}

impl Event {
    fn field(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    fn is_one_of(&self, types: &[EventType]) -> bool {
        let has_name = |one: &EventType| format!("{one:?}") == self.field("type");
        types.is_empty() || types.iter().any(has_name)
    }
}

/// The events that were asked for and not seen yet, in the order of time: those of these pods, and those of workloads
/// unless pods are named.
pub(in crate::commands) fn events(
    root: &Root,
    args: &GetArgs,
    pods: &[Found],
    seen: &mut Seen,
) -> Result<Vec<Event>> {
    let mut sources: Vec<(String, PathBuf)> = vec![];
    if args.which.names.is_empty() {
        for stored in show::selected(root, &args.which)? {
            let workload = &stored.workload;
            sources.push((workload.to_string(), root.workloads().events_file(workload)));
        }
    }
    let of_pods =
        pods.iter().map(|found| (format!("pod/{}", name(&found.pod)), found.dir.file("events.jsonl")));
    sources.extend(of_pods);
    let mut all = vec![];
    for (object, file) in sources {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        // What has no end of line is still being written.
        let whole = text.get(..text.rfind('\n').map_or(0, |end| end + 1)).unwrap_or_default();
        let known = seen.entry(file).or_default();
        for line in whole.lines().skip(std::mem::replace(known, whole.lines().count())) {
            let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
            let time = value["time"].as_str().and_then(|time| time.parse().ok());
            all.push(Event { object: object.clone(), time, value });
        }
    }
    all.retain(|event| event.is_one_of(&args.types));
    all.sort_by_key(|event| event.time);
    Ok(all)
}

/// The names of columns, then a row for each event.
pub(in crate::commands) fn rows(events: &[Event]) -> Vec<Vec<String>> {
    let row = |event: &Event| {
        let age = status::age(event.time.map(Time).as_ref(), Timestamp::now());
        let field = |key| event.field(key).to_owned();
        vec![age, field("type"), field("reason"), event.object.clone(), field("message")]
    };
    [COLUMNS.map(str::to_owned).to_vec()].into_iter().chain(events.iter().map(row)).collect()
}

pub(super) fn shown(events: &[Event]) -> Shown {
    let object = |event: &Event| {
        let value = &event.value;
        json!({
            "kind": "Event", "involvedObject": event.object, "type": value["type"], "reason": value["reason"],
            "message": value["message"], "eventTime": value["time"],
        })
    };
    Shown { resource: "event".to_owned(), rows: rows(events), objects: events.iter().map(object).collect() }
}
