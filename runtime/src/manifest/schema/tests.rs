//! The table against the schema that `k8s-openapi` carries, which is made from Kubernetes' published OpenAPI.

use std::collections::BTreeSet;

use super::{
    super::{
        explain::{self, Depth},
        tests::published::{Published, describe},
    },
    *,
};

/// Walks the table and compares each object with the published type of its name.
fn compare(
    object: &'static Object,
    types: &Published,
    seen: &mut BTreeSet<&'static str>,
    found: &mut Vec<String>,
) {
    if !seen.insert(object.name) {
        return;
    }
    let name = object.name.strip_suffix(" of a template").unwrap_or(object.name);
    let schema = types.of(name);
    let properties = schema["properties"].as_object().unwrap();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
    for name in properties.keys().filter(|name| object.field(name).is_none()) {
        found.push(format!("{}.{name} is in nobody's list", object.name));
    }
    for pair in object.fields.windows(2).filter(|pair| pair[0].name >= pair[1].name) {
        found.push(format!("{}: {} and {} are not sorted", object.name, pair[0].name, pair[1].name));
    }
    for field in object.fields {
        let at = format!("{}.{}", object.name, field.name);
        let Some(property) = properties.get(field.name) else {
            found.push(format!("{at} is not a field of Kubernetes"));
            continue;
        };
        let shape = field.shape.describe().replace(" of a template", "");
        if !matches!(field.shape, Shape::Any) && describe(property) != shape {
            found.push(format!("{at} is {}, not {shape}", describe(property)));
        }
        if matches!(field.shape, Shape::Any) && matches!(field.policy, Policy::Honoured | Policy::Only { .. })
        {
            found.push(format!("{at} is honoured, but nobody looks at what is in it"));
        }
        // What is refused is not asked for; `spec` is not optional for an object that is to run.
        let refused = matches!(field.policy, Policy::Rejected(_));
        if required.contains(&field.name) && !field.required && !refused {
            found.push(format!("{at} is required"));
        }
        if field.required && !required.contains(&field.name) && !["spec", "template"].contains(&field.name) {
            found.push(format!("{at} is not required"));
        }
        if let Some(below) = field.shape.object() {
            compare(below, types, seen, found);
        }
    }
}

#[test]
fn every_field_of_kubernetes_is_in_the_table_with_its_type() {
    let types = Published::read();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    let roots: [&'static Object; 9] = [
        &POD,
        &CONFIG_MAP,
        &SECRET,
        &REPLICA_SET,
        &REPLICATION_CONTROLLER,
        &DEPLOYMENT,
        &STATEFUL_SET,
        &DAEMON_SET,
        &JOB,
    ];
    for root in roots {
        compare(root, &types, &mut seen, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(seen.len() > 80, "only {} objects were compared", seen.len());
}

/// Every reason ends up in a sentence `... not supported: REASON`.
#[test]
fn every_refusal_and_notice_has_a_reason() {
    let mut rows = 0;
    for (path, depth) in [("pod", Depth::Everything), ("job", Depth::Everything)] {
        for row in explain::rows(path, depth).unwrap() {
            rows += 1;
            let plain = row.treatment == "honoured";
            assert!(plain || !row.note.is_empty(), "{} has no reason", row.path);
            assert!(!row.note.ends_with('.'), "{} ends with a full stop", row.path);
        }
    }
    assert!(rows > 400, "{rows}");
}
