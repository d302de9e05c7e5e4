//! The one gate of privileged tests: they run, or they fail loudly. They never pass by skipping.

use std::fs;

/// Capabilities that building a fabric takes, with their bit numbers.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_SYS_ADMIN", 21)];

/// Panics, naming what is missing, unless this process may build network namespaces.
///
/// # Panics
/// When a capability is missing.
pub fn require() {
    let missing = missing();
    assert!(
        missing.is_empty(),
        "this test builds network namespaces and lacks {}: run it as root, or under `unshare -Urnm`",
        missing.join(", ")
    );
}

/// The capabilities that [`require`] would complain about.
pub fn missing() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED.iter().filter(|(_, bit)| held & (1 << bit) == 0).map(|(name, _)| *name).collect()
}
