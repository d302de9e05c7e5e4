//! kubectl's JSONPath templates: text, and queries in braces, which are those of RFC 9535 but for the leading `$`.

use std::{fmt, str::FromStr};

use serde_json::Value;
use serde_json_path::JsonPath;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Query(Query),
    /// For each that is found, the parts.
    Range(JsonPath, Vec<Part>),
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongTemplate(String);

impl WrongTemplate {
    /// For this reason.
    pub(crate) fn new(reason: String) -> Self {
        Self(reason)
    }
}

impl fmt::Display for WrongTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongTemplate {}

impl Template {
    /// What it says about `value`. What is not there is left out.
    pub(crate) fn render(&self, value: &Value) -> String {
        let mut text = String::new();
        render(&self.0, value, &mut text);
        text
    }
}

/// A single query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query(JsonPath);

impl Query {
    /// The query in braces that `text` begins with, and what comes after it.
    pub(crate) fn first(text: &str) -> Result<(Self, &str), WrongTemplate> {
        let braced = text.starts_with('{').then(|| closing(text)).flatten();
        let close =
            braced.ok_or_else(|| WrongTemplate(format!("{text:?} does not begin with {{.A.PATH}}")))?;
        let path = query(text.get(1..close).unwrap_or_default())?;
        Ok((Self(path), text.get(close + 1..).unwrap_or_default()))
    }

    /// What there is of it in `value`, as text.
    pub(crate) fn find(&self, value: &Value) -> Vec<String> {
        self.0.query(value).iter().map(|found| plain(found)).collect()
    }
}

impl FromStr for Template {
    type Err = WrongTemplate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut left = text;
        let parts = parse(&mut left, false)?;
        Ok(Self(parts))
    }
}

fn render(parts: &[Part], value: &Value, text: &mut String) {
    for part in parts {
        match part {
            Part::Text(words) => text.push_str(words),
            Part::Query(path) => {
                let found = path.find(value);
                text.push_str(&found.join(" "));
            }
            Part::Range(path, parts) => {
                for found in path.query(value).iter() {
                    render(parts, found, text);
                }
            }
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Parts up to the end, or up to the `{end}` of a range.
fn parse(left: &mut &str, in_range: bool) -> Result<Vec<Part>, WrongTemplate> {
    let mut parts = vec![];
    while let Some(open) = left.find('{') {
        let (words, rest) = left.split_at(open);
        if !words.is_empty() {
            parts.push(Part::Text(words.to_owned()));
        }
        let close = closing(rest).ok_or_else(|| WrongTemplate(format!("{rest:?} has no closing brace")))?;
        let expression = rest.get(1..close).unwrap_or_default().trim();
        *left = rest.get(close + 1..).unwrap_or_default();
        if expression == "end" {
            return if in_range {
                Ok(parts)
            } else {
                Err(WrongTemplate("{end} without {range ...}".to_owned()))
            };
        }
        parts.push(match expression.strip_prefix("range ") {
            Some(path) => Part::Range(query(path)?, parse(left, true)?),
            None if expression.starts_with(['"', '\'']) => Part::Text(literal(expression)),
            None => Part::Query(Query(query(expression)?)),
        });
    }
    if in_range {
        return Err(WrongTemplate("{range ...} without {end}".to_owned()));
    }
    if !left.is_empty() {
        parts.push(Part::Text(std::mem::take(left).to_owned()));
    }
    Ok(parts)
}

/// Where the brace closes that the text begins with; braces in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '}') => return Some(at),
            _ => {}
        }
    }
    None
}

/// What is in quotes.
fn literal(quoted: &str) -> String {
    let words = quoted.trim_matches(['"', '\'']);
    words.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\\\", "\\")
}

fn query(path: &str) -> Result<JsonPath, WrongTemplate> {
    let path = path.trim();
    let from_root = path.trim_start_matches(['$', '@']);
    let whole = if from_root.is_empty() || from_root.starts_with(['.', '[']) {
        format!("${from_root}")
    } else {
        format!("$.{from_root}")
    };
    JsonPath::parse(&whole).map_err(|error| {
        let hint = if path.contains("\\.") { "; write a key with dots as ['the.key']" } else { "" };
        WrongTemplate(format!("{{{path}}}: {error}{hint}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str) -> String {
        let pods = json!({ "items": [
            { "metadata": { "name": "a", "labels": { "app.kubernetes.io/name": "x" } }, "status": { "podIP": "10.0.0.1", "n": 2 } },
            { "metadata": { "name": "b" }, "status": { "podIP": "10.0.0.2" } },
        ]});
        template.parse::<Template>().unwrap().render(&pods)
    }

    #[test]
    fn as_kubectl_shows_it() {
        for (template, shown) in [
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].status.n}", "2"),
            ("{.items[0].status}", r#"{"n":2,"podIP":"10.0.0.1"}"#),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.status.podIP}{\"\\n\"}{end}",
                "a\t10.0.0.1\nb\t10.0.0.2\n",
            ),
            ("{.items[?(@.metadata.name=='b')].status.podIP}", "10.0.0.2"),
            ("{.items[0].metadata.labels['app.kubernetes.io/name']}", "x"),
            ("first: {$.items[0].metadata.name}!", "first: a!"),
            ("{.items[*].nothing}", ""),
            ("{'}'}{items[1].metadata.name}", "}b"),
            ("no braces", "no braces"),
        ] {
            assert_eq!(render(template), shown, "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (template, told) in [
            ("{.a", "no closing brace"),
            ("{range .a}x", "without {end}"),
            ("{end}", "without {range"),
            ("{.a[}", "{.a[}"),
            ("{.a\\.b}", "['the.key']"),
        ] {
            let error = template.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(told), "{template}: {error}");
        }
    }
}
