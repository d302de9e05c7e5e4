//! The containers of a pod.

use std::fmt::Write as _;

use anyhow::Result;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStatus, EnvVar, HTTPGetAction, PodStatus, Probe, TCPSocketAction,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::time;

/// Containers with what is known of each.
pub(super) fn list<'a>(
    text: &mut String,
    title: &str,
    containers: impl IntoIterator<Item = &'a Container>,
    status: &PodStatus,
) -> Result<()> {
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let known: Vec<&ContainerStatus> = lists.into_iter().flatten().flatten().collect();
    let mut containers = containers.into_iter().peekable();
    if containers.peek().is_some() {
        writeln!(text, "{title}:")?;
    }
    for container in containers {
        writeln!(text, "  {}:", container.name)?;
        one(text, container, known.iter().find(|status| status.name == container.name).copied())?;
    }
    Ok(())
}

fn one(text: &mut String, container: &Container, status: Option<&ContainerStatus>) -> Result<()> {
    writeln!(text, "    Image:\t{}", container.image.as_deref().unwrap_or_default())?;
    let ports = container.ports.as_deref().unwrap_or_default();
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let of = |numbers: Vec<String>| if numbers.is_empty() { "<none>".to_owned() } else { numbers.join(", ") };
    let inside = ports.iter().map(|port| format!("{}/{}", port.container_port, protocol(&port.protocol)));
    let outside =
        ports.iter().map(|port| format!("{}/{}", port.host_port.unwrap_or(0), protocol(&port.protocol)));
    let word = if ports.len() > 1 { "Ports" } else { "Port" };
    writeln!(text, "    {word}:\t{}\n    Host {word}:\t{}", of(inside.collect()), of(outside.collect()))?;
    for (key, list) in [("Command", &container.command), ("Args", &container.args)] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            writeln!(text, "    {key}:")?;
            for line in list.iter().flat_map(|word| word.split('\n')) {
                writeln!(text, "      {line}")?;
            }
        }
    }
    if let Some(status) = status {
        state(text, "State", status.state.as_ref())?;
        if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) {
            state(text, "Last State", status.last_state.as_ref())?;
        }
        let ready = if status.ready { "True" } else { "False" };
        writeln!(text, "    Ready:\t{ready}\n    Restart Count:\t{}", status.restart_count)?;
    }
    resources(text, container)?;
    let probes = [
        ("Liveness", &container.liveness_probe),
        ("Readiness", &container.readiness_probe),
        ("Startup", &container.startup_probe),
    ];
    for (key, probe) in probes {
        if let Some(probe) = probe {
            writeln!(text, "    {key}:\t{}", describe_probe(probe))?;
        }
    }
    environment(text, container)?;
    mounts(text, container)
}

fn state(text: &mut String, key: &str, state: Option<&ContainerState>) -> Result<()> {
    let none = ContainerState::default();
    let state = state.unwrap_or(&none);
    if let Some(running) = &state.running {
        writeln!(text, "    {key}:\tRunning")?;
        if let Some(at) = &running.started_at {
            writeln!(text, "      Started:\t{}", time(at.0))?;
        }
    } else if let Some(end) = &state.terminated {
        writeln!(text, "    {key}:\tTerminated")?;
        let mut field = |key: &str, value: Option<String>| match value.filter(|value| !value.is_empty()) {
            Some(value) => writeln!(text, "      {key}:\t{value}"),
            None => Ok(()),
        };
        field("Reason", end.reason.clone())?;
        field("Message", end.message.as_ref().map(|message| message.replace('\n', " ")))?;
        field("Exit Code", Some(end.exit_code.to_string()))?;
        field("Started", end.started_at.as_ref().map(|at| time(at.0)))?;
        field("Finished", end.finished_at.as_ref().map(|at| time(at.0)))?;
    } else {
        writeln!(text, "    {key}:\tWaiting")?;
        let reason = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        if let Some(reason) = reason {
            writeln!(text, "      Reason:\t{reason}")?;
        }
    }
    Ok(())
}

fn resources(text: &mut String, container: &Container) -> Result<()> {
    let Some(resources) = &container.resources else { return Ok(()) };
    for (key, list) in [("Limits", &resources.limits), ("Requests", &resources.requests)] {
        let Some(list) = list.as_ref().filter(|list| !list.is_empty()) else { continue };
        writeln!(text, "    {key}:")?;
        list.iter().try_for_each(|(name, Quantity(amount))| writeln!(text, "      {name}:\t{amount}"))?;
    }
    Ok(())
}

/// As kubectl does: what is asked, and how often.
fn describe_probe(probe: &Probe) -> String {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let http = |get: &HTTPGetAction| {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let (host, path) = (get.host.as_deref().unwrap_or_default(), get.path.as_deref().unwrap_or("/"));
        format!("http-get {scheme}://{host}:{}{path}", port(&get.port))
    };
    let tcp = |socket: &TCPSocketAction| {
        format!("tcp-socket {}:{}", socket.host.as_deref().unwrap_or_default(), port(&socket.port))
    };
    let exec = probe
        .exec
        .as_ref()
        .map(|exec| format!("exec [{}]", exec.command.clone().unwrap_or_default().join(" ")));
    let asked = exec.or(probe.http_get.as_ref().map(http)).or(probe.tcp_socket.as_ref().map(tcp));
    format!(
        "{} delay={}s timeout={}s period={}s #success={} #failure={}",
        asked.unwrap_or_else(|| "unknown".to_owned()),
        probe.initial_delay_seconds.unwrap_or(0),
        probe.timeout_seconds.unwrap_or(1),
        probe.period_seconds.unwrap_or(10),
        probe.success_threshold.unwrap_or(1),
        probe.failure_threshold.unwrap_or(3)
    )
}

fn environment(text: &mut String, container: &Container) -> Result<()> {
    let from: Vec<String> = container
        .env_from
        .iter()
        .flatten()
        .filter_map(|source| {
            let map = source.config_map_ref.as_ref().map(|map| ("ConfigMap", &map.name, map.optional));
            let found = map.or(source.secret_ref.as_ref().map(|one| ("Secret", &one.name, one.optional)));
            let (kind, name, optional) = found?;
            Some(format!("{name}\t{kind}\tOptional: {}", optional.unwrap_or(false)))
        })
        .collect();
    if !from.is_empty() {
        writeln!(text, "    Environment Variables from:")?;
        from.iter().try_for_each(|line| writeln!(text, "      {line}"))?;
    }
    let own = container.env.as_deref().unwrap_or_default();
    if own.is_empty() {
        writeln!(text, "    Environment:\t<none>")?;
        return Ok(());
    }
    writeln!(text, "    Environment:")?;
    own.iter().try_for_each(|one| writeln!(text, "      {}:\t{}", one.name, value_of(one)))?;
    Ok(())
}

fn value_of(variable: &EnvVar) -> String {
    let Some(source) = &variable.value_from else {
        return variable.value.clone().unwrap_or_default().replace('\n', " ");
    };
    if let Some(field) = &source.field_ref {
        return format!(" ({}:{})", field.api_version.as_deref().unwrap_or("v1"), field.field_path);
    }
    if let Some(resource) = &source.resource_field_ref {
        return format!("({})", resource.resource);
    }
    let map = source.config_map_key_ref.as_ref().map(|one| ("config map", &one.name, &one.key, one.optional));
    let secret = source.secret_key_ref.as_ref().map(|one| ("secret", &one.name, &one.key, one.optional));
    map.or(secret).map_or_else(String::new, |(kind, name, key, optional)| {
        format!("<set to the key '{key}' in {kind} '{name}'>\tOptional: {}", optional.unwrap_or(false))
    })
}

fn mounts(text: &mut String, container: &Container) -> Result<()> {
    let all = container.volume_mounts.as_deref().unwrap_or_default();
    if all.is_empty() {
        writeln!(text, "    Mounts:\t<none>")?;
        return Ok(());
    }
    writeln!(text, "    Mounts:")?;
    for mount in all {
        let access = if mount.read_only == Some(true) { "ro" } else { "rw" };
        let path = mount.sub_path.as_ref().filter(|path| !path.is_empty());
        let path = path.map_or_else(String::new, |path| format!(",path={path:?}"));
        writeln!(text, "      {} from {} ({access}{path})", mount.mount_path, mount.name)?;
    }
    Ok(())
}
