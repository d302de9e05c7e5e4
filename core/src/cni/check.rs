//! `flatnet check-config`: what is wrong with a configuration file, all at once, before a pod needs it.

use serde_json::{Map, Value, json};

use super::conf::Base;

/// Keys of a list (SPEC 1.1.0, section 1).
const OF_A_LIST: [&str; 7] =
    ["cniVersion", "cniVersions", "name", "plugins", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"];
/// Keys of our entry in it: ours first, then those of every plugin.
const OF_FLATNET: [&str; 17] = [
    "stateDir",
    "subnets",
    "clusterNetworks",
    "mtu",
    "masquerade",
    "ipMasq",
    "cooldownSeconds",
    "routes",
    "sysctls",
    "dns",
    "ipam",
    "type",
    "capabilities",
    "args",
    "cniVersion",
    "cniVersions",
    "name",
];

/// Every problem of a configuration or a configuration list, a line each; empty: it is fine.
#[must_use]
pub fn problems(text: &[u8]) -> Vec<String> {
    let file: Map<String, Value> = match serde_json::from_slice(text) {
        Ok(file) => file,
        Err(e) => return vec![format!("is not a JSON object: {e}")],
    };
    let Some(plugins) = file.get("plugins") else { return of_entry("", &file, &file) };
    let mut all = unknown("", &file, &OF_A_LIST);
    let plugins = plugins.as_array().map_or(&[][..], Vec::as_slice);
    let mut found = false;
    for (i, plugin) in plugins.iter().enumerate() {
        let place = format!("plugins[{i}]: ");
        match plugin.as_object() {
            None => all.push(format!("{place}is not an object")),
            Some(entry) if entry.get("type") == Some(&json!("flatnet")) => {
                found = true;
                all.extend(of_entry(&place, &file, entry));
            }
            Some(entry) if !entry.get("type").is_some_and(Value::is_string) => {
                all.push(format!("{place}type is missing"));
            }
            Some(_) => {}
        }
    }
    if !found {
        all.push("plugins: none is of type flatnet".to_owned());
    }
    all
}

/// Our entry as a runtime would send it, with the list's name and version.
fn of_entry(place: &str, list: &Map<String, Value>, entry: &Map<String, Value>) -> Vec<String> {
    let mut all = unknown(place, entry, &OF_FLATNET);
    let mut request = entry.clone();
    for key in ["cniVersion", "name"] {
        request.extend(list.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    let bytes = Value::Object(request).to_string().into_bytes();
    if let Err(e) = Base::read(&bytes).and_then(|base| base.add_conf()) {
        all.push(format!("{place}{e}"));
    }
    all
}

fn unknown(place: &str, map: &Map<String, Value>, known: &[&str]) -> Vec<String> {
    map.keys()
        .filter(|key| !known.contains(&key.as_str()) && !key.starts_with("cni.dev/"))
        .map(|key| match nearest(key, known) {
            Some(meant) => format!("{place}unknown key {key:?}; did you mean {meant:?}?"),
            None => format!("{place}unknown key {key:?}"),
        })
        .collect()
}

/// The known key that `key` is most likely a misspelling of.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let allowed = key.len() / 3 + 1;
    let key = key.to_lowercase();
    let distances = known.iter().map(|k| (distance(&key, &k.to_lowercase()), *k));
    distances.min().filter(|(d, _)| *d <= allowed).map(|(_, k)| k)
}

/// Letters to add, drop or change to come from `a` to `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.chars().enumerate() {
            let changed = row[j] + usize::from(x != y);
            next.push(changed.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(conf: &Value) -> Vec<String> {
        problems(conf.to_string().as_bytes())
    }

    #[test]
    fn good_configurations_have_no_problem() {
        let entry =
            json!({ "type": "flatnet", "subnets": ["10.22.0.0/24"], "capabilities": { "ips": true } });
        assert_eq!(
            of(&json!({ "cniVersion": "1.0.0", "name": "n", "plugins": [entry, { "type": "portmap" }] })),
            [""; 0]
        );
        assert_eq!(of(&json!({ "cniVersion": "1.0.0", "name": "n", "type": "flatnet" })), [""; 0]);
    }

    #[test]
    fn every_unknown_key_is_named_with_the_nearest_known_one() {
        let entry = json!({ "type": "flatnet", "subnet": ["10.22.0.0/24"], "coolDownSecond": 3, "zzz": 1 });
        let all = of(&json!({ "cniVersion": "1.0.0", "name": "n", "disableGc": true, "plugins": [entry] }));
        for words in
            [["disableGc", "disableGC"], ["\"subnet\"", "\"subnets\""], ["coolDownSecond", "cooldownSeconds"]]
        {
            assert!(all.iter().any(|p| words.iter().all(|w| p.contains(w))), "{words:?}: {all:?}");
        }
        assert!(all.iter().any(|p| p.contains("\"zzz\"") && !p.contains("mean")), "{all:?}");
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn values_places_and_files_that_cannot_be() {
        let bad = json!({ "name": "n", "plugins": [{ "type": "bridge" }, { "type": "flatnet", "mtu": 5 }] });
        assert!(of(&bad)[0].starts_with("plugins[1]: mtu 5"), "{:?}", of(&bad));
        assert!(of(&json!({ "name": "n", "plugins": [] }))[0].contains("none is of type flatnet"));
        assert!(of(&json!({ "type": "flatnet" }))[0].contains("name is missing"));
        assert!(problems(b"{")[0].contains("not a JSON object"));
    }
}
