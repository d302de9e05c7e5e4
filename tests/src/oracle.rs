//! The kernel as iproute2 shows it: an independent witness.

use std::collections::BTreeSet;
use std::process::Command;

use netns_fixtures::NetNs;
use serde_json::Value;

/// `ip -j ARGS` inside `ns`.
///
/// # Panics
/// `ip` fails or answers with something else than JSON.
#[must_use]
pub fn ip(ns: &NetNs, args: &str) -> Vec<Value> {
    let text = command(ns, &format!("ip -j -d {args}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    let all: Vec<Value> = serde_json::from_str(&text).expect("ip -j prints JSON");
    all.into_iter().filter(|v| v.as_object().is_some_and(|o| !o.is_empty())).collect()
}

/// Runs a command line inside `ns` and answers with its stdout.
///
/// # Panics
/// It fails.
#[must_use]
pub fn command(ns: &NetNs, line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = ns
        .run(|| {
            #[expect(clippy::disallowed_methods, reason = "a test asks iproute2 and nft")]
            Command::new(words.next().expect("a command")).args(words).output()
        })
        .expect("enter the namespace")
        .unwrap_or_else(|e| panic!("{line}: {e}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Names of the links in `ns`, without `lo`.
#[must_use]
pub fn links(ns: &NetNs) -> Vec<String> {
    names(&ip(ns, "link show"), "ifname").into_iter().filter(|name| name != "lo").collect()
}

/// Everything about links, addresses, routes and neighbours that a run could leave behind, a line each.
/// Left out is what the kernel itself adds and settles in its own time: addresses it derives from MACs,
/// multicast routes, and what it makes of a link's carrier.
#[must_use]
pub fn everything(ns: &NetNs) -> BTreeSet<String> {
    let of_the_kernel = |line: &str| {
        line.contains("valid_lft")
            || line.contains("multicast ff00::/8")
            || (line.contains("fe80::") && !line.contains("fe80::1 "))
    };
    let settled = |line: &str| {
        let (before, after) = line.split_once(" state ").unwrap_or((line, ""));
        let after = after.split_once(' ').map_or("", |(_, rest)| rest);
        if line.starts_with("link show") {
            format!("{before} {after}")
        } else {
            line.replace("linkdown ", "")
        }
    };
    [
        "link show",
        "addr show",
        "route show table all",
        "-6 route show table all",
        "neigh show",
        "nexthop show",
        "rule show",
        "-6 rule show",
    ]
    .iter()
    .flat_map(|args| {
        let text = command(ns, &format!("ip -o {args}"));
        text.lines().map(|line| settled(&format!("{args}: {line}"))).collect::<Vec<_>>()
    })
    .filter(|line| !of_the_kernel(line))
    .collect()
}

/// Panics with the lines that differ.
///
/// # Panics
/// They differ.
pub fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>, what: &str) {
    let gone: Vec<_> = before.difference(after).collect();
    let new: Vec<_> = after.difference(before).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what}: gone {gone:#?}, new {new:#?}");
}

/// The values of `key`, as text.
#[must_use]
pub fn names(all: &[Value], key: &str) -> Vec<String> {
    all.iter()
        .filter_map(|v| v.get(key))
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        .collect()
}
