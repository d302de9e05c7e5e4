//! What is to be done in the configuration directory: decided from what is there, before anything is touched.

use std::path::Path;

use flatnet_core::cni::check;
use flatnet_core::cni::conf::DEFAULT_STATE_DIR;
use ipnetwork::IpNetwork;
use serde_json::json;

use super::netconf::{self, ConfFile};

/// Our configuration's file.
pub(crate) const CONFLIST: &str = "10-flatnet.conflist";
/// What the name of a configuration gets that has to stand back: no runtime loads it then.
pub(crate) const DISABLED: &str = ".flatnet-disabled";

/// What we write: the list of a node with an agent, or with `subnets` of one without.
///
/// # Errors
/// Everything that the plugin would find wrong with it.
pub(crate) fn conflist(state_dir: &Path, subnets: &[IpNetwork]) -> Result<Vec<u8>, String> {
    let mut plugin = json!({ "type": "flatnet" });
    if state_dir != Path::new(DEFAULT_STATE_DIR) {
        plugin["stateDir"] = json!(state_dir);
    }
    plugin["capabilities"] = json!({ "portMappings": true, "bandwidth": true, "ips": true, "mac": true });
    if !subnets.is_empty() {
        plugin["subnets"] = json!(subnets);
        plugin["masquerade"] = json!(true);
    }
    let list = json!({
        // The version for runtimes that do not know cniVersions; 1.1.0 here would be refused by them.
        "cniVersion": "1.0.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "flatnet",
        "plugins": [plugin],
    });
    let text = format!("{list:#}\n").into_bytes();
    match check::problems(&text).as_slice() {
        [] => Ok(text),
        problems => Err(problems.join("; ")),
    }
}

/// What stands where our configuration goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Absent,
    /// Nothing that a runtime would load: the reason.
    Damaged(String),
    /// Exactly what is wanted.
    Same,
    /// What an earlier install wrote, for a machine without an agent or for one with.
    Earlier { alone: bool },
    /// A configuration for our plugin that somebody wrote or changed.
    Edited,
    /// A configuration for other plugins: their types.
    Foreign(String),
}

impl Standing {
    /// `recorded`: whether an install wrote exactly this.
    pub(crate) fn of(found: &[u8], wanted: &[u8], recorded: bool) -> Self {
        if found == wanted {
            return Self::Same;
        }
        let file = ConfFile::new(CONFLIST.to_owned(), found);
        match &file.network {
            Err(why) => Self::Damaged(why.clone()),
            Ok(_) if recorded => Self::Earlier { alone: is_alone(found) },
            Ok(_) if file.calls_flatnet() => Self::Edited,
            Ok(network) => Self::Foreign(network.plugins.join(", ")),
        }
    }

    /// Whether putting ours there makes pods depend on an agent that they did not depend on before.
    pub(crate) fn waits_for_agent(&self) -> bool {
        match self {
            Self::Absent | Self::Damaged(_) | Self::Earlier { alone: true } => true,
            Self::Same | Self::Earlier { alone: false } | Self::Edited | Self::Foreign(_) => false,
        }
    }
}

/// Whether a list of ours names the pods' subnets itself.
fn is_alone(list: &[u8]) -> bool {
    let list: serde_json::Value = serde_json::from_slice(list).unwrap_or_default();
    list["plugins"][0].get("subnets").is_some()
}

/// Configurations that runtimes prefer to ours, or stumble over before it. `files` are sorted by name.
pub(crate) fn before_ours(files: &[ConfFile]) -> impl Iterator<Item = &ConfFile> {
    files.iter().filter(|file| file.name.as_str() < CONFLIST)
}

/// The name that a configuration has while it stands back.
pub(crate) fn disabled(name: &str) -> String {
    format!("{name}{DISABLED}")
}

/// The name that a file had before it had to stand back; `None`: it never did.
pub(crate) fn original(name: &str) -> Option<&str> {
    name.strip_suffix(DISABLED).filter(|original| netconf::is_configuration(original))
}

/// Why pods would not come to our network: a line each, with the remedy.
pub(crate) fn in_the_way(files: &[ConfFile]) -> Vec<String> {
    let unloadable = before_ours(files).filter_map(|file| {
        let why = file.network.as_ref().err()?;
        Some(format!(
            "{} {why}: containerd takes no network at all then; repair it, or use --take-over",
            file.name
        ))
    });
    let preferred = before_ours(files).find_map(|file| {
        let network = file.network.as_ref().ok()?;
        Some(format!(
            "runtimes use {} (network {}), which comes before {CONFLIST}; remove it, or use --take-over",
            file.name, network.name
        ))
    });
    unloadable.chain(preferred).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &[u8] = br#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}"#;

    fn files(list: &[(&str, &[u8])]) -> Vec<ConfFile> {
        list.iter().map(|(name, bytes)| ConfFile::new((*name).to_owned(), bytes)).collect()
    }

    #[test]
    fn the_list_is_the_documented_one() {
        let text = conflist(Path::new("/run/flatnet"), &[]).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            list,
            json!({ "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "flatnet", "plugins": [
                { "type": "flatnet",
                  "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true } }] })
        );
        let elsewhere = String::from_utf8(conflist(Path::new("/run/other"), &[]).unwrap()).unwrap();
        assert!(elsewhere.contains("\"stateDir\": \"/run/other\""), "{elsewhere}");
    }

    #[test]
    fn subnets_make_it_stand_alone_and_are_checked() {
        let subnets: Vec<IpNetwork> = vec!["10.22.0.0/24".parse().unwrap(), "fd00:22::/64".parse().unwrap()];
        let text = String::from_utf8(conflist(Path::new("/run/flatnet"), &subnets).unwrap()).unwrap();
        assert!(text.contains("fd00:22::/64") && text.contains("\"masquerade\": true"), "{text}");
        let e = conflist(Path::new("/run/flatnet"), &["10.22.0.9/24".parse().unwrap()]).unwrap_err();
        assert!(e.contains("10.22.0.9/24"), "{e}");
    }

    #[test]
    fn what_stands_in_the_place_is_told_apart() {
        let wanted = conflist(Path::new("/run/flatnet"), &[]).unwrap();
        let earlier = conflist(Path::new("/run/earlier"), &[]).unwrap();
        assert!(Standing::Absent.waits_for_agent());
        assert_eq!(Standing::of(&wanted, &wanted, false), Standing::Same);
        assert_eq!(Standing::of(&earlier, &wanted, true), Standing::Earlier { alone: false });
        let alone = conflist(Path::new("/run/flatnet"), &["10.22.0.0/24".parse().unwrap()]).unwrap();
        let standing = Standing::of(&alone, &wanted, true);
        assert_eq!(standing, Standing::Earlier { alone: true });
        assert!(standing.waits_for_agent());
        assert_eq!(Standing::of(&earlier, &wanted, false), Standing::Edited);
        assert_eq!(Standing::of(OTHER, &wanted, false), Standing::Foreign("bridge".to_owned()));
        let half = &wanted[..wanted.len() / 2];
        for damaged in [&b""[..], half] {
            assert!(matches!(Standing::of(damaged, &wanted, true), Standing::Damaged(_)));
        }
    }

    #[test]
    fn order_is_that_of_the_bytes_of_the_names() {
        let all = files(&[
            ("05-a.conflist", OTHER),
            ("10-calico.conflist", OTHER),
            ("10-flatnet.conf", br#"{"name":"n","type":"x"}"#),
            (CONFLIST, OTHER),
            ("10-flatnet.json", OTHER),
            ("9-z.conflist", OTHER),
        ]);
        let before: Vec<&str> = before_ours(&all).map(|file| file.name.as_str()).collect();
        assert_eq!(before, ["05-a.conflist", "10-calico.conflist", "10-flatnet.conf"]);
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let ours = (CONFLIST, OTHER);
        assert_eq!(in_the_way(&files(&[ours, ("99-z.conflist", OTHER)])), [""; 0]);
        let said = in_the_way(&files(&[("05-a.conflist", OTHER), ("06-b.conflist", OTHER), ours]));
        assert!(said.len() == 1 && said[0].contains("use 05-a.conflist (network other)"), "{said:?}");
        let said = in_the_way(&files(&[("05-a.conflist", b"{"), ours]));
        assert!(said.len() == 1 && said[0].contains("05-a.conflist is not a JSON object"), "{said:?}");
    }

    #[test]
    fn disabling_is_reversible_and_hides_the_file() {
        for name in ["05-a.conflist", "x.conf", ".h.json"] {
            let hidden = disabled(name);
            assert!(!netconf::is_configuration(&hidden));
            assert_eq!(original(&hidden), Some(name));
        }
        for name in ["a.conf", "a.flatnet-disabled", ".flatnet-disabled"] {
            assert_eq!(original(name), None, "{name}");
        }
    }
}
