//! YAML as the agent reads it: closed types, errors that point at the line.

use serde::de::DeserializeOwned;

/// Reads one document. JSON is YAML, and the larger part of the work is spared where a whole document is JSON;
/// what is wrong with one is told in the words of YAML, with its place. Limits on nodes and events grow with the
/// text, so that a cluster of any size is read, while aliases cannot blow a small text up.
///
/// # Errors
/// Not YAML, or not of this shape; the text names line and column and shows the place.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if text.trim_start().starts_with('{')
        && let Ok(read) = serde_json::from_str(text)
    {
        return Ok(read);
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

#[cfg(test)]
mod tests {
    use flatnet_core::overlay::cluster::RawCluster;

    use super::*;

    const NODE: &str = r#"{"name": "n1", "address": "192.0.2.1", "subnets": ["10.244.1.0/24"]}"#;

    /// The second is no JSON, but YAML in the same braces.
    #[test]
    fn json_is_read_and_so_is_what_only_looks_like_it() {
        for network in [r#"{"ipv4": "10.244.0.0/16"}"#, "{ipv4: 10.244.0.0/16}"] {
            let text = format!("{{\"network\": {network}, \"nodes\": [{NODE}]}}\n");
            let cluster: RawCluster = read(&text).unwrap();
            assert_eq!(cluster.network.ipv4.as_deref(), Some("10.244.0.0/16"));
            assert_eq!(cluster.nodes[0].address, "192.0.2.1");
        }
    }

    #[test]
    fn mistakes_in_json_have_a_place() {
        let text = format!("{{\"network\": {{}},\n \"nods\": [{NODE}]}}");
        let e = read::<RawCluster>(&text).unwrap_err();
        assert!(e.contains("nods") && e.contains("line 2"), "{e}");
    }
}
