//! What happened to pods and workloads.

use std::path::PathBuf;

use anyhow::Result;
use flatpod::status;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{GetArgs, format::Shown, name, selected};
use crate::{commands::workloads::show, state::Root};

const COLUMNS: [&str; 5] = ["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"];

pub(super) fn events(root: &Root, args: &GetArgs) -> Result<Shown> {
    let mut shown = Shown {
        resource: "event".to_owned(),
        rows: vec![COLUMNS.map(str::to_owned).to_vec()],
        objects: vec![],
    };
    let mut sources: Vec<(String, PathBuf)> = vec![];
    if args.which.names.is_empty() {
        for stored in show::selected(root, &args.which)? {
            let workload = &stored.workload;
            sources.push((workload.to_string(), root.workloads().events_file(workload)));
        }
    }
    let pods = selected(root, &args.which)?.into_iter();
    sources.extend(pods.map(|found| (format!("pod/{}", name(&found.pod)), found.dir.file("events.jsonl"))));
    for (object, file) in sources {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let field = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let time = field("time").parse().ok().map(Time);
            let age = status::age(time.as_ref(), Timestamp::now());
            shown.rows.push(vec![age, field("type"), field("reason"), object.clone(), field("message")]);
            shown.objects.push(json!({
                "kind": "Event", "involvedObject": object, "type": event["type"], "reason": event["reason"],
                "message": event["message"], "eventTime": event["time"],
            }));
        }
    }
    Ok(shown)
}
