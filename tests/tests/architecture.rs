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

/// The tables about pods name files, in `runtime/tests` unless there is a path, and the functions in them after each.
#[test]
fn every_test_of_pods_that_the_documentation_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("docs/pods.md")).unwrap();
    let sections = ["## Claims and the tests that show them", "## Ways to be a toy, and the checks"];
    let mut named = [0, 0];
    for (section, count) in sections.iter().zip(&mut named) {
        let (_, section) = text.split_once(section).unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with('|'));
        for row in rows.take_while(|line| line.starts_with('|')).skip(2) {
            let mut code = None;
            let tests = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
            for word in tests.split('`').skip(1).step_by(2) {
                if word.ends_with(".rs") || word.ends_with('/') {
                    let path = if word.contains("src/") {
                        root.join(word)
                    } else {
                        root.join("runtime/tests").join(word)
                    };
                    assert!(path.exists(), "{word} of {row}");
                    code = path.is_file().then(|| std::fs::read_to_string(&path).unwrap());
                } else if let Some(code) = code.as_ref().filter(|_| word.contains('_')) {
                    let sought = match word.strip_suffix('…') {
                        Some(beginning) => format!("fn {beginning}"),
                        None => format!("fn {word}()"),
                    };
                    assert!(code.contains(&sought) || word.starts_with("FLATPOD_"), "{sought} of {row}");
                    *count += 1;
                }
            }
        }
    }
    assert!(named[0] > 30 && named[1] > 50, "only {named:?} tests are named");
}
