//! Images as tables and as JSON: crictl's columns and list, docker's description of one.

use std::io::{self, Write as _};

use anyhow::{Context, Result};
use flatpod::status::human_duration;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{cli::Output, commands::get::columns, image::Image};

/// Every image.
pub(super) fn list(images: &[Image], output: Output) -> Result<()> {
    match output {
        Output::Table => write(&table(images)),
        Output::Json => {
            let all: Vec<Value> = images.iter().map(entry).collect();
            write_json(&json!({ "images": all }))
        }
    }
}

/// All there is to say about some.
pub(super) fn inspect(images: &[Image]) -> Result<()> {
    let all: Vec<Value> = images.iter().map(describe).collect();
    write_json(&json!(all))
}

fn table(images: &[Image]) -> String {
    let now = Timestamp::now();
    let mut rows = vec![["IMAGE", "TAG", "IMAGE ID", "SIZE", "CREATED"].map(str::to_owned).to_vec()];
    for image in images {
        let created = image.created.map(|time| format!("{} ago", human_duration(now.duration_since(time))));
        rows.push(vec![
            image.reference.familiar().to_owned(),
            image.reference.tag().unwrap_or("<none>").to_owned(),
            image.id.short().to_owned(),
            image.size.map_or_else(|| "-".to_owned(), human_size),
            created.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    columns(&rows)
}

/// With three digits, as docker and crictl write it: `4.26MB`.
fn human_size(bytes: u64) -> String {
    let mut unit = 1;
    for name in ["B", "kB", "MB", "GB"] {
        if bytes < unit * 1000 || name == "GB" {
            let (whole, hundredths) = (bytes / unit, bytes % unit * 100 / unit);
            return match whole {
                _ if unit == 1 => format!("{whole}{name}"),
                0..10 => format!("{whole}.{hundredths:02}{name}"),
                10..100 => format!("{whole}.{}{name}", hundredths / 10),
                _ => format!("{whole}{name}"),
            };
        }
        unit *= 1000;
    }
    bytes.to_string()
}

fn digests(image: &Image) -> Vec<String> {
    image.digests.iter().map(|digest| format!("{}@{digest}", image.reference.repository())).collect()
}

fn entry(image: &Image) -> Value {
    json!({
        "id": image.id,
        "repoTags": [image.reference],
        "repoDigests": digests(image),
        "size": image.size,
        "created": image.created,
    })
}

fn describe(image: &Image) -> Value {
    let layers: &[_] = &image.layers;
    json!({
        "Id": image.id,
        "RepoTags": [image.reference],
        "RepoDigests": digests(image),
        "Created": image.created,
        "Size": image.size,
        "Config": image.config,
        "RootFS": { "Type": "layers", "Layers": layers },
        "Directories": image.lower,
        "HostDirectories": image.host_dirs,
    })
}

fn write_json(value: &Value) -> Result<()> {
    write(&format!("{value:#}\n"))
}

fn write(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 999, 4_260_000, 12_340_000, 187_654_321, 1_999_999_999_999].map(human_size);
        assert_eq!(sizes, ["0B", "999B", "4.26MB", "12.3MB", "187MB", "1999GB"]);
    }
}
