//! The specification of a pod as a whole.

use std::{collections::HashSet, net::IpAddr};

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use super::{container, each, metadata, names, ports, security, volume};
use crate::{
    manifest::{path::Path, problem::Report},
    status::Role,
};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// `MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars` of validation.go.
const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARS: usize = 2048;

/// What the parts of a pod are checked against.
pub(super) struct Context<'a> {
    pub(super) spec: &'a PodSpec,
    /// Names of the pod's volumes.
    pub(super) volumes: HashSet<&'a str>,
    /// Names of all its containers.
    pub(super) containers: HashSet<&'a str>,
}

/// Checks the specification at `path`.
pub(in crate::manifest) fn check(spec: &PodSpec, path: &Path, report: &mut Report) {
    let all = each(&spec.init_containers).iter().chain(&spec.containers);
    let context = Context {
        spec,
        volumes: each(&spec.volumes).iter().map(|volume| volume.name.as_str()).collect(),
        containers: all.map(|container| container.name.as_str()).collect(),
    };
    whole(spec, path, report);
    naming(spec, path, report);
    dns(spec, path, report);
    security::pod(spec, path, report);
    volume::volumes(&context, &path.field("volumes"), report);
    containers(&context, path, report);
    ports::host_ports(spec, path, report);
}

fn whole(spec: &PodSpec, path: &Path, report: &mut Report) {
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    if !RESTART_POLICIES.contains(&policy) {
        report.unsupported(&path.field("restartPolicy"), policy, &RESTART_POLICIES);
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        report.invalid(
            &path.field("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than or equal to 0",
        );
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        report.invalid(
            &path.field("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    metadata::labels(spec.node_selector.as_ref(), &path.field("nodeSelector"), report);
}

fn naming(spec: &PodSpec, path: &Path, report: &mut Report) {
    let mut name = |field: &str, value: &Option<String>, rule: fn(&str) -> Result<(), &'static str>| {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty())
            && let Err(why) = rule(value)
        {
            report.invalid(&path.field(field), value, why);
        }
    };
    name("hostname", &spec.hostname, names::dns_label);
    name("subdomain", &spec.subdomain, names::dns_label);
    name("nodeName", &spec.node_name, names::dns_subdomain);
    name("serviceAccountName", &spec.service_account_name, names::dns_subdomain);
    for (index, alias) in each(&spec.host_aliases).iter().enumerate() {
        let at = path.field("hostAliases").index(index);
        if !alias.ip.is_empty() && alias.ip.parse::<IpAddr>().is_err() {
            report.invalid(
                &at.field("ip"),
                &alias.ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
        for (index, hostname) in each(&alias.hostnames).iter().enumerate() {
            if let Err(why) = names::dns_subdomain(hostname) {
                report.invalid(&at.field("hostnames").index(index), hostname, why);
            }
        }
    }
}

fn dns(spec: &PodSpec, path: &Path, report: &mut Report) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    if !DNS_POLICIES.contains(&policy) {
        report.unsupported(&path.field("dnsPolicy"), policy, &DNS_POLICIES);
    }
    let at = path.field("dnsConfig");
    match &spec.dns_config {
        None if policy == "None" => report.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None"),
        None => {}
        Some(config) => dns_config(config, policy, &at, report),
    }
}

fn dns_config(config: &PodDNSConfig, policy: &str, path: &Path, report: &mut Report) {
    let servers = each(&config.nameservers);
    let at = path.field("nameservers");
    if policy == "None" && servers.is_empty() {
        report.required(&at, "must provide at least one DNS nameserver when `dnsPolicy` is None");
    }
    if servers.len() > NAMESERVERS {
        report.invalid(&at, servers, "must not have more than 3 nameservers");
    }
    for (index, server) in servers.iter().enumerate().filter(|(_, server)| server.parse::<IpAddr>().is_err())
    {
        report.invalid(
            &at.index(index),
            server,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    let searches = each(&config.searches);
    let at = path.field("searches");
    if searches.len() > SEARCHES {
        report.invalid(&at, searches.len(), "must not have more than 32 search paths");
    }
    if searches.iter().map(|search| search.len() + 1).sum::<usize>() > SEARCH_CHARS + 1 {
        report.invalid(
            &at,
            searches.len(),
            "must not have more than 2048 characters (including spaces) in the list",
        );
    }
    for (index, search) in searches.iter().enumerate() {
        // Relaxed since Kubernetes 1.32: "." and underscores are names of the DNS.
        let name = search.strip_suffix('.').unwrap_or(search).replace('_', "-");
        if search != "." && names::dns_subdomain(name.trim_matches('-')).is_err() {
            report.invalid(&at.index(index), search, "must be a DNS name");
        }
    }
    for (index, option) in each(&config.options).iter().enumerate() {
        if option.name.as_deref().unwrap_or_default().is_empty() {
            report.required(&path.field("options").index(index).field("name"), "");
        }
    }
}

fn containers(context: &Context<'_>, path: &Path, report: &mut Report) {
    let mut seen = HashSet::new();
    let mut all: Vec<(Path, Role, &_)> = Vec::new();
    for (index, container) in each(&context.spec.init_containers).iter().enumerate() {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        let role = if sidecar { Role::Sidecar } else { Role::Init };
        all.push((path.field("initContainers").index(index), role, container));
    }
    for (index, container) in context.spec.containers.iter().enumerate() {
        all.push((path.field("containers").index(index), Role::App, container));
    }
    for (at, role, container) in all {
        if !container.name.is_empty() {
            if let Err(why) = names::dns_label(&container.name) {
                report.invalid(&at.field("name"), &container.name, why);
            }
            if !seen.insert(container.name.as_str()) {
                report.duplicate(&at.field("name"), &container.name);
            }
        }
        container::check(container, role, context, &at, report);
    }
}
