//! A tree against the table: every field known, of the right type, and one that flatpod can honour.

use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Map, Value as Json};

use super::{
    document::{Entry, Node, Value},
    path::Path,
    problem::Report,
    quantity::Quantity,
    scalar::{self, Scalar},
    schema::{Field, Object, Policy, Shape},
    suggest,
};

/// The object as JSON that Kubernetes' types can be read from.
///
/// What is wrong goes to `report`; wrong, refused and absent (`null`) values are left out of the result.
pub(super) fn decode(node: &Node, root: &'static Object, report: &mut Report) -> Json {
    let mut walk = Walk { root, report };
    walk.value(node, &Shape::One(root), &Path::root()).unwrap_or(Json::Null)
}

struct Walk<'a> {
    root: &'static Object,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, shape: &Shape, path: &Path) -> Option<Json> {
        self.report.at(path, node.line);
        let read = match shape {
            Shape::One(object) => return self.object(node, object, path),
            Shape::Many(inner) => return self.list(node, inner, path),
            Shape::Map(inner) => return self.map(node, inner, path),
            Shape::Any => return Some(Json::Null),
            Shape::Text | Shape::FreeText => text(node),
            Shape::Bool => boolean(node),
            Shape::Int32 => integer(node, i64::from(i32::MIN)..=i64::from(i32::MAX)),
            Shape::Int64 => integer(node, i64::MIN..=i64::MAX),
            Shape::Quantity => quantity(node),
            Shape::IntOrText => int_or_text(node),
            Shape::Time => parsed::<Time>(node, "a time by RFC 3339, such as \"2026-01-02T03:04:05Z\""),
            Shape::Bytes => parsed::<ByteString>(node, "base64"),
        };
        match read {
            Ok(json) => Some(json),
            Err(message) => {
                self.report.unreadable(node.line, path, message);
                None
            }
        }
    }

    fn list(&mut self, node: &Node, inner: &Shape, path: &Path) -> Option<Json> {
        let Value::List(items) = &node.value else {
            self.report.unreadable(node.line, path, format!("expected a list, found {}", describe(node)));
            return None;
        };
        let mut list = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = path.index(index);
            if item.is_null() {
                self.report.unreadable(item.line, &at, "nothing after the dash");
                continue;
            }
            list.extend(self.value(item, inner, &at));
        }
        Some(Json::Array(list))
    }

    fn map(&mut self, node: &Node, inner: &Shape, path: &Path) -> Option<Json> {
        let entries = self.entries(node, path)?;
        let mut map = Map::new();
        for entry in entries {
            let at = path.entry(&entry.key);
            self.twice(entry, &at);
            self.report.at(&at, entry.line);
            let value = if entry.value.is_null() && matches!(inner, Shape::Text | Shape::FreeText) {
                // Go's decoder leaves the zero value for null in a map.
                Some(Json::String(String::new()))
            } else {
                self.value(&entry.value, inner, &at)
            };
            map.extend(value.map(|value| (entry.key.clone(), value)));
        }
        Some(Json::Object(map))
    }

    fn object(&mut self, node: &Node, object: &'static Object, path: &Path) -> Option<Json> {
        let entries = self.entries(node, path)?;
        let mut map = Map::new();
        for entry in entries {
            let at = path.field(&entry.key);
            let Some(field) = object.field(&entry.key) else {
                let message = suggest::unknown_field(&entry.key, object, path, self.root);
                self.report.unreadable(entry.line, &at, message);
                continue;
            };
            self.twice(entry, &at);
            self.report.at(&at, entry.line);
            if let Some(value) = self.field(entry, field, &at) {
                map.insert(entry.key.clone(), value);
            }
        }
        for field in object.fields.iter().filter(|field| field.required) {
            if missing(node.get(field.name), field) {
                self.report.problem(&path.field(field.name), "Required value");
            }
        }
        Some(Json::Object(map))
    }

    /// The value of a field, if it is there, right and honoured.
    fn field(&mut self, entry: &Entry, field: &Field, path: &Path) -> Option<Json> {
        if entry.value.is_null() {
            return None;
        }
        if let Policy::Rejected(why) = field.policy {
            if !asks_nothing(&entry.value) {
                self.report.problem_on(entry.line, path, format!("not supported: {why}"));
            }
            return None;
        }
        let value = self.value(&entry.value, &field.shape, path)?;
        let given = plain_text(&value);
        match field.policy {
            Policy::Honoured | Policy::Rejected(_) => {}
            Policy::WithRegistry(why) => {
                if !cfg!(feature = "registry") && !asks_nothing(&entry.value) {
                    self.report.notice(path, why);
                }
            }
            Policy::Notice { why, silent } => {
                if !given.is_some_and(|text| silent.contains(&text.as_str())) && !asks_nothing(&entry.value) {
                    self.report.notice(path, why);
                }
            }
            Policy::Only { values, why } => {
                let text = given.unwrap_or_default();
                if !values.contains(&text.as_str()) {
                    let message = format!("{text:?} is not supported: {why} (supported: {})", quoted(values));
                    self.report.problem_on(entry.line, path, message);
                    return None;
                }
            }
        }
        // What has no effect and no type below is dropped.
        (!matches!(field.shape, Shape::Any)).then_some(value)
    }

    fn entries<'n>(&mut self, node: &'n Node, path: &Path) -> Option<&'n [Entry]> {
        if let Value::Map(entries) = &node.value {
            return Some(entries);
        }
        self.report.unreadable(node.line, path, format!("expected an object, found {}", describe(node)));
        None
    }

    fn twice(&mut self, entry: &Entry, path: &Path) {
        if let Some(line) = entry.before {
            self.report.unreadable(entry.line, path, format!("given twice: also on line {line}"));
        }
    }
}

/// Whether a required field is absent or, where that is the same, empty.
fn missing(node: Option<&Node>, field: &Field) -> bool {
    let Some(node) = node else { return true };
    if node.is_null() {
        return true;
    }
    match (&node.value, field.shape) {
        (Value::Quoted(text), Shape::Text) => text.is_empty(),
        (Value::List(items), Shape::Many(_)) => items.is_empty(),
        _ => false,
    }
}

/// An empty list or text where something is refused asks for nothing.
fn asks_nothing(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => items.is_empty(),
        Value::Quoted(text) => text.is_empty(),
        _ => false,
    }
}

fn quoted(values: &[&str]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}

/// A scalar as text, to be compared with the values of a policy.
fn plain_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn text(node: &Node) -> Result<Json, String> {
    match &node.value {
        Value::Quoted(text) => Ok(Json::String(text.clone())),
        Value::Plain(text) if scalar::resolve(text) == Scalar::Text => Ok(Json::String(text.clone())),
        Value::Plain(text) => Err(format!("expected a string, found {}; write \"{text}\"", describe(node))),
        _ => Err(format!("expected a string, found {}", describe(node))),
    }
}

fn boolean(node: &Node) -> Result<Json, String> {
    match &node.value {
        Value::Plain(text) => match scalar::resolve(text) {
            Scalar::Bool(value) => Ok(Json::Bool(value)),
            _ => Err(format!("expected true or false, found {}", describe(node))),
        },
        _ => Err(format!("expected true or false, found {}", describe(node))),
    }
}

fn integer(node: &Node, range: std::ops::RangeInclusive<i64>) -> Result<Json, String> {
    let number = match &node.value {
        Value::Plain(text) => match scalar::resolve(text) {
            Scalar::Int(number) => Some(number),
            // 1e3 and 80.0 are whole numbers too; exact, because what is beyond 2^53 is refused.
            Scalar::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                format!("{number:.0}").parse().ok()
            }
            _ => None,
        },
        _ => None,
    };
    let number = number.ok_or_else(|| format!("expected a whole number, found {}", describe(node)))?;
    if range.contains(&number) {
        return Ok(Json::from(number));
    }
    Err(format!("{number} is not between {} and {}", range.start(), range.end()))
}

fn quantity(node: &Node) -> Result<Json, String> {
    let text = match &node.value {
        Value::Quoted(text) => text.clone(),
        Value::Plain(text) => match scalar::resolve(text) {
            Scalar::Bool(_) => return Err(format!("expected a quantity, found {}", describe(node))),
            Scalar::Int(number) => number.to_string(),
            _ => text.clone(),
        },
        _ => return Err(format!("expected a quantity, found {}", describe(node))),
    };
    // Kept as Kubernetes shows it again: 1024Mi is 1Gi, 0.5 is 500m.
    text.parse::<Quantity>()
        .map(|quantity| Json::String(quantity.to_string()))
        .map_err(|error| error.to_string())
}

fn int_or_text(node: &Node) -> Result<Json, String> {
    match &node.value {
        Value::Plain(text) if matches!(scalar::resolve(text), Scalar::Int(_) | Scalar::Float(_)) => {
            integer(node, i64::from(i32::MIN)..=i64::from(i32::MAX))
        }
        _ => text(node),
    }
}

/// Text that a type of Kubernetes must be able to read.
fn parsed<T: serde::de::DeserializeOwned>(node: &Node, expected: &str) -> Result<Json, String> {
    let json = text(node)?;
    match serde_json::from_value::<T>(json.clone()) {
        Ok(_) => Ok(json),
        Err(error) => Err(format!("expected {expected}: {error}")),
    }
}

/// What a value is, for a message about what it should have been.
fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
        Value::Quoted(text) => format!("the string {text:?}"),
        Value::Plain(text) => match scalar::resolve(text) {
            Scalar::Null => "nothing".to_owned(),
            Scalar::Bool(value) if value.to_string() == *text => format!("the boolean {text}"),
            Scalar::Bool(_) => format!("{text} (a boolean in YAML 1.1)"),
            Scalar::Int(_) | Scalar::Float(_) => format!("the number {text}"),
            Scalar::Text => format!("the string {text:?}"),
        },
    }
}

#[cfg(test)]
mod tests;
