//! How what was found is printed.

use std::str::FromStr;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::print::{Template, WrongTemplate};

/// The formats, as kubectl names them.
#[derive(Debug, Clone)]
pub(in crate::commands) enum Format {
    Table,
    Wide,
    Yaml,
    Json,
    Name,
    JsonPath(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let told = |error: WrongTemplate| {
            format!("{error} (see https://kubernetes.io/docs/reference/kubectl/jsonpath)")
        };
        match text.split_once('=') {
            None if text == "wide" => Ok(Self::Wide),
            None if text == "yaml" => Ok(Self::Yaml),
            None if text == "json" => Ok(Self::Json),
            None if text == "name" => Ok(Self::Name),
            Some(("jsonpath", template)) => template.parse().map(Self::JsonPath).map_err(told),
            _ => Err("it is one of wide, yaml, json, name, jsonpath=TEMPLATE".to_owned()),
        }
    }
}

/// Things of one kind that were found.
#[derive(Debug)]
pub(in crate::commands) struct Shown {
    /// What their names are names of.
    pub(in crate::commands) resource: String,
    /// The names of columns, then a row each.
    pub(in crate::commands) rows: Vec<Vec<String>>,
    pub(in crate::commands) objects: Vec<Value>,
}

/// As lines or as objects.
#[derive(Debug)]
pub(super) struct How<'a> {
    pub(super) format: &'a Format,
    pub(super) no_headers: bool,
    /// One thing was asked for by its name: it stands alone, others are a list.
    pub(super) alone: bool,
}

impl How<'_> {
    /// The text for things of one kind.
    pub(super) fn one(&self, shown: Shown) -> Result<String> {
        match self.format {
            Format::Table | Format::Wide => Ok(self.table(shown.rows)),
            _ => self.objects(&[shown]),
        }
    }

    /// The text for things of several kinds: a table each, whose names say what they are names of.
    pub(super) fn many(&self, all: Vec<Shown>) -> Result<String> {
        if !matches!(self.format, Format::Table | Format::Wide) {
            return self.objects(&all);
        }
        let tables = all.into_iter().map(|mut shown| {
            for name in shown.rows.iter_mut().skip(1).filter_map(|row| row.first_mut()) {
                *name = format!("{}/{name}", shown.resource);
            }
            self.table(shown.rows)
        });
        Ok(tables.collect::<Vec<_>>().join("\n"))
    }

    fn table(&self, mut rows: Vec<Vec<String>>) -> String {
        if self.no_headers && !rows.is_empty() {
            rows.remove(0);
        }
        columns(&rows)
    }

    fn objects(&self, all: &[Shown]) -> Result<String> {
        let objects =
            || all.iter().flat_map(|shown| shown.objects.iter().map(move |one| (&shown.resource, one)));
        let whole = || -> Value {
            match (self.alone, objects().next()) {
                (true, Some((_, only))) => only.clone(),
                _ => {
                    let items: Vec<&Value> = objects().map(|(_, object)| object).collect();
                    json!({ "apiVersion": "v1", "kind": "List", "items": items })
                }
            }
        };
        Ok(match self.format {
            Format::Yaml => serde_saphyr::to_string(&whole()).context("write YAML")?,
            Format::JsonPath(template) => template.render(&whole()),
            Format::Name => {
                let name =
                    |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                objects().map(|(resource, object)| format!("{resource}/{}\n", name(object))).collect()
            }
            Format::Json | Format::Table | Format::Wide => {
                format!("{}\n", serde_json::to_string_pretty(&whole())?)
            }
        })
    }
}

/// As JSON.
pub(in crate::commands) fn values(objects: &[impl Serialize]) -> Result<Vec<Value>> {
    objects.iter().map(|object| serde_json::to_value(object).context("write JSON")).collect()
}

/// Cells in columns as wide as they need to be.
pub(in crate::commands) fn columns(rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).filter_map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
