//! Who uses images: pods name them, and containers have them mounted.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Result;
use flatpod::status::is_over;
use k8s_openapi::api::core::v1::Pod;

use super::{Image, Reference};
use crate::{
    shim::Order,
    state::{Root, read_json},
};

/// The directories of images that containers run on, or are about to.
pub(crate) fn mounted(root: &Root) -> Result<BTreeSet<PathBuf>> {
    let mut used = BTreeSet::new();
    for pod in root.pods()? {
        for name in pod.containers() {
            let Some(record) = pod.container(&name)? else { continue };
            let attempt = pod.attempt(&name, record.attempt);
            let order: Option<Order> = read_json(&attempt.file("order.json"))?;
            if attempt.ended()?.is_none() {
                used.extend(order.into_iter().flat_map(|order| order.lower));
            }
        }
    }
    Ok(used)
}

/// The pods that name an image and are not over, as `namespace/name`.
pub(crate) fn pods_with(root: &Root, image: &Image) -> Result<Vec<String>> {
    let mut users = vec![];
    for dir in root.pods()? {
        // One that goes meanwhile uses nothing.
        let Ok(pod) = dir.manifest() else { continue };
        if dir.status()?.as_ref().is_some_and(is_over) || !names(&pod, image) {
            continue;
        }
        let name = |part: &Option<String>| part.clone().unwrap_or_default();
        users.push(format!("{}/{}", name(&pod.metadata.namespace), name(&pod.metadata.name)));
    }
    Ok(users)
}

fn names(pod: &Pod, image: &Image) -> bool {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| {
        let temporary = spec.ephemeral_containers.iter().flatten().map(|container| &container.image);
        let others = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        others.map(|container| &container.image).chain(temporary)
    });
    let named = all.flatten().filter_map(|name| name.parse::<Reference>().ok());
    { named }.any(|name| image.is(&name))
}
