//! Every key of every manifest, wrong in one way at a time: an error must name the path.

use serde_json::{Map, Value as Json};

use super::{
    super::{
        document::{self, Node, Value},
        scalar::{self, Scalar},
    },
    manifests, of,
    published::Published,
};

/// A key of an object in a manifest, and what Kubernetes says of the object.
struct Key {
    /// From the root to the object: keys and indexes.
    object: Vec<Step>,
    /// The published type of the object.
    kind: String,
    name: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn written(steps: &[Step], last: &str) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path.push_str(&format!(".{key}")),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    if path.is_empty() { last.to_owned() } else { format!("{path}.{last}") }
}

fn at<'a>(json: &'a mut Json, steps: &[Step]) -> &'a mut Map<String, Json> {
    let mut here = json;
    for step in steps {
        here = match step {
            Step::Key(key) => &mut here[key.as_str()],
            Step::Index(index) => &mut here[*index],
        };
    }
    here.as_object_mut().unwrap()
}

/// A document as JSON, scalars read as Kubernetes does.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Quoted(text) => Json::from(text.as_str()),
        Value::Plain(text) => match scalar::resolve(text) {
            Scalar::Null => Json::Null,
            Scalar::Bool(value) => Json::from(value),
            Scalar::Int(value) => Json::from(value),
            Scalar::Float(value) => Json::from(value),
            Scalar::Text => Json::from(text.as_str()),
        },
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect(),
    }
}

/// The objects of all manifests, those in lists too.
fn objects() -> Vec<Json> {
    let mut objects = Vec::new();
    for source in manifests() {
        for document in document::read(&source.text).unwrap() {
            let mut document = json(&document);
            match document.get_mut("items").and_then(Json::as_array_mut) {
                Some(items) => objects.append(items),
                None => objects.push(document),
            }
        }
    }
    objects
}

/// Every key of every typed object below `json`; maps with free keys and what is refused or dropped whole are left out.
fn keys(json: &Json, kind: &str, at: &[Step], types: &Published, found: &mut Vec<Key>) {
    for (name, value) in json.as_object().unwrap() {
        found.push(Key { object: at.to_vec(), kind: kind.to_owned(), name: name.clone() });
        let below = types.field(kind, name).unwrap_or_else(|| panic!("{kind} has no {name}"));
        let here = [at, &[Step::Key(name.clone())]].concat();
        let (element, list) =
            below.strip_prefix("[]").map_or((below.as_str(), false), |element| (element, true));
        let typed = element.starts_with(|c: char| c.is_ascii_uppercase()) && name != "status";
        if typed && list {
            for (index, item) in value.as_array().unwrap().iter().enumerate() {
                keys(item, element, &[&here[..], &[Step::Index(index)]].concat(), types, found);
            }
        } else if typed {
            keys(value, element, &here, types, found);
        }
    }
}

/// Runs `check` for every key of every object.
fn for_each_key(mut check: impl FnMut(&Json, &Key, &Published)) {
    let types = Published::read();
    let mut count = 0;
    for object in objects() {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let mut found = Vec::new();
        keys(&object, &kind, &[], &types, &mut found);
        for key in &found {
            check(&object, key, &types);
            count += 1;
        }
    }
    assert!(count > 600, "only {count} keys were tried");
}

/// Asserts that the object is refused with a problem at that path that begins so.
fn refused(json: &Json, path: &str, begins: &str) {
    let found = of(&json.to_string());
    let there = found
        .problems
        .iter()
        .any(|problem| problem.path.as_str() == path && problem.message.starts_with(begins));
    assert!(there && found.objects.is_empty(), "{path} should be {begins}: {:#?}\n{json:#}", found.problems);
}

#[test]
fn a_renamed_key_is_named() {
    for_each_key(|object, key, _| {
        let mut upper = key.name.clone();
        upper[..1].make_ascii_uppercase();
        for name in [format!("{}x", key.name), upper, format!("x-{}", key.name)] {
            let mut wrong = object.clone();
            let parent = at(&mut wrong, &key.object);
            let value = parent.remove(&key.name).unwrap();
            parent.insert(name.clone(), value);
            if key.object.is_empty() && ["apiVersion", "kind"].contains(&key.name.as_str()) {
                refused(&wrong, &key.name, "Required value");
            } else {
                refused(&wrong, &written(&key.object, &name), "unknown field");
            }
        }
    });
}

/// One level of indentation too few.
#[test]
fn a_key_moved_out_is_named() {
    let mut moved = 0;
    for_each_key(|object, key, types| {
        // Out of the object, and of the list that it is in.
        let Some(cut) = key.object.iter().rposition(|step| matches!(step, Step::Key(_))) else { return };
        let outer = &key.object[..cut];
        let mut wrong = object.clone();
        let value = at(&mut wrong, &key.object).remove(&key.name).unwrap();
        let kind = kind_at(object, outer, types);
        if types.field(&kind, &key.name).is_some() {
            return;
        }
        at(&mut wrong, outer).insert(key.name.clone(), value);
        refused(&wrong, &written(outer, &key.name), "unknown field");
        moved += 1;
    });
    assert!(moved > 450, "only {moved} keys were moved");
}

/// One level of indentation too many.
#[test]
fn a_key_moved_into_its_neighbour_is_named() {
    let mut moved = 0;
    for_each_key(|object, key, types| {
        let mut source = object.clone();
        let neighbours: Vec<String> = at(&mut source, &key.object)
            .iter()
            .filter(|(name, value)| **name != key.name && value.is_object() && *name != "status")
            .map(|(name, _)| name.clone())
            .collect();
        for neighbour in neighbours {
            let kind = types.field(&key.kind, &neighbour).unwrap();
            let typed = kind.starts_with(|c: char| c.is_ascii_uppercase());
            if !typed
                || types.field(&kind, &key.name).is_some()
                || ["apiVersion", "kind"].contains(&key.name.as_str())
            {
                continue;
            }
            let mut wrong = object.clone();
            let value = at(&mut wrong, &key.object).remove(&key.name).unwrap();
            let inner = [&key.object[..], &[Step::Key(neighbour)]].concat();
            at(&mut wrong, &inner).insert(key.name.clone(), value);
            refused(&wrong, &written(&inner, &key.name), "unknown field");
            moved += 1;
        }
    });
    assert!(moved > 200, "only {moved} keys were moved");
}

/// A value of a type that the field does not have.
#[test]
fn a_value_of_the_wrong_type_is_named() {
    for_each_key(|object, key, types| {
        let expected = types.field(&key.kind, &key.name).unwrap();
        let wrong_values: &[Json] = match expected.as_str() {
            "string" | "time" | "base64" => &[Json::from(8080), Json::from(true), serde_json::json!([])],
            "boolean" => &[Json::from("true"), Json::from(1)],
            "integer" => &[Json::from("80"), Json::from(1.5), Json::from(true)],
            "quantity" => &[Json::from(true), Json::from("64MB")],
            "integer or string" => &[Json::from(true), serde_json::json!({})],
            list if list.starts_with("[]") => &[Json::from("x"), serde_json::json!({"a": "b"})],
            _ => &[Json::from("x"), serde_json::json!(["x"])],
        };
        if key.name == "status" {
            return;
        }
        for value in wrong_values {
            let mut wrong = object.clone();
            at(&mut wrong, &key.object).insert(key.name.clone(), value.clone());
            let top = key.object.is_empty() && ["apiVersion", "kind"].contains(&key.name.as_str());
            if !top {
                let begins = if expected == "quantity" && value.is_string() {
                    "\"64MB\" is no quantity"
                } else {
                    "expected"
                };
                refused(&wrong, &written(&key.object, &key.name), begins);
            }
        }
    });
}

/// The published type of the object at a path.
fn kind_at(object: &Json, steps: &[Step], types: &Published) -> String {
    let mut kind = object["kind"].as_str().unwrap().to_owned();
    for step in steps {
        if let Step::Key(key) = step {
            kind = types.field(&kind, key).unwrap().trim_start_matches("[]").to_owned();
        }
    }
    kind
}
