//! What a manifest leaves out, filled in as Kubernetes' API server does, so that an object reads here as it reads there.
//!
//! After `pkg/apis/core/v1/defaults.go`, and the service account as its admission plugin sets it.

use k8s_openapi::{
    api::core::v1::{
        Container, EnvVar, HTTPGetAction, LifecycleHandler, ObjectFieldSelector, Pod, PodSpec, Probe,
        ResourceFieldSelector, Volume, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use crate::workload::{Spec, Workload};

/// The mode of files in volumes made of data.
const FILE_MODE: i32 = 0o644;
/// The namespace of an object that names none.
pub const NAMESPACE: &str = "default";

/// Fills in a pod.
pub(super) fn pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        pod_spec(spec);
    }
}

/// Fills in a workload, but for the number of its replicas: when a manifest has none, it stays what it is.
pub(super) fn workload(workload: &mut Workload) {
    let spec = workload.template_mut().and_then(|template| template.spec.as_mut());
    spec.into_iter().for_each(pod_spec);
    match &mut workload.spec {
        Spec::Deployment(spec) => {
            let strategy = spec.strategy.get_or_insert_default();
            set(&mut strategy.type_, "RollingUpdate");
            if strategy.type_.as_deref() == Some("RollingUpdate") {
                let rolling = strategy.rolling_update.get_or_insert_default();
                let quarter = || IntOrString::String("25%".to_owned());
                rolling.max_surge.get_or_insert_with(quarter);
                rolling.max_unavailable.get_or_insert_with(quarter);
            }
        }
        Spec::ReplicaSet(_) => {}
        Spec::ReplicationController(spec) => {
            let template = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
            let labels = template.and_then(|metadata| metadata.labels.clone());
            spec.selector = spec.selector.take().or(labels);
        }
        Spec::StatefulSet(spec) => {
            set(&mut spec.pod_management_policy, "OrderedReady");
            set(&mut spec.update_strategy.get_or_insert_default().type_, "RollingUpdate");
        }
        Spec::DaemonSet(spec) => {
            let strategy = spec.update_strategy.get_or_insert_default();
            set(&mut strategy.type_, "RollingUpdate");
            if strategy.type_.as_deref() == Some("RollingUpdate") {
                let rolling = strategy.rolling_update.get_or_insert_default();
                rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            }
        }
        Spec::Job(spec) => {
            if spec.parallelism.is_none() {
                spec.completions.get_or_insert(1);
            }
            spec.parallelism.get_or_insert(1);
            spec.backoff_limit.get_or_insert(6);
            spec.suspend.get_or_insert(false);
            set(&mut spec.completion_mode, "NonIndexed");
        }
    }
}

/// Fills in the specification of a pod, also that in a template.
pub(super) fn pod_spec(spec: &mut PodSpec) {
    set(&mut spec.dns_policy, "ClusterFirst");
    set(&mut spec.restart_policy, "Always");
    set(&mut spec.scheduler_name, "default-scheduler");
    let account = spec.service_account_name.take().or_else(|| spec.service_account.take());
    let account = account.unwrap_or_else(|| "default".to_owned());
    spec.service_account_name = Some(account.clone());
    spec.service_account = Some(account);
    spec.enable_service_links.get_or_insert(true);
    spec.security_context.get_or_insert_default();
    spec.termination_grace_period_seconds.get_or_insert(30);
    for volume in spec.volumes.iter_mut().flatten() {
        self::volume(volume);
    }
    let host_network = spec.host_network == Some(true);
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        self::container(container, host_network);
    }
}

fn set(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

fn container(container: &mut Container, host_network: bool) {
    set(&mut container.termination_message_path, "/dev/termination-log");
    set(&mut container.termination_message_policy, "File");
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    set(&mut container.image_pull_policy, policy);
    for port in container.ports.iter_mut().flatten() {
        set(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or(0) == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    for probe in [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe]
    {
        probe.iter_mut().for_each(self::probe);
    }
    if let Some(lifecycle) = &mut container.lifecycle {
        lifecycle.post_start.iter_mut().for_each(handler);
        lifecycle.pre_stop.iter_mut().for_each(handler);
    }
    container.env.iter_mut().flatten().for_each(env);
    requests(container);
}

/// What is limited but not requested is requested as far as it is limited.
fn requests(container: &mut Container) {
    let resources = container.resources.get_or_insert_default();
    if let Some(limits) = &resources.limits {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// `Always` for a tag that moves, `IfNotPresent` for one that does not.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn probe(probe: &mut Probe) {
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    probe.http_get.iter_mut().for_each(http_get);
}

fn number(field: &mut Option<i32>, value: i32) {
    if field.unwrap_or(0) == 0 {
        *field = Some(value);
    }
}

fn handler(handler: &mut LifecycleHandler) {
    handler.http_get.iter_mut().for_each(http_get);
}

fn http_get(action: &mut HTTPGetAction) {
    set(&mut action.path, "/");
    set(&mut action.scheme, "HTTP");
}

fn env(env: &mut EnvVar) {
    if let Some(source) = &mut env.value_from {
        source.field_ref.iter_mut().for_each(field_ref);
        source.resource_field_ref.iter_mut().for_each(resource_ref);
    }
}

fn field_ref(selector: &mut ObjectFieldSelector) {
    set(&mut selector.api_version, "v1");
}

fn resource_ref(selector: &mut ResourceFieldSelector) {
    selector.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
}

fn volume(volume: &mut Volume) {
    let mut named = false;
    if let Some(source) = &mut volume.secret {
        named = true;
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        named = true;
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.downward_api {
        named = true;
        source.default_mode.get_or_insert(FILE_MODE);
        for item in source.items.iter_mut().flatten() {
            item.field_ref.iter_mut().for_each(field_ref);
            item.resource_field_ref.iter_mut().for_each(resource_ref);
        }
    }
    if let Some(source) = &mut volume.projected {
        named = true;
        source.default_mode.get_or_insert(FILE_MODE);
        source.sources.iter_mut().flatten().for_each(projection);
    }
    if let Some(source) = &mut volume.host_path {
        named = true;
        source.type_.get_or_insert_default();
    }
    if !named {
        volume.empty_dir.get_or_insert_default();
    }
}

fn projection(projection: &mut VolumeProjection) {
    for item in projection.downward_api.iter_mut().flat_map(|source| &mut source.items).flatten() {
        item.field_ref.iter_mut().for_each(field_ref);
        item.resource_field_ref.iter_mut().for_each(resource_ref);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pull_policy_follows_the_tag() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
