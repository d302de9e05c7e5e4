//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity as Raw};

use crate::manifest::{Quantity, path::Path, problem::Report};

const NAMES: [&str; 2] = ["cpu", "memory"];

pub(super) fn check(resources: &ResourceRequirements, path: &Path, report: &mut Report) {
    amounts(resources.limits.as_ref(), &path.field("limits"), report);
    amounts(resources.requests.as_ref(), &path.field("requests"), report);
    for (name, request) in resources.requests.iter().flatten() {
        let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(name)) else { continue };
        if let (Ok(wanted), Ok(most)) = (request.0.parse::<Quantity>(), limit.0.parse::<Quantity>())
            && wanted.nano() > most.nano()
        {
            let why = format!("must be less than or equal to {name} limit of {}", limit.0);
            report.invalid(&path.field("requests").entry(name), &request.0, &why);
        }
    }
}

fn amounts(amounts: Option<&BTreeMap<String, Raw>>, path: &Path, report: &mut Report) {
    for (name, amount) in amounts.into_iter().flatten() {
        let at = path.entry(name);
        if !NAMES.contains(&name.as_str()) {
            report.problem(&at, format!("not supported: {}", why_not(name)));
        }
        if amount.0.parse::<Quantity>().is_ok_and(|amount| amount.nano() < 0) {
            report.invalid(&at, &amount.0, "must be greater than or equal to 0");
        }
    }
}

fn why_not(name: &str) -> &'static str {
    if name.starts_with("hugepages-") {
        return "huge pages are not given to containers here";
    }
    match name {
        "ephemeral-storage" => "the disk that a container uses is not limited here",
        _ if name.contains('/') => "devices are not allocated here",
        _ => "there is no such resource; supported are cpu and memory",
    }
}
