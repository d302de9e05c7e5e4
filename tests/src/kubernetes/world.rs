//! What the API server holds, remembers and was asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

/// So many changes can be gone on from, unless a test says otherwise.
const REMEMBERED: usize = 1_000;

/// A request as the RBAC of Kubernetes sees it, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `get`, `list`, `watch`, `patch` and so on.
    pub verb: String,
    /// `nodes`, `nodes/status`, or a whole path that is neither.
    pub resource: String,
    /// The node, where the request is about one.
    pub name: String,
    /// Of the answer.
    pub code: u16,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Every answer takes so long.
    pub slow: Duration,
    /// Changes to be refused with 409.
    pub conflicts: u32,
    /// Every request is answered with this code.
    pub code: Option<u16>,
    /// Every patch is answered with this code.
    pub patch_code: Option<u16>,
    /// Of a list only the first page is given; the rest has expired (410). So many times.
    pub expired_pages: u32,
    /// A watch from too long ago is answered with 410, not with an event that says 410.
    pub gone_at_once: bool,
    /// Watches bring nothing, not even bookmarks.
    pub frozen: bool,
    /// Every watch is ended, in good order, after so long.
    pub watch_lasts: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) version: u64,
    pub(super) nodes: BTreeMap<String, Value>,
    /// Lines of a watch, each with its version.
    events: VecDeque<(u64, Arc<str>)>,
    /// What was up to here is forgotten.
    pub(super) oldest: u64,
    /// Rests of lists, by the name that a client continues with.
    pages: HashMap<String, (u64, Vec<Value>)>,
    pub(super) asked: Vec<Asked>,
    pub(super) faults: Faults,
    /// The one token that is good; `None`: nobody is asked for one.
    pub(super) token: Option<String>,
    /// JSON that every node has in its status beside what a test looks at, as images and labels are on real
    /// ones.
    pub(super) ballast: String,
    uids: u64,
}

impl World {
    /// Puts a node in place, new or changed, and tells all watches.
    pub(super) fn put(&mut self, name: &str, mut node: Value) {
        self.version += 1;
        let kind = if self.nodes.contains_key(name) { "MODIFIED" } else { "ADDED" };
        if kind == "ADDED" {
            self.uids += 1;
            node["metadata"]["uid"] = format!("uid-{}", self.uids).into();
            let (minutes, seconds) = (self.uids / 60 % 60, self.uids % 60);
            node["metadata"]["creationTimestamp"] =
                format!("2026-01-01T00:{minutes:02}:{seconds:02}Z").into();
        }
        node["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(kind, &node);
        self.nodes.insert(name.to_owned(), node);
    }

    pub(super) fn delete(&mut self, name: &str) {
        if let Some(mut node) = self.nodes.remove(name) {
            self.version += 1;
            node["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.tell("DELETED", &node);
        }
    }

    fn tell(&mut self, kind: &str, node: &Value) {
        let line = format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", self.text(node));
        self.events.push_back((self.version, line.into()));
        while self.events.len() > REMEMBERED {
            self.oldest = self.events.pop_front().map_or(self.oldest, |(version, _)| version);
        }
    }

    /// Forgets all changes so far.
    pub(super) fn compact(&mut self) {
        self.events.clear();
        self.oldest = self.version;
        self.pages.clear();
    }

    fn text(&self, node: &Value) -> String {
        let text = node.to_string();
        match text.rsplit_once("\"status\":{") {
            Some((before, after)) if !self.ballast.is_empty() => {
                format!("{before}\"status\":{{{},{after}", self.ballast)
            }
            _ => text,
        }
    }

    /// A page of the list of nodes as the API server writes it; `Err` where it cannot be continued.
    pub(super) fn page(&mut self, limit: usize, next: Option<&str>) -> Result<String, ()> {
        let (version, mut nodes) = match next {
            None => (self.version, self.nodes.values().cloned().collect()),
            Some(_) if self.faults.expired_pages > 0 => {
                self.faults.expired_pages -= 1;
                return Err(());
            }
            Some(next) => self.pages.remove(next).ok_or(())?,
        };
        let rest = nodes.split_off(limit.min(nodes.len()));
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if !rest.is_empty() {
            // As the real one's these are no words for a query.
            let name = format!("{version}/{}==", rest.len());
            metadata["continue"] = name.as_str().into();
            metadata["remainingItemCount"] = rest.len().into();
            self.pages.insert(name, (version, rest));
        }
        let items: Vec<String> = nodes.iter().map(|node| self.text(node)).collect();
        Ok(format!(
            "{{\"kind\":\"NodeList\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":[{}]}}",
            items.join(",")
        ))
    }

    /// The lines of a watch after `version`; `None` where they are forgotten.
    pub(super) fn since(&self, version: u64) -> Option<Vec<(u64, Arc<str>)>> {
        (version >= self.oldest)
            .then(|| self.events.iter().filter(|(at, _)| *at > version).cloned().collect())
    }

    /// Merges as `application/strategic-merge-patch+json` does, as far as a node's status and annotations
    /// go. Code and answer.
    pub(super) fn patch(&mut self, name: &str, patch: &Value) -> (u16, Value) {
        let Some(mut node) = self.nodes.get(name).cloned() else {
            return refusal(404, &format!("nodes \"{name}\" not found"));
        };
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != node["metadata"]["uid"] {
            return refusal(422, "metadata.uid: Invalid value: field is immutable");
        }
        if let Some(code) = self.faults.patch_code {
            return refusal(code, "as the test wants it");
        }
        if self.faults.conflicts > 0 {
            self.faults.conflicts -= 1;
            return refusal(
                409,
                "the object has been modified; please apply your changes to the latest version",
            );
        }
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            let all = node["metadata"].as_object_mut().expect("metadata is an object");
            let all = all.entry("annotations").or_insert_with(|| json!({}));
            match value {
                Value::Null => drop(all.as_object_mut().expect("an object").remove(key)),
                value => all[key] = value.clone(),
            }
        }
        for condition in patch["status"]["conditions"].as_array().into_iter().flatten() {
            let all = node["status"]["conditions"].as_array_mut().expect("conditions are a list");
            match all.iter_mut().find(|known| known["type"] == condition["type"]) {
                Some(known) => *known = condition.clone(),
                None => all.push(condition.clone()),
            }
        }
        // The real one answers a patch that changes nothing without a new version.
        if self.nodes[name] != node {
            self.put(name, node);
        }
        (200, self.nodes[name].clone())
    }
}

/// A `Status` that says no.
pub(super) fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    (
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }),
    )
}
