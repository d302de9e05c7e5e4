//! Which capabilities a container's processes have.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::SecurityContext;

/// What containers have unless they say otherwise: containerd's and Docker's set.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All there are, by their numbers (capabilities(7)).
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The names, as OCI spells them. `bounding` are those that we ourselves may have, as bits: nobody can give more.
pub(super) fn of(context: Option<&SecurityContext>, bounding: u64) -> Vec<String> {
    let mut held: BTreeSet<&str> = DEFAULT.into_iter().collect();
    let named = |list: Option<&Vec<String>>| -> Vec<String> {
        let list = list.into_iter().flatten().map(|name| name.to_uppercase());
        list.map(|name| name.strip_prefix("CAP_").unwrap_or(&name).to_owned()).collect()
    };
    let changes = context.and_then(|context| context.capabilities.as_ref());
    let (add, drop) = changes.map_or((vec![], vec![]), |c| (named(c.add.as_ref()), named(c.drop.as_ref())));
    // Dropping ALL and adding some, or the other way round: the single names win.
    if drop.iter().any(|name| name == "ALL") {
        held.clear();
    }
    if add.iter().any(|name| name == "ALL") || context.is_some_and(|context| context.privileged == Some(true))
    {
        held.extend(ALL);
    }
    held.extend(ALL.into_iter().filter(|name| add.iter().any(|one| one == name)));
    held.retain(|name| !drop.iter().any(|one| one == name));
    let possible =
        |name: &&str| ALL.iter().position(|known| known == name).is_some_and(|bit| bounding >> bit & 1 == 1);
    held.into_iter().filter(possible).map(|name| format!("CAP_{name}")).collect()
}

/// The capabilities that this process may ever have.
pub(super) fn bounding() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(json: serde_json::Value, bounding: u64) -> Vec<String> {
        of(Some(&serde_json::from_value(json).unwrap()), bounding)
    }

    #[test]
    fn adding_and_dropping() {
        let all = u64::MAX;
        assert_eq!(of(None, all).len(), 14);
        assert!(held(serde_json::json!({ "capabilities": { "drop": ["ALL"] } }), all).is_empty());
        let json = serde_json::json!({ "capabilities": { "drop": ["ALL"], "add": ["net_admin"] } });
        assert_eq!(held(json, all), ["CAP_NET_ADMIN"]);
        let json = serde_json::json!({ "capabilities": { "add": ["ALL"], "drop": ["CAP_SYS_ADMIN"] } });
        assert_eq!(held(json, all).len(), 40);
        assert_eq!(held(serde_json::json!({ "privileged": true }), all & !(1 << 24)).len(), 40);
    }
}
