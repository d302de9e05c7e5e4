//! Whole manifests: those of `tests/manifests`, and what becomes of them when one key is wrong.

mod mutation;
pub(super) mod published;

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

/// The files of `tests/manifests`, sorted.
fn manifests() -> Vec<Source> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests"));
    let sources = source::read(&[directory], &mut std::io::empty()).unwrap();
    assert!(sources.len() >= 20, "only {} manifests were found", sources.len());
    sources
}

fn of(text: &str) -> Manifest {
    check(&[Source { name: "in".to_owned(), text: text.to_owned() }], None)
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn real_manifests_are_valid() {
    for source in manifests() {
        let found = check(std::slice::from_ref(&source), None);
        assert!(found.problems.is_empty(), "{:#?}", found.problems);
        assert!(!found.objects.is_empty(), "{}", source.name);
    }
}

/// What `-o yaml` prints is read again as the same object, and defaults are filled in once.
#[test]
fn objects_are_stable() {
    for source in manifests() {
        for object in check(std::slice::from_ref(&source), None).objects {
            let json = object.to_json().unwrap();
            let again = of(&json.to_string());
            assert!(again.problems.is_empty(), "{:?}", again.problems);
            // The type of a secret's data is the same, whichever way it was written.
            assert_eq!(again.objects, [object], "{}", source.name);
        }
    }
}

#[test]
fn workloads_are_completed_but_for_what_scaling_changes() {
    let of = |kind: &str, spec: &str| {
        let version = if kind == "Job" { "batch/v1" } else { "v1" };
        let version = if kind == "Deployment" { "apps/v1" } else { version };
        let text = format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}, spec: {{{spec} template: {{metadata: \
             {{name: x, labels: {{app: a}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
        );
        let found = of(&text);
        assert!(found.problems.is_empty(), "{:#?}", found.problems);
        found.objects[0].to_json().unwrap()["spec"].clone()
    };
    let deployment = of("Deployment", "selector: {matchLabels: {app: a}},");
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    assert_eq!(deployment["replicas"], Json::Null);
    assert_eq!(deployment["template"]["metadata"]["name"], Json::Null, "pods are named after the workload");
    assert_eq!(deployment["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(of("ReplicationController", "")["selector"]["app"], "a");
}

#[test]
fn several_files_are_reported_together() {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let found = check(
        &[
            source("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n"),
            source("b.yaml", "apiVersion: v1\nkind: [\n"),
            source("c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"),
            source("d.yaml", "# nothing\n"),
        ],
        None,
    );
    assert_eq!(found.objects.len(), 1);
    let lines = lines(&found.problems);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "a.yaml:4: pod/a: spec.containers: Required value");
    assert!(lines[1].starts_with("b.yaml:2: not YAML: "), "{}", lines[1]);
}

#[test]
fn nothing_is_not_a_manifest() {
    assert_eq!(lines(&of("# only a comment\n---\n").problems), ["in: there is no object in it"]);
    assert_eq!(lines(&check(&[], None).problems).len(), 1);
}

#[test]
fn the_namespace_of_the_command_counts() {
    let source = |text: &str| [Source { name: "in".to_owned(), text: text.to_owned() }];
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let namespace = |asked| check(&source(map), asked).objects[0].metadata().namespace.clone().unwrap();
    assert_eq!((namespace(None), namespace(Some("test"))), ("default".to_owned(), "test".to_owned()));
    let other =
        check(&source("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\n"), Some("c"));
    assert!(other.problems[0].message.contains("\"b\", is not the one of the command, \"c\""));
}

#[test]
fn one_object_is_given_once() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n";
    let found = of(&format!("{map}{map}{}", map.replace("name: a", "name: a, namespace: b")));
    assert_eq!(found.objects.len(), 2);
    assert_eq!(
        lines(&found.problems),
        ["in:7: configmap/a: metadata.name: this object is given twice: also at in:1"]
    );
}

#[test]
fn a_secret_keeps_what_its_strings_say() {
    let found = of(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: b2xk, b: YQ==}\nstringData: {a: new}\n",
    );
    let Checked::Secret(secret) = &found.objects[0] else { panic!("{found:?}") };
    let data = secret.data.as_ref().unwrap();
    assert_eq!((data["a"].0.as_slice(), data["b"].0.as_slice()), (&b"new"[..], &b"a"[..]));
    assert_eq!((secret.string_data.as_ref(), secret.type_.as_deref()), (None, Some("Opaque")));
    let bad = of("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: not base64!, ../b: YQ==}\n");
    assert!(bad.problems[0].message.starts_with("expected base64"), "{:?}", bad.problems);
}

#[test]
fn what_an_api_server_set_is_not_taken() {
    let found = of("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: x, resourceVersion: \"7\"}\n");
    let metadata = found.objects[0].metadata();
    assert_eq!((&metadata.uid, &metadata.resource_version), (&None, &None));
    assert_eq!(found.notices.len(), 2);
    assert_eq!(
        found.notices[0].to_string(),
        "configmap/a: metadata.uid: no effect here: flatpod sets it itself"
    );
}

#[test]
fn a_pod_is_completed_as_the_api_server_does() {
    let found = of(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostNetwork: true\n  volumes: [{name: v}]\n  \
        containers:\n  - {name: a, image: b, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}\n",
    );
    let expected = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "containers": [{
                "name": "a",
                "image": "b",
                "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "hostNetwork": true,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "serviceAccount": "default",
            "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 30,
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    });
    assert_eq!(found.objects[0].to_json().unwrap(), expected);
}

/// What the API server fills in below containers and volumes, each by its place in the object.
#[test]
fn the_parts_of_a_pod_are_completed_too() {
    let found = of(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  initContainers:\n  - {name: i, image: i, restartPolicy: Always, \
        startupProbe: {exec: {command: [a]}}}\n  containers:\n  - name: c\n    image: i:1\n    \
        livenessProbe: {httpGet: {port: 80}, timeoutSeconds: 7}\n    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 0}\n    \
        lifecycle: {preStop: {httpGet: {port: 80}}}\n    env:\n    - {name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    \
        - {name: B, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}\n    resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}\n  \
        volumes:\n  - {name: c, configMap: {name: c}}\n  - {name: s, secret: {secretName: s, defaultMode: 256}}\n  \
        - {name: d, downwardAPI: {items: [{path: p, fieldRef: {fieldPath: metadata.labels}}]}}\n  - {name: h, hostPath: {path: /x}}\n  \
        - {name: p, projected: {sources: [{downwardAPI: {items: [{path: p, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}}]}}\n",
    );
    let object = found.objects.first().unwrap_or_else(|| panic!("{:?}", found.problems)).to_json().unwrap();
    let cases: [(&str, Json); 26] = [
        ("/initContainers/0/imagePullPolicy", "Always".into()),
        ("/initContainers/0/startupProbe/periodSeconds", 10.into()),
        ("/initContainers/0/startupProbe/timeoutSeconds", 1.into()),
        ("/initContainers/0/startupProbe/successThreshold", 1.into()),
        ("/initContainers/0/startupProbe/failureThreshold", 3.into()),
        ("/containers/0/imagePullPolicy", "IfNotPresent".into()),
        ("/containers/0/livenessProbe/timeoutSeconds", 7.into()),
        ("/containers/0/livenessProbe/httpGet/path", "/".into()),
        ("/containers/0/livenessProbe/httpGet/scheme", "HTTP".into()),
        ("/containers/0/readinessProbe/periodSeconds", 10.into()),
        ("/containers/0/lifecycle/preStop/httpGet/scheme", "HTTP".into()),
        ("/containers/0/env/0/valueFrom/fieldRef/apiVersion", "v1".into()),
        ("/containers/0/env/1/valueFrom/resourceFieldRef/divisor", "0".into()),
        ("/containers/0/resources/requests/cpu", "500m".into()),
        ("/containers/0/resources/requests/memory", "1Gi".into()),
        ("/containers/0/terminationMessagePolicy", "File".into()),
        ("/volumes/0/configMap/defaultMode", 420.into()),
        ("/volumes/0/emptyDir", Json::Null),
        ("/volumes/1/secret/defaultMode", 256.into()),
        ("/volumes/2/downwardAPI/defaultMode", 420.into()),
        ("/volumes/2/downwardAPI/items/0/fieldRef/apiVersion", "v1".into()),
        ("/volumes/3/hostPath/type", "".into()),
        ("/volumes/4/projected/defaultMode", 420.into()),
        ("/volumes/4/projected/sources/0/downwardAPI/items/0/resourceFieldRef/divisor", "0".into()),
        ("/containers/0/livenessProbe/initialDelaySeconds", Json::Null),
        ("/hostNetwork", Json::Null),
    ];
    for (place, expected) in cases {
        let found = object["spec"].pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{place} in {object:#}");
    }
}

#[test]
fn workloads_are_checked_with_their_templates() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {app: a}}\n  \
        template:\n    metadata: {labels: {app: b}}\n    spec:\n      restartPolicy: Never\n      containers:\n      \
        - {name: a, image: b, livenessProbe: {periodSeconds: 5}}\n";
    assert_eq!(
        lines(&of(text).problems),
        [
            "in:7: deployment/d: spec.template.metadata.labels: Invalid value: {\"app\": \"b\"}: `selector` does not match \
             template `labels`",
            "in:9: deployment/d: spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            "in:11: deployment/d: spec.template.spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A manifest with some bytes overwritten is read or refused, but never brings the program down.
    #[test]
    fn damaged_manifests_are_refused_in_peace(which in 0_usize..20, at in any::<prop::sample::Index>(), with in "[ -~\n\t]{1,6}") {
        let mut text: Vec<char> = manifests()[which].text.chars().collect();
        let at = at.index(text.len());
        let end = (at + with.chars().count()).min(text.len());
        text.splice(at..end, with.chars());
        let found = of(&text.into_iter().collect::<String>());
        prop_assert!(!found.objects.is_empty() || !found.problems.is_empty());
    }
}
