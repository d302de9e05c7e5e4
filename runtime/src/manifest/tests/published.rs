//! The schema that `k8s-openapi` carries, made from Kubernetes' published OpenAPI: an oracle that the table did not write.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, ReplicationController, Secret},
};
use schemars::SchemaGenerator;
use serde_json::Value as Json;

/// Every type that a manifest can hold, by its name without package.
pub(in crate::manifest) struct Published(BTreeMap<String, Json>);

impl Published {
    pub(in crate::manifest) fn read() -> Self {
        let mut generator = SchemaGenerator::default();
        generator.subschema_for::<Pod>();
        generator.subschema_for::<ConfigMap>();
        generator.subschema_for::<Secret>();
        generator.subschema_for::<ReplicaSet>();
        generator.subschema_for::<ReplicationController>();
        generator.subschema_for::<Deployment>();
        generator.subschema_for::<StatefulSet>();
        generator.subschema_for::<DaemonSet>();
        generator.subschema_for::<Job>();
        let short = |name: &str| name.rsplit('.').next().unwrap().to_owned();
        Self(generator.definitions().iter().map(|(name, schema)| (short(name), schema.clone())).collect())
    }

    /// The schema of a type.
    pub(in crate::manifest) fn of(&self, name: &str) -> &Json {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not published"))
    }

    /// The published type of a field, in the words of `Shape::describe`; `None` if there is no such field.
    pub(in crate::manifest) fn field(&self, object: &str, field: &str) -> Option<String> {
        self.of(object)["properties"].get(field).map(describe)
    }
}

/// The published type of a property, in the words of `Shape::describe`.
pub(in crate::manifest) fn describe(property: &Json) -> String {
    if let Some(all) = property["allOf"].as_array() {
        return describe(&all[0]);
    }
    if let Some(reference) = property["$ref"].as_str() {
        return match reference.rsplit(['.', '/']).next().unwrap() {
            "Time" => "time".to_owned(),
            "Quantity" => "quantity".to_owned(),
            "IntOrString" => "integer or string".to_owned(),
            name => name.to_owned(),
        };
    }
    match property["type"].as_str().unwrap() {
        "array" => format!("[]{}", describe(&property["items"])),
        "object" => format!("map[string]{}", describe(&property["additionalProperties"])),
        "string" if property["format"] == "byte" => "base64".to_owned(),
        other => other.to_owned(),
    }
}
