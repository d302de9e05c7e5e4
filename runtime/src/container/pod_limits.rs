//! What all containers of a pod may use together (the kubelet's `ResourceConfigForPod`).

use anyhow::{Context, Result};
use flatpod::status::is_sidecar;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{
    quantity::{List, cpu_request, listed, milli, quantity},
    spec::{cpu_quota, cpu_shares},
};
use crate::cgroup::Limits;

/// The limits of the pod's cgroup: time of the CPU and memory only where every container has a limit.
pub(crate) fn pod_limits(spec: &PodSpec) -> Result<Limits> {
    let request = |container: &Container| cpu_request(container.resources.as_ref());
    let limit = |name, parse: fn(&str) -> Option<u64>| {
        move |container: &Container| listed(container.resources.as_ref(), List::Limits, name, parse)
    };
    Ok(Limits {
        cpu_shares: cpu_shares(total(spec, request)?.amount),
        cpu_quota: total(spec, limit("cpu", milli))?.if_all().map(cpu_quota),
        memory: total(spec, limit("memory", quantity))?.if_all(),
    })
}

/// The most that is needed at once, and whether every container says what it needs.
struct Total {
    amount: u64,
    all: bool,
}

impl Total {
    fn if_all(&self) -> Option<u64> {
        self.all.then_some(self.amount)
    }
}

/// Apps and sidecars run together; an init container with the sidecars before it.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Result<Option<u64>>) -> Result<Total> {
    let told = |one: &Container| format!("container {}", one.name);
    let (mut sidecars, mut most, mut all) = (0, 0, true);
    for init in spec.init_containers.iter().flatten() {
        let amount = of(init).with_context(|| told(init))?;
        all &= amount.is_some();
        let amount = amount.unwrap_or(0);
        most = most.max(sidecars + amount);
        sidecars += if is_sidecar(init) { amount } else { 0 };
    }
    let mut apps = 0;
    for app in &spec.containers {
        let amount = of(app).with_context(|| told(app))?;
        all &= amount.is_some();
        apps += amount.unwrap_or(0);
    }
    Ok(Total { amount: most.max(apps + sidecars), all })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: &str) -> Limits {
        pod_limits(&serde_json::from_str(spec).unwrap()).unwrap()
    }

    fn limits(cpu: &str, memory: &str) -> String {
        format!(r#""resources": {{"limits": {{"cpu": "{cpu}", "memory": "{memory}"}}}}"#)
    }

    #[test]
    fn apps_and_sidecars_add_up_and_an_init_container_counts_when_it_is_larger() {
        let spec = |init: &str| {
            format!(
                r#"{{"initContainers": [{{"name": "s", "restartPolicy": "Always", {}}}, {{"name": "i", {init}}}],
                    "containers": [{{"name": "a", {}}}, {{"name": "b", {}}}]}}"#,
                limits("100m", "10Mi"),
                limits("200m", "20Mi"),
                limits("300m", "30Mi")
            )
        };
        let small = of(&spec(&limits("100m", "10Mi")));
        assert_eq!((small.cpu_shares, small.cpu_quota, small.memory), (614, Some(60_000), Some(60 << 20)));
        let large = of(&spec(&limits("1", "100Mi")));
        assert_eq!((large.cpu_shares, large.cpu_quota, large.memory), (1126, Some(110_000), Some(110 << 20)));
    }

    #[test]
    fn who_sets_no_limit_lifts_that_of_the_pod() {
        let one =
            format!(r#"{{"containers": [{{"name": "a", {}}}, {{"name": "b"}}]}}"#, limits("200m", "20Mi"));
        let found = of(&one);
        assert_eq!((found.cpu_shares, found.cpu_quota, found.memory), (204, None, None));
        assert_eq!(of(r#"{"containers": [{"name": "a"}]}"#).cpu_shares, 2, "best effort");
    }
}
