//! What happened to a pod, one JSON object a line.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use jiff::Timestamp;
use serde_json::json;

use crate::state::PodDir;

/// A pod's events.
#[derive(Debug)]
pub(super) struct Events {
    file: PathBuf,
}

impl Events {
    pub(super) fn new(dir: &PodDir) -> Self {
        Self { file: dir.file("events.jsonl") }
    }

    pub(super) fn normal(&self, reason: &str, message: &str) {
        self.add("Normal", reason, message);
    }

    pub(super) fn warning(&self, reason: &str, message: &str) {
        self.add("Warning", reason, message);
    }

    fn add(&self, kind: &str, reason: &str, message: &str) {
        let event = json!({ "time": Timestamp::now(), "type": kind, "reason": reason, "message": message });
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        // Events are for people; a pod does not stop for want of one.
        let _ = file.and_then(|mut file| file.write_all(format!("{event}\n").as_bytes()));
    }
}
