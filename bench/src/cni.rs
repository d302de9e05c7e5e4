//! What a runtime hands to a plugin (CNI spec, section 2).

use std::process::Command;

use netns_fixtures::NetNs;

/// Sets the variables of one call; `path` is `CNI_PATH`.
pub(crate) fn call(command: &mut Command, verb: &str, id: &str, pod: &NetNs, path: &str) {
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", id)
        .env("CNI_NETNS", pod.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", path);
}
