//! Fields of a JSON object as Go reads them: the case of their names does not matter.

use serde_json::{Map, Value};

/// The field called `name`; `null` counts as absent.
pub(super) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    let folded = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    exact.or_else(folded).filter(|value| !value.is_null())
}
