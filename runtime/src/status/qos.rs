//! The quality of service of a pod.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::api::resource::Quantity as Raw};

use crate::manifest::Quantity;

/// What a pod is promised of cpu and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Qos {
    /// Every container has limits of both, and requests equal to them.
    Guaranteed,
    /// Some container requests or limits something.
    Burstable,
    /// None does.
    BestEffort,
}

impl Qos {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

const RESOURCES: [&str; 2] = ["cpu", "memory"];

/// The class, by `ComputePodQOS` of `pkg/apis/core/v1/helper/qos/qos.go`.
#[must_use]
pub fn qos(spec: &PodSpec) -> Qos {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut limited = true;
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let resources = container.resources.as_ref();
        add(&mut requests, resources.and_then(|resources| resources.requests.as_ref()));
        let own = add(&mut limits, resources.and_then(|resources| resources.limits.as_ref()));
        limited &= own == RESOURCES.len();
    }
    if requests.is_empty() && limits.is_empty() {
        return Qos::BestEffort;
    }
    if limited && requests == limits { Qos::Guaranteed } else { Qos::Burstable }
}

/// Adds what is more than nothing of each resource; says of how many there was.
fn add(sums: &mut BTreeMap<&'static str, i128>, amounts: Option<&BTreeMap<String, Raw>>) -> usize {
    let mut found = 0;
    for name in RESOURCES {
        let amount =
            amounts.and_then(|amounts| amounts.get(name)).and_then(|raw| raw.0.parse::<Quantity>().ok());
        if let Some(amount) = amount.filter(|amount| amount.nano() > 0) {
            *sums.entry(name).or_default() += amount.nano();
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

    use super::*;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let map = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(name, amount)| ((*name).to_owned(), Raw((*amount).to_owned()))).collect())
        };
        let resources = ResourceRequirements { requests: map(requests), limits: map(limits), claims: None };
        Container { resources: Some(resources), ..Container::default() }
    }

    #[test]
    fn classes() {
        let full: [(&str, &str); 2] = [("cpu", "1"), ("memory", "1Gi")];
        let same: [(&str, &str); 2] = [("cpu", "1000m"), ("memory", "1024Mi")];
        let cases = [
            (vec![container(&[], &[])], Qos::BestEffort),
            (vec![container(&[("cpu", "0")], &[])], Qos::BestEffort),
            (vec![container(&same, &full)], Qos::Guaranteed),
            (vec![container(&full, &full), container(&[], &[])], Qos::Burstable),
            (vec![container(&[("cpu", "1")], &[("cpu", "1")])], Qos::Burstable),
            (vec![container(&[("cpu", "500m"), ("memory", "1Gi")], &full)], Qos::Burstable),
            (vec![container(&[("memory", "1Gi")], &[])], Qos::Burstable),
        ];
        for (containers, expected) in cases {
            let spec = PodSpec { containers, ..PodSpec::default() };
            assert_eq!(qos(&spec), expected, "{spec:?}");
        }
    }

    #[test]
    fn init_containers_count() {
        let full: [(&str, &str); 2] = [("cpu", "1"), ("memory", "1Gi")];
        let spec = PodSpec {
            containers: vec![container(&full, &full)],
            init_containers: Some(vec![container(&[], &[])]),
            ..PodSpec::default()
        };
        assert_eq!(qos(&spec), Qos::Burstable);
    }
}
