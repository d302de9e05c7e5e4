//! The text of a manifest as a tree that remembers its lines.
//!
//! JSON is read as the YAML that it is. Anchors, aliases and merge keys are resolved here; so is which key comes
//! twice, because a later reader would only see one of them.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::scalar::{self, Scalar};

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value as it was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Text without quotes.
    Plain(String),
    /// Text in quotes, or a block.
    Quoted(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    /// The line of the same key further up in the same object.
    pub(super) before: Option<usize>,
    pub(super) value: Node,
}

/// Why a text is no manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) message: String,
}

/// More values than this in one document come of aliases that multiply, not of a person.
const MAX_NODES: usize = 100_000;
/// Deeper than any object of Kubernetes.
const MAX_DEPTH: usize = 64;

impl Node {
    /// Whether the value is absent: `null`, `~` or nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if scalar::resolve(text) == Scalar::Null)
    }

    /// The value of a key in an object.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Quoted(text) => Some(text),
            _ => None,
        }
    }

    /// How many values this is.
    fn size(&self) -> usize {
        match &self.value {
            Value::Plain(_) | Value::Quoted(_) => 1,
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.value.size()).sum::<usize>(),
        }
    }
}

/// The documents of a text; empty ones are left out.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Malformed> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, last: 1 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) => {
                reader.anchors.clear();
                reader.nodes = 0;
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            event => {
                let node = reader.node(event, span, 0)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    last: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Malformed> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Malformed { line: error.marker().line(), message: error.info().to_string() });
                }
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    self.last = span.start.line();
                    return Ok(Some((event, span)));
                }
            }
        }
    }

    /// The next event inside a value.
    fn inside(&mut self) -> Result<(Event<'a>, Span), Malformed> {
        let line = self.last;
        self.next()?.ok_or_else(|| Malformed { line, message: "the text ends inside a value".to_owned() })
    }

    /// The value that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Malformed> {
        let line = span.start.line();
        self.count(1, line)?;
        if depth > MAX_DEPTH {
            return Err(Malformed { line, message: format!("more than {MAX_DEPTH} levels deep") });
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = text.into_owned();
                // `!!str 8080` and `! 8080` are text, as if quoted.
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (anchor, if plain { Value::Plain(text) } else { Value::Quoted(text) })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, Value::List(self.list(depth)?)),
            Event::MappingStart(_, anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            Event::Alias(anchor) => return self.alias(anchor, line),
            other => return Err(Malformed { line, message: format!("unexpected {other:?}") }),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<Node, Malformed> {
        let node = self.anchors.get(&anchor).cloned().ok_or_else(|| Malformed {
            line,
            message: "an alias inside the value that it stands for".to_owned(),
        })?;
        self.count(node.size(), line)?;
        Ok(node)
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), Malformed> {
        self.nodes += more;
        if self.nodes > MAX_NODES {
            return Err(Malformed {
                line,
                message: format!("more than {MAX_NODES} values with aliases resolved"),
            });
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.inside()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Malformed> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.inside()?;
            if event == Event::MappingEnd {
                break;
            }
            let line = span.start.line();
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.inside()?;
            let value = self.node(event, span, depth + 1)?;
            match key.value {
                Value::Plain(text) if text == "<<" => merged.extend(merge_source(value)?),
                Value::Plain(text) if scalar::resolve(&text) == Scalar::Null => {
                    return Err(Malformed { line, message: "null as a key; quote it".to_owned() });
                }
                Value::Plain(text) | Value::Quoted(text) => {
                    let before = lines.get(&text).copied();
                    lines.entry(text.clone()).or_insert(line);
                    entries.push(Entry { key: text, line, before, value });
                }
                Value::List(_) | Value::Map(_) => {
                    return Err(Malformed { line, message: "a list or an object as a key".to_owned() });
                }
            }
        }
        // What the object says itself counts more, then the first of several merged objects.
        for entry in merged {
            if !lines.contains_key(&entry.key) {
                lines.insert(entry.key.clone(), entry.line);
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// The entries that a merge key brings: of one object or of a list of them.
fn merge_source(node: Node) -> Result<Vec<Entry>, Malformed> {
    let line = node.line;
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
            items.into_iter().map(merge_source).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
        }
        _ => Err(Malformed {
            line,
            message: "a merge key (<<) takes an object or a list of objects".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
