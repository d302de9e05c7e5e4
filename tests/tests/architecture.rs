//! The direction of dependencies, read from the manifests.

use std::path::Path;

/// Workspace packages that `folder`'s manifest names outside `[dev-dependencies]`.
fn dependencies(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            line.clone_into(&mut section);
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let ours = name.starts_with("flatnet-") || matches!(name, "netns-fixtures" | "flatpod");
        if ours && section == "[dependencies]" {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let below = ["flatnet-core", "flatnet-kernel", "flatnet-node-state"];
    let allowed: [(&str, &[&str]); 7] = [
        ("core", &[]),
        ("netns-fixtures", &[]),
        ("kernel", &["flatnet-core"]),
        ("node-state", &["flatnet-core"]),
        ("plugin", &below),
        ("agent", &below),
        ("runtime", &["flatnet-core", "flatnet-kernel", "flatnet-node-state", "netns-fixtures"]),
    ];
    for (folder, may) in allowed {
        for dependency in dependencies(folder) {
            assert!(may.contains(&dependency.as_str()), "{folder} must not depend on {dependency}");
        }
    }
}

/// The check above would be worthless if it read nothing.
#[test]
fn the_manifests_are_really_read() {
    assert!(dependencies("plugin").contains(&"flatnet-kernel".to_owned()));
}

/// The table of the contract names files without `plugin_`, and the functions in them.
#[test]
fn every_test_that_the_documentation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../docs/testing.md")).unwrap();
    let named: Vec<(&str, &str)> = text.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 50, "only {} tests are named", named.len());
    for (file, test) in named.into_iter().filter(|(file, _)| *file != "FILE") {
        let places = [format!("plugin_{file}.rs"), format!("{file}.rs"), format!("{file}/main.rs")];
        let path = places.iter().map(|place| root.join("tests").join(place)).find(|path| path.exists());
        let code = std::fs::read_to_string(path.unwrap_or_else(|| panic!("{file} is no test"))).unwrap();
        assert!(code.contains(&format!("fn {test}()")), "{file} has no test {test}");
    }
}
