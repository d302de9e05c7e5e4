//! What a user may have meant by an unknown field.

use std::collections::VecDeque;

use super::{path::Path, schema::Object};

/// A sentence for a field `name` that `object` at `path` does not have.
pub(super) fn unknown_field(name: &str, object: &Object, path: &Path, root: &'static Object) -> String {
    match near(name, object).map(str::to_owned).or_else(|| elsewhere(name, path, root)) {
        Some(meant) => format!("unknown field; did you mean {meant}?"),
        None => format!("unknown field in {}", object.name),
    }
}

/// The field of `object` that `name` is a misspelling of.
fn near<'a>(name: &str, object: &'a Object) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    let lower = name.to_lowercase();
    object
        .fields
        .iter()
        .map(|field| (distance(&lower, &field.name.to_lowercase()), field.name))
        .filter(|(steps, _)| *steps <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Where in the whole object a field of that name is, nearest to the root.
///
/// A field one level too high or too low is the commonest slip of indentation.
fn elsewhere(name: &str, path: &Path, root: &'static Object) -> Option<String> {
    let mut queue = VecDeque::from([(root, String::new())]);
    let mut seen: Vec<*const Object> = Vec::new();
    let mut found: Vec<String> = Vec::new();
    while let Some((object, at)) = queue.pop_front() {
        if seen.contains(&std::ptr::from_ref(object)) {
            continue;
        }
        seen.push(std::ptr::from_ref(object));
        for field in object.fields {
            let here = if at.is_empty() { field.name.to_owned() } else { format!("{at}.{}", field.name) };
            if field.name == name {
                found.push(here.clone());
            }
            if let Some(below) = field.shape.object() {
                let mark = if matches!(field.shape, super::schema::Shape::Many(_)) { "[]" } else { "" };
                queue.push_back((below, format!("{here}{mark}")));
            }
        }
    }
    let here: String = without_indexes(path);
    found.into_iter().max_by_key(|candidate| {
        let shared = candidate.split('.').zip(here.split('.')).take_while(|(a, b)| a == b).count();
        (shared, std::cmp::Reverse(candidate.len()))
    })
}

/// `spec.containers[3].name` as `spec.containers[].name`.
fn without_indexes(path: &Path) -> String {
    let mut inside = false;
    path.as_str()
        .chars()
        .filter(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ => return !inside,
            }
            true
        })
        .collect()
}

/// How many insertions, deletions, substitutions and swaps of neighbours lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let change = rows[i][j] + usize::from(from != to);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::schema::POD;

    fn at(path: &[&str], name: &str) -> String {
        let mut object: &'static Object = &POD;
        let mut here = Path::root();
        for step in path {
            let field = object.field(step).unwrap();
            object = field.shape.object().unwrap();
            here = here.field(step);
            if matches!(field.shape, crate::manifest::schema::Shape::Many(_)) {
                here = here.index(0);
            }
        }
        unknown_field(name, object, &here, &POD)
    }

    #[test]
    fn a_misspelling_is_recognised() {
        assert_eq!(at(&["spec", "containers"], "imagee"), "unknown field; did you mean image?");
        assert_eq!(at(&["spec"], "hostnetwork"), "unknown field; did you mean hostNetwork?");
        assert_eq!(at(&["spec", "containers"], "volumeMount"), "unknown field; did you mean volumeMounts?");
        assert_eq!(at(&["spec", "containers"], "nmae"), "unknown field; did you mean name?");
    }

    #[test]
    fn a_slip_of_indentation_is_recognised() {
        assert_eq!(at(&["metadata"], "restartPolicy"), "unknown field; did you mean spec.restartPolicy?");
        assert_eq!(
            at(&["spec"], "readinessProbe"),
            "unknown field; did you mean spec.containers[].readinessProbe?"
        );
        assert_eq!(
            at(&["spec", "containers"], "privileged"),
            "unknown field; did you mean spec.containers[].securityContext.privileged?"
        );
    }

    #[test]
    fn nonsense_gets_no_advice() {
        assert_eq!(at(&["spec"], "frobnicate"), "unknown field in PodSpec");
    }
}
