//! YAML as the agent reads it: closed types, errors that point at the line.

use serde::de::DeserializeOwned;

/// Reads one document. Limits on nodes and events grow with the text, so that a cluster of any size is
/// read, while aliases cannot blow a small text up.
///
/// # Errors
/// Not YAML, or not of this shape; the text names line and column and shows the place.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    let limit = 10_000 + text.len();
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: limit, max_events: 2 * limit }
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let text = e.to_string();
        text.strip_prefix("error: ").unwrap_or(&text).to_owned()
    })
}
