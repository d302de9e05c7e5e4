//! The OCI runtime configuration of a container (`config.json` of the OCI runtime specification 1.0).

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde_json::{Map, Value, json};

use super::{
    Making, capability, environment,
    quantity::{List, cpu_request, listed, milli, quantity},
    seccomp, user, volumes,
};
use crate::{
    cgroup::{CPU_PERIOD, Version, controllers},
    seccomp::{ADMIN, Profile},
};

/// Paths under which the kernel tells or lets do what is no container's business: containerd's lists.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The least quota of the CPU in microseconds that the kernel takes.
const LEAST_QUOTA: u64 = 1000;
/// The least share of the CPU that the kernel takes.
const LEAST_SHARES: u64 = 2;

/// The configuration, with its root file system at `rootfs` beside it.
pub(crate) fn oci_spec(making: &Making<'_>, hostname: &str) -> Result<Value> {
    let context = making.container.security_context.as_ref();
    let privileged = context.and_then(|context| context.privileged) == Some(true);
    let read_only = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
    let held = capability::of(context, capability::bounding());
    let no_new = context.and_then(|context| context.allow_privilege_escalation) == Some(false);
    // Who may gain rights needs one to install a filter, and gives it up then.
    let mut at_first = held.clone();
    if seccomp::profile(making) == Profile::RuntimeDefault && !no_new && !held.iter().any(|one| one == ADMIN)
    {
        at_first.push(ADMIN.to_owned());
    }
    let none: [&str; 0] = [];
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": read_only },
        "process": {
            "terminal": making.container.tty == Some(true),
            "user": user::of(making)?,
            "args": command(making)?,
            "env": environment::of(making, hostname)?,
            "cwd": working_dir(making),
            "capabilities": { "bounding": held, "effective": at_first, "permitted": at_first, "inheritable": none, "ambient": none },
            "noNewPrivileges": no_new,
        },
        "mounts": mounts(making, read_only, privileged)?,
        "linux": {
            "namespaces": namespaces(making),
            "cgroupsPath": making.cgroup,
            "resources": resources(making.container.resources.as_ref(), privileged, &controllers()?)?,
            "maskedPaths": if privileged { &none[..] } else { &MASKED[..] },
            "readonlyPaths": if privileged { &none[..] } else { &READ_ONLY[..] },
        },
    }))
}

/// The container's command replaces the image's entrypoint and its arguments; its arguments replace the image's.
fn command(making: &Making<'_>) -> Result<Vec<String>> {
    let variables = environment::variables(making)?;
    let expand = |list: &Vec<String>| -> Vec<String> {
        list.iter().map(|text| environment::expand(text, &variables)).collect()
    };
    let image = &making.image.config;
    let own = |list: &Option<Vec<String>>| list.as_ref().filter(|list| !list.is_empty()).map(expand);
    let (mut line, rest) = match (own(&making.container.command), own(&making.container.args)) {
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (image.entrypoint.clone(), args),
        (None, None) => (image.entrypoint.clone(), image.cmd.clone()),
    };
    line.extend(rest);
    if line.is_empty() {
        bail!("no command specified: neither the container nor image {} has one", making.image.reference);
    }
    Ok(line)
}

fn working_dir(making: &Making<'_>) -> String {
    let own = making.container.working_dir.clone().filter(|dir| !dir.is_empty());
    let image = Some(making.image.config.working_dir.clone()).filter(|dir| !dir.is_empty());
    own.or(image).unwrap_or_else(|| "/".to_owned())
}

fn namespaces(making: &Making<'_>) -> Vec<Value> {
    let pinned = |kind: &str, file: &str| json!({ "type": kind, "path": making.dir.file(file) });
    let mut all = vec![json!({ "type": "mount" }), pinned("ipc", "ipc"), pinned("uts", "uts")];
    let spec = making.spec();
    if spec.host_network == Some(true) {
        all.extend(making.node.netns.as_ref().map(|net| json!({ "type": "network", "path": net })));
    } else {
        all.push(pinned("network", "net"));
    }
    // The pause container makes the namespace that the others join.
    let joins = spec.share_process_namespace == Some(true) && making.container.name != super::PAUSE;
    all.push(match making.target {
        Some(target) => json!({ "type": "pid", "path": target }),
        None if joins => pinned("pid", "pid"),
        None => json!({ "type": "pid" }),
    });
    all
}

fn mounts(making: &Making<'_>, read_only: bool, privileged: bool) -> Result<Vec<Value>> {
    let fresh = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let strict = ["nosuid", "noexec", "nodev"];
    let mut all = vec![
        fresh("/proc", "proc", &strict),
        fresh("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fresh(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        fresh("/dev/mqueue", "mqueue", &strict),
        fresh("/sys", "sysfs", &["nosuid", "noexec", "nodev", if privileged { "rw" } else { "ro" }]),
    ];
    let bind = |source: std::path::PathBuf, at: &str, access: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", "rprivate", access] });
    for dir in &making.image.host_dirs {
        // Without what is mounted below: that would not be read-only.
        let options = ["bind", "private", "ro", "nodev"];
        all.push(json!({ "destination": dir, "type": "bind", "source": dir, "options": options }));
    }
    all.push(bind(making.dir.file("shm"), "/dev/shm", "rw"));
    let own = volumes::mounts(making)?;
    let is_own = |at: &str| own.iter().any(|mount| mount["destination"] == json!(at));
    let access = if read_only { "ro" } else { "rw" };
    for name in super::POD_FILES {
        let at = format!("/etc/{name}");
        if !is_own(&at) {
            all.push(bind(making.dir.file("etc").join(name), &at, access));
        }
    }
    let message = making.container.termination_message_path.as_deref().unwrap_or(super::TERMINATION_LOG);
    all.push(bind(making.attempt.join("termination-log"), message, "rw"));
    all.extend(own);
    Ok(all)
}

/// Limits and requests, in the kernel's units (Kubernetes' formulas). A request weighs nothing where nobody weighs, but a
/// limit that nobody would keep is an error.
fn resources(
    wanted: Option<&ResourceRequirements>,
    privileged: bool,
    controllers: &BTreeMap<String, Version>,
) -> Result<Value> {
    let mut all = json!({ "devices": devices(privileged) });
    let quota = listed(wanted, List::Limits, "cpu", milli)?;
    let limit = listed(wanted, List::Limits, "memory", quantity)?;
    for (name, limited) in [("cpu", quota.is_some()), ("memory", limit.is_some())] {
        if limited && !controllers.contains_key(name) {
            bail!(
                "limits.{name}: the cgroups of this machine have no {name} controller here; leave the limit out"
            );
        }
    }
    if controllers.contains_key("cpu") {
        let mut cpu = Map::new();
        cpu.insert("shares".to_owned(), json!(cpu_shares(cpu_request(wanted)?.unwrap_or(0))));
        if let Some(quota) = quota {
            cpu.insert("quota".to_owned(), json!(cpu_quota(quota)));
            cpu.insert("period".to_owned(), json!(CPU_PERIOD));
        }
        all["cpu"] = Value::Object(cpu);
    }
    if let Some(limit) = limit {
        all["memory"] = json!({ "limit": limit });
    }
    Ok(all)
}

/// The weight of so many thousandths of a CPU.
pub(super) fn cpu_shares(milli: u64) -> u64 {
    (milli * 1024 / 1000).max(LEAST_SHARES)
}

/// Microseconds of each period that so many thousandths of a CPU are.
pub(super) fn cpu_quota(milli: u64) -> u64 {
    (milli * CPU_PERIOD / 1000).max(LEAST_QUOTA)
}

/// No devices but those of the OCI specification, which the launcher adds; all for who is privileged.
fn devices(privileged: bool) -> Value {
    json!([{ "allow": privileged, "access": "rwm" }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_by_kubernetes_formulas() {
        let wanted = json!({ "limits": { "cpu": "250m", "memory": "64Mi" } });
        let both: BTreeMap<_, _> = ["cpu", "memory"].map(|name| (name.to_owned(), Version::Two)).into();
        let wanted = serde_json::from_value(wanted).unwrap();
        let got = resources(Some(&wanted), false, &both).unwrap();
        assert_eq!(got["cpu"], json!({ "shares": 256, "quota": 25_000, "period": 100_000 }));
        assert_eq!(got["memory"], json!({ "limit": 64 << 20 }));
        assert_eq!(resources(None, false, &both).unwrap()["cpu"], json!({ "shares": 2 }));
        let wrong = json!({ "limits": { "memory": "much" } });
        let told = resources(Some(&serde_json::from_value(wrong).unwrap()), false, &both).unwrap_err();
        assert!(told.to_string().contains("much"), "{told}");
        let none = BTreeMap::new();
        assert!(resources(None, false, &none).unwrap()["cpu"].is_null());
        let told = resources(Some(&wanted), false, &none).unwrap_err().to_string();
        assert!(told.contains("limits.cpu") && told.contains("leave the limit out"), "{told}");
    }
}
