//! What every container of a pod finds in `/etc`: hosts, hostname, resolv.conf. The texts are the kubelet's.

use std::{fmt::Write as _, fs, net::IpAddr};

use anyhow::{Context, Result};
use flatpod::manifest::NAMESPACE;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::state::{NodeRecord, PodDir, write};

/// The longest host name that Kubernetes gives.
const HOSTNAME_MAX: usize = 63;
/// As many as resolvers read (resolv.conf(5)).
const NAMESERVERS_MAX: usize = 3;
/// What the kubelet is told by default.
const CLUSTER_DOMAIN: &str = "cluster.local";
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";

/// The pod's host name: its own, or the node's when it is on the node's network.
pub(crate) fn hostname(pod: &Pod, node: &NodeRecord) -> String {
    let spec = pod.spec.as_ref();
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return node.name.clone();
    }
    let name = spec.and_then(|spec| spec.hostname.clone()).or(pod.metadata.name.clone()).unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Writes the files.
pub(super) fn write_files(pod: &Pod, dir: &PodDir, node: &NodeRecord, addresses: &[IpAddr]) -> Result<()> {
    let etc = dir.file("etc");
    fs::create_dir_all(&etc).with_context(|| format!("create {}", etc.display()))?;
    let hostname = hostname(pod, node);
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    write(&etc.join("hostname"), format!("{hostname}\n").as_bytes())?;
    let domain = domain(pod);
    write(&etc.join("hosts"), hosts(spec, &hostname, domain.as_deref(), addresses)?.as_bytes())?;
    write(&etc.join("resolv.conf"), resolv_conf(spec)?.as_bytes())
}

/// What follows the host name in the pod's whole name, if it has one.
fn domain(pod: &Pod) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_ref().filter(|name| !name.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or(NAMESPACE);
    Some(format!("{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"))
}

fn hosts(spec: &PodSpec, hostname: &str, domain: Option<&str>, addresses: &[IpAddr]) -> Result<String> {
    let mut text = if spec.host_network == Some(true) {
        let node = fs::read_to_string("/etc/hosts").context("read the node's /etc/hosts")?;
        format!("# Kubernetes-managed hosts file (host network).\n{node}")
    } else {
        let mut text = format!("# Kubernetes-managed hosts file.\n{LOCALHOST}");
        for address in addresses {
            match domain {
                Some(domain) => writeln!(text, "{address}\t{hostname}.{domain}\t{hostname}")?,
                None => writeln!(text, "{address}\t{hostname}")?,
            }
        }
        text
    };
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        writeln!(text, "{}\t{}", alias.ip, alias.hostnames.as_deref().unwrap_or_default().join("\t"))?;
    }
    Ok(text)
}

fn resolv_conf(spec: &PodSpec) -> Result<String> {
    let mut servers = vec![];
    let mut searches = vec![];
    let mut options = vec![];
    if spec.dns_policy.as_deref() != Some("None") {
        let node = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let of = |key: &str| -> Vec<String> {
            let lines = node.lines().filter_map(|line| line.trim().strip_prefix(key));
            let values =
                lines.filter(|rest| rest.starts_with(char::is_whitespace)).flat_map(str::split_whitespace);
            values.map(str::to_owned).collect()
        };
        (servers, searches, options) = (of("nameserver"), of("search"), of("options"));
    }
    if let Some(dns) = &spec.dns_config {
        servers.extend(dns.nameservers.clone().unwrap_or_default());
        searches.extend(dns.searches.clone().unwrap_or_default());
        for option in dns.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|old| old.split(':').next() != Some(&name));
            options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut text = String::new();
    unique(&mut servers);
    unique(&mut searches);
    for server in servers.iter().take(NAMESERVERS_MAX) {
        writeln!(text, "nameserver {server}")?;
    }
    if !searches.is_empty() {
        writeln!(text, "search {}", searches.join(" "))?;
    }
    if !options.is_empty() {
        writeln!(text, "options {}", options.join(" "))?;
    }
    Ok(text)
}

/// Keeps the first of equal ones.
fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|one| seen.insert(one.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn hosts_as_the_kubelet_writes_them() {
        let wanted = spec(serde_json::json!({ "containers": [], "hostAliases": [
            { "ip": "192.0.2.7", "hostnames": ["a", "b"] } ] }));
        let own = ["10.1.2.3".parse().unwrap()];
        let whole = hosts(&wanted, "web", Some("x.default.svc.cluster.local"), &own).unwrap();
        assert!(whole.contains("\n10.1.2.3\tweb.x.default.svc.cluster.local\tweb\n"));
        let text = hosts(&wanted, "web", None, &own).unwrap();
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.1.2.3\tweb\n"));
        assert!(text.ends_with("\n\n# Entries added by HostAliases.\n192.0.2.7\ta\tb\n"));
    }

    #[test]
    fn names_are_resolved_as_the_pod_says() {
        let wanted = spec(serde_json::json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"],
            "searches": ["x.test"], "options": [{ "name": "ndots", "value": "2" }, { "name": "edns0" }] } }));
        let text = resolv_conf(&wanted).unwrap();
        let servers = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        assert_eq!(text, format!("{servers}search x.test\noptions ndots:2 edns0\n"));
    }
}
