//! Users, privileges, capabilities and sysctls.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};

use super::{container::one_of, each, names};
use crate::manifest::{path::Path, problem::Report};

/// `pkg/kubelet/sysctl/safe_sysctls.go`: those that stay in the pod's own namespaces and do no harm to the node.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const FS_GROUP_POLICIES: [&str; 2] = ["OnRootMismatch", "Always"];
const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";

/// Checks the security context of a pod.
pub(super) fn pod(spec: &PodSpec, path: &Path, report: &mut Report) {
    let Some(security) = &spec.security_context else { return };
    let at = path.field("securityContext");
    id(security.run_as_user, &at.field("runAsUser"), report);
    id(security.run_as_group, &at.field("runAsGroup"), report);
    id(security.fs_group, &at.field("fsGroup"), report);
    for (index, group) in each(&security.supplemental_groups).iter().enumerate() {
        id(Some(*group), &at.field("supplementalGroups").index(index), report);
    }
    one_of(
        security.fs_group_change_policy.as_ref(),
        &FS_GROUP_POLICIES,
        &at.field("fsGroupChangePolicy"),
        report,
    );
    if let (Some(group), None) = (security.run_as_group, security.run_as_user)
        && !all_name_users(spec)
    {
        // Without a user the group would be that of a user nobody named; the CRI refuses it.
        report.invalid(&at.field("runAsGroup"), group, "needs runAsUser");
    }
    let mut seen = HashSet::new();
    for (index, sysctl) in each(&security.sysctls).iter().enumerate() {
        let at = at.field("sysctls").index(index).field("name");
        let name = sysctl.name.replace('/', ".");
        if name.is_empty() {
            continue;
        }
        if let Err(why) = names::sysctl(&sysctl.name) {
            report.invalid(&at, &sysctl.name, why);
        } else if !seen.insert(name.clone()) {
            report.duplicate(&at, &sysctl.name);
        } else {
            self::sysctl(&name, spec.host_network == Some(true), &at, report);
        }
    }
}

fn sysctl(name: &str, host_network: bool, path: &Path, report: &mut Report) {
    if name.starts_with("net.") && host_network {
        // Set in the node's namespace, it would change the node.
        report.invalid(path, name, "may not be specified when 'hostNetwork' is true");
    } else if !SAFE_SYSCTLS.contains(&name) {
        let why = "is not safe: it may reach the node or other pods";
        report.problem(path, format!("Forbidden: {name:?} {why}; safe are {}", SAFE_SYSCTLS.join(", ")));
    }
}

/// Whether each container says which user it runs as.
fn all_name_users(spec: &PodSpec) -> bool {
    let named = |container: &Container| {
        container.security_context.as_ref().is_some_and(|own| own.run_as_user.is_some())
    };
    each(&spec.init_containers).iter().chain(&spec.containers).all(named)
}

fn id(value: Option<i64>, path: &Path, report: &mut Report) {
    if let Some(value) = value.filter(|value| !(0..=i64::from(i32::MAX)).contains(value)) {
        report.invalid(path, value, ID_RANGE);
    }
}

/// Checks the security context of a container.
pub(super) fn container(container: &Container, path: &Path, report: &mut Report) {
    let Some(security) = &container.security_context else { return };
    let at = path.field("securityContext");
    id(security.run_as_user, &at.field("runAsUser"), report);
    id(security.run_as_group, &at.field("runAsGroup"), report);
    let added = capabilities(security, &at, report);
    if security.allow_privilege_escalation == Some(false) {
        let at = at.field("allowPrivilegeEscalation");
        if security.privileged == Some(true) {
            report.invalid(
                &at,
                false,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        if added.contains("SYS_ADMIN") || added.contains("ALL") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            report.invalid(&at, false, why);
        }
    }
}

/// What is added, without prefix and in upper case.
fn capabilities(security: &SecurityContext, path: &Path, report: &mut Report) -> HashSet<String> {
    let mut added = HashSet::new();
    let Some(capabilities) = &security.capabilities else { return added };
    for (field, list) in [("add", &capabilities.add), ("drop", &capabilities.drop)] {
        for (index, name) in each(list).iter().enumerate() {
            let at = path.field("capabilities").field(field).index(index);
            let upper = name.to_uppercase();
            if let Some(bare) = upper.strip_prefix("CAP_").filter(|bare| is_capability(bare)) {
                report.invalid(&at, name, &format!("Kubernetes writes capabilities without CAP_: {bare}"));
            } else if !is_capability(&upper) {
                report.invalid(&at, name, "is not a capability of Linux");
            } else if field == "add" {
                added.insert(upper);
            }
        }
    }
    added
}

/// `include/uapi/linux/capability.h`, and `ALL`.
fn is_capability(name: &str) -> bool {
    const NAMES: [&str; 42] = [
        "ALL",
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "BPF",
        "CHECKPOINT_RESTORE",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "IPC_LOCK",
        "IPC_OWNER",
        "KILL",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "NET_ADMIN",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_RAW",
        "PERFMON",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYSLOG",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_CHROOT",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "WAKE_ALARM",
    ];
    NAMES.contains(&name)
}
