//! The events of a pod: those that say the same are one line.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use flatpod::status::human_duration;
use jiff::Timestamp;
use serde_json::Value;

/// Events that say the same.
struct Event {
    kind: String,
    reason: String,
    message: String,
    first: Timestamp,
    last: Timestamp,
    count: u32,
}

pub(super) fn list(text: &mut String, file: &Path, now: Timestamp) -> Result<()> {
    let all = read(&std::fs::read_to_string(file).unwrap_or_default());
    if all.is_empty() {
        writeln!(text, "Events:\t<none>")?;
        return Ok(());
    }
    writeln!(text, "Events:\n  Type\tReason\tAge\tFrom\tMessage\n  ----\t------\t----\t----\t-------")?;
    for event in all {
        let ago = |at| human_duration(now.duration_since(at));
        let age = match event.count {
            1 => ago(event.last),
            count => format!("{} (x{count} over {})", ago(event.last), ago(event.first)),
        };
        writeln!(text, "  {}\t{}\t{age}\tflatpod\t{}", event.kind, event.reason, event.message)?;
    }
    Ok(())
}

/// The events of a file, in the order of their last time.
fn read(text: &str) -> Vec<Event> {
    let mut all: Vec<Event> = vec![];
    for line in text.lines() {
        let Ok(one) = serde_json::from_str::<Value>(line) else { continue };
        let field = |key: &str| one[key].as_str().unwrap_or_default().replace('\n', " ");
        let Ok(time) = field("time").parse() else { continue };
        let (kind, reason, message) = (field("type"), field("reason"), field("message"));
        let same = |old: &Event| (&old.kind, &old.reason, &old.message) == (&kind, &reason, &message);
        let (first, count) = match all.iter().position(same) {
            Some(at) => {
                let old = all.remove(at);
                (old.first, old.count + 1)
            }
            None => (time, 1),
        };
        all.push(Event { kind, reason, message, first, last: time, count });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_events_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events");
        let event = |second: u32, reason: &str| {
            format!(
                "{{\"time\":\"2026-11-21T03:11:{second:02}Z\",\"type\":\"Normal\",\"reason\":\"{reason}\",\"message\":\"m\"}}\n"
            )
        };
        std::fs::write(&file, [event(1, "A"), event(2, "B"), event(11, "A"), "cut".to_owned()].concat())
            .unwrap();
        let mut text = String::new();
        list(&mut text, &file, "2026-11-21T03:11:21Z".parse().unwrap()).unwrap();
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(lines, ["  Normal\tB\t19s\tflatpod\tm", "  Normal\tA\t10s (x2 over 20s)\tflatpod\tm"]);
    }
}
