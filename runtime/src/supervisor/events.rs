//! What happened to a pod or a workload, one JSON object a line.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use jiff::Timestamp;
use serde_json::json;

use crate::state::PodDir;

/// The events of one object.
#[derive(Debug)]
pub(crate) struct Events {
    file: PathBuf,
}

impl Events {
    /// Those of a pod.
    pub(crate) fn new(dir: &PodDir) -> Self {
        Self::at(dir.file("events.jsonl"))
    }

    /// Those in this file.
    pub(crate) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Something that is as it should be.
    pub(crate) fn normal(&self, reason: &str, message: &str) {
        self.add("Normal", reason, message);
    }

    /// Something that is not.
    pub(crate) fn warning(&self, reason: &str, message: &str) {
        self.add("Warning", reason, message);
    }

    fn add(&self, kind: &str, reason: &str, message: &str) {
        let event = json!({ "time": Timestamp::now(), "type": kind, "reason": reason, "message": message });
        let file = OpenOptions::new().create(true).append(true).open(&self.file);
        // Events are for people; a pod does not stop for want of one.
        let _ = file.and_then(|mut file| file.write_all(format!("{event}\n").as_bytes()));
    }
}
