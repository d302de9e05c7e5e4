//! One broken rule at a time: the path and the words.

mod container;

use crate::manifest::{Checked, check, source::Source};

/// Problems of a pod, as `path: message`.
fn problems(metadata: &str, spec: &str) -> Vec<String> {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec:\n{spec}");
    let found = check(&[Source { name: "in".to_owned(), text }], None);
    assert_eq!(found.problems.is_empty(), matches!(found.objects[..], [Checked::Pod(_)]));
    found.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

/// Asserts that each specification has exactly these problems; `[...]` in a message stands for any text.
fn all(cases: &[(&str, &[&str])]) {
    for (spec, expected) in cases {
        let found = problems("{name: a}", spec);
        let fits = |(found, expected): (&String, &&str)| {
            expected
                .split_once("[...]")
                .map_or(found == expected, |(head, tail)| found.starts_with(head) && found.ends_with(tail))
        };
        assert!(
            found.len() == expected.len() && found.iter().zip(*expected).all(fits),
            "{spec}\n{found:#?}\n{expected:#?}"
        );
    }
}

/// The same for the container of a pod, given as fields of one line each.
fn container(cases: &[(&str, &[&str])]) {
    let whole: Vec<(String, Vec<String>)> = cases
        .iter()
        .map(|(fields, expected)| {
            let fields: String = fields.lines().map(|line| format!("  {line}\n")).collect();
            let spec = format!(
                "volumes: [{{name: v}}, {{name: w}}]\ncontainers:\n- name: c\n  image: i:1\n{fields}"
            );
            (spec, expected.iter().map(|text| format!("spec.containers[0]{text}")).collect())
        })
        .collect();
    for (spec, expected) in &whole {
        all(&[(spec, &expected.iter().map(String::as_str).collect::<Vec<_>>())]);
    }
}

const MAIN: &str = "containers: [{name: c, image: i}]\n";

fn pod(cases: &[(&str, &[&str])]) {
    for (fields, expected) in cases {
        all(&[(&format!("{MAIN}{fields}"), expected)]);
    }
}

#[test]
fn names_labels_and_annotations() {
    let of = |metadata: &str| problems(metadata, MAIN).join("\n");
    assert!(of("{}").starts_with("metadata.name: Required value"));
    assert!(
        of("{name: Web}")
            .starts_with("metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain")
    );
    assert!(of("{name: a, namespace: b.c}").starts_with("metadata.namespace: Invalid value"));
    assert!(of("{name: a, labels: {-a: b}}").starts_with("metadata.labels[-a]: Invalid value"));
    assert!(of("{name: a, labels: {a: b c}}").starts_with("metadata.labels[a]: Invalid value: \"b c\""));
    assert!(
        of("{name: a, annotations: {a/b/c: d}}").starts_with("metadata.annotations[a/b/c]: Invalid value")
    );
    assert!(of("{name: a, annotations: {kubernetes.io/egress-bandwidth: fast}}").contains("is no quantity"));
    assert!(of("{name: a, annotations: {kubernetes.io/egress-bandwidth: \"10\"}}").contains("from 1k to 1P"));
    assert!(of("{generateName: a-}").contains("metadata.generateName: not supported"));
    assert_eq!(of("{name: a, annotations: {Upper/Case: any text}}"), "");
}

#[test]
fn the_pod_as_a_whole() {
    pod(&[
        (
            "restartPolicy: Sometimes",
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        ),
        (
            "terminationGracePeriodSeconds: -1",
            &["spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0"],
        ),
        ("terminationGracePeriodSeconds: 0", &[]),
        (
            "activeDeadlineSeconds: 0",
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        ("hostname: a.b", &["spec.hostname: Invalid value: \"a.b\": [...]"]),
        ("nodeSelector: {a: \"b c\"}", &["spec.nodeSelector[a]: Invalid value: \"b c\": [...]"]),
        ("nodeName: N1", &["spec.nodeName: Invalid value: \"N1\": [...]"]),
        (
            "hostAliases: [{ip: 1.2.3, hostnames: [a_b]}]",
            &[
                "spec.hostAliases[0].ip: Invalid value: \"1.2.3\": [...]",
                "spec.hostAliases[0].hostnames[0]: Invalid value: \"a_b\": [...]",
            ],
        ),
        ("ephemeralContainers: [{name: d, image: i}]", &["spec.ephemeralContainers: not supported: [...]"]),
        ("os: {name: windows}", &["spec.os.name: \"windows\" is not supported: [...]"]),
        (
            "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a}]}}",
            &[
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution: not supported: [...]",
            ],
        ),
    ]);
}

#[test]
fn names_of_the_network() {
    pod(&[
        ("dnsPolicy: Cluster", &["spec.dnsPolicy: Unsupported value: \"Cluster\": [...]"]),
        (
            "dnsPolicy: None",
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            "dnsPolicy: None\ndnsConfig: {searches: [a.b]}",
            &["spec.dnsConfig.nameservers: Required value: [...]"],
        ),
        (
            "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}",
            &["spec.dnsConfig.nameservers: Invalid value: [...]: must not have more than 3 nameservers"],
        ),
        (
            "dnsConfig: {nameservers: [dns.example], options: [{value: \"2\"}]}",
            &[
                "spec.dnsConfig.nameservers[0]: Invalid value: \"dns.example\": [...]",
                "spec.dnsConfig.options[0].name: Required value",
            ],
        ),
        (
            "dnsConfig: {searches: [a b, ., _x.example.]}",
            &["spec.dnsConfig.searches[0]: Invalid value: \"a b\": must be a DNS name"],
        ),
    ]);
}

#[test]
fn sysctls_stay_in_the_pod() {
    let set = |name: &str| format!("securityContext: {{sysctls: [{{name: {name}, value: \"1\"}}]}}");
    pod(&[
        (&set("net.ipv4.tcp_syncookies"), &[]),
        (&set("net/ipv4/tcp_syncookies"), &[]),
        (
            &set("kernel.panic"),
            &["spec.securityContext.sysctls[0].name: Forbidden: \"kernel.panic\" is not safe[...]"],
        ),
        (&set("net..a"), &["spec.securityContext.sysctls[0].name: Invalid value: \"net..a\": [...]"]),
        (
            &format!("hostNetwork: true\n{}", set("net.ipv4.tcp_syncookies")),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.tcp_syncookies\": may not be specified when 'hostNetwork' is true",
            ],
        ),
        (
            "securityContext: {sysctls: [{name: net.ipv4.tcp_rmem, value: a}, {name: net.ipv4.tcp_rmem, value: b}]}",
            &["spec.securityContext.sysctls[1].name: Duplicate value: \"net.ipv4.tcp_rmem\""],
        ),
    ]);
}

#[test]
fn users_and_privileges() {
    pod(&[
        (
            "securityContext: {runAsUser: -1, fsGroup: 3000000000, supplementalGroups: [-5]}",
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: [...]",
                "spec.securityContext.fsGroup: Invalid value: 3000000000: [...]",
                "spec.securityContext.supplementalGroups[0]: Invalid value: -5: [...]",
            ],
        ),
        (
            "securityContext: {runAsGroup: 5}",
            &["spec.securityContext.runAsGroup: Invalid value: [...]: needs runAsUser"],
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost}}",
            &["spec.securityContext.seccompProfile.type: \"Localhost\" is not supported: [...]"],
        ),
        (
            "securityContext: {fsGroupChangePolicy: Never}",
            &["spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": [...]"],
        ),
    ]);
    container(&[
        (
            "securityContext: {allowPrivilegeEscalation: false, privileged: true}",
            &[
                ".securityContext.allowPrivilegeEscalation: Invalid value: false: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ],
        ),
        (
            "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [SYS_ADMIN]}}",
            &[".securityContext.allowPrivilegeEscalation: Invalid value: false: [...]CAP_SYS_ADMIN"],
        ),
        (
            "securityContext: {capabilities: {add: [CAP_NET_RAW], drop: [EVERYTHING]}}",
            &[
                ".securityContext.capabilities.add[0]: Invalid value: \"CAP_NET_RAW\": Kubernetes writes capabilities without CAP_: NET_RAW",
                ".securityContext.capabilities.drop[0]: Invalid value: \"EVERYTHING\": is not a capability of Linux",
            ],
        ),
        (
            "securityContext: {procMount: Unmasked}",
            &[".securityContext.procMount: \"Unmasked\" is not supported: [...]"],
        ),
        ("securityContext: {capabilities: {add: [net_admin], drop: [ALL]}}", &[]),
    ]);
}

#[test]
fn containers_have_names_and_images() {
    all(&[
        (
            "containers: [{name: a, image: i}, {name: a, image: i}]",
            &["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            "containers: [{name: a, image: i}]\ninitContainers: [{name: a, image: i}]",
            &["spec.containers[0].name: Duplicate value: \"a\""],
        ),
        ("containers: [{name: a.b, image: i}]", &["spec.containers[0].name: Invalid value: \"a.b\": [...]"]),
        ("containers: [{name: a}]", &["spec.containers[0].image: Required value"]),
        ("containers: []", &["spec.containers: Required value"]),
    ]);
    container(&[
        ("imagePullPolicy: Sometimes", &[".imagePullPolicy: Unsupported value: \"Sometimes\": [...]"]),
        ("terminationMessagePolicy: Log", &[".terminationMessagePolicy: Unsupported value: \"Log\": [...]"]),
        ("restartPolicy: Always", &[".restartPolicy: Forbidden: [...]set spec.restartPolicy"]),
        ("stdinOnce: true", &[".stdinOnce: Invalid value: true: has no effect without stdin: true"]),
        ("volumeDevices: [{name: v, devicePath: /dev/x}]", &[".volumeDevices: not supported: [...]"]),
    ]);
}

#[test]
fn init_containers_are_not_watched_unless_they_stay() {
    let init = |fields: &str| format!("{MAIN}initContainers:\n- name: i\n  image: i\n  {fields}\n");
    all(&[
        (
            &init("livenessProbe: {exec: {command: [a]}}"),
            &[
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            &init("lifecycle: {preStop: {exec: {command: [a]}}}"),
            &[
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            &init("restartPolicy: Never"),
            &[
                "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        ),
        (
            &init(
                "restartPolicy: Always\n  livenessProbe: {exec: {command: [a]}}\n  lifecycle: {preStop: {exec: {command: [a]}}}",
            ),
            &[],
        ),
    ]);
}

#[test]
fn volumes() {
    pod(&[
        ("volumes: [{name: v}, {name: v}]", &["spec.volumes[1].name: Duplicate value: \"v\""]),
        ("volumes: [{name: V}]", &["spec.volumes[0].name: Invalid value: \"V\": [...]"]),
        (
            "volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]",
            &["spec.volumes[0]: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
            &["spec.volumes[0].persistentVolumeClaim: not supported: [...]"],
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: HugePages}}]",
            &["spec.volumes[0].emptyDir.medium: \"HugePages\" is not supported: [...]"],
        ),
        (
            "volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: -1}}]",
            &["spec.volumes[0].emptyDir.sizeLimit: Invalid value: \"-1\": [...]"],
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b, type: Dir}}]",
            &[
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\": [...]",
            ],
        ),
        ("volumes: [{name: v, secret: {}}]", &["spec.volumes[0].secret.secretName: Required value"]),
        (
            "volumes: [{name: v, configMap: {name: c, defaultMode: 01777, items: [{key: k, path: /a}, {key: l, path: b}, {key: m, path: b}]}}]",
            &[
                "spec.volumes[0].configMap.defaultMode: Invalid value: 1023: [...]",
                "spec.volumes[0].configMap.items[0].path: Invalid value: \"/a\": must be a relative path",
                "spec.volumes[0].configMap.items[2].path: Invalid value: \"b\": conflicting duplicate paths",
            ],
        ),
        (
            "volumes: [{name: v, downwardAPI: {items: [{path: a}, {path: b, fieldRef: {fieldPath: status.podIP}}, {path: c, resourceFieldRef: {resource: limits.cpu}}]}}]",
            &[
                "spec.volumes[0].downwardAPI.items[0]: Required value: [...]",
                "spec.volumes[0].downwardAPI.items[1].fieldRef.fieldPath: Unsupported value: \"status.podIP\": [...]",
                "spec.volumes[0].downwardAPI.items[2].resourceFieldRef.containerName: Required value",
            ],
        ),
        (
            "volumes: [{name: v, projected: {sources: [{}, {serviceAccountToken: {path: t}}, {configMap: {name: a, items: [{key: k, path: p}]}}, {secret: {name: b, items: [{key: k, path: p}]}}]}}]",
            &[
                "spec.volumes[0].projected.sources[1].serviceAccountToken: not supported: [...]",
                "spec.volumes[0].projected.sources[0]: Required value: must specify a projected volume type",
                "spec.volumes[0].projected.sources[3].secret.items[0].path: Invalid value: \"p\": conflicting duplicate paths",
            ],
        ),
    ]);
}

#[test]
fn a_limit_that_nobody_enforces_is_a_notice() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]\n  containers: [{name: c, image: i}]\n";
    let found = check(&[Source { name: "in".to_owned(), text: text.to_owned() }], None);
    assert_eq!(found.notices[0].path.as_str(), "spec.volumes[0].emptyDir.sizeLimit");
    assert_eq!(found.objects.len(), 1);
}

#[test]
fn data_has_keys_that_can_be_files() {
    let of = |text: &str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n{text}\n");
        let found = check(&[Source { name: "in".to_owned(), text }], None);
        found
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.path, problem.message))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(of("data: {a.txt: b}"), "");
    assert!(of("data: {a/b: c}").starts_with("data[a/b]: Invalid value"));
    assert!(of("data: {a: b}\nbinaryData: {a: YQ==}").contains("duplicate of key present in binaryData"));
    assert!(of(&format!("data: {{a: {}}}", "x".repeat(1 << 20 | 1))).contains("Too long"));
    assert!(of("data: {a: 1}").contains("write \"1\""));
}

#[test]
fn workloads_select_their_own_pods() {
    let of = |kind: &str, spec: &str| {
        let version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}");
        let found = check(&[Source { name: "in".to_owned(), text }], None);
        let lines: Vec<String> =
            found.problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        lines.join("\n")
    };
    let template =
        "  template:\n    metadata: {labels: {app: a}}\n    spec: {containers: [{name: c, image: i}]}\n";
    assert_eq!(of("Deployment", &format!("  selector: {{matchLabels: {{app: a}}}}\n{template}")), "");
    assert!(of("Deployment", template).contains("spec.selector: Required value"));
    assert!(of("Deployment", &format!("  selector: {{}}\n{template}")).contains("empty selector is invalid"));
    let rule = |operator: &str, values: &str| {
        let rule = format!(
            "  selector: {{matchExpressions: [{{key: app, operator: {operator}{values}}}]}}\n{template}"
        );
        of("DaemonSet", &rule).contains("does not match")
    };
    assert!(!rule("In", ", values: [a]") && rule("In", ", values: [b]"));
    assert!(rule("NotIn", ", values: [a]") && !rule("NotIn", ", values: [b]"));
    assert!(!rule("Exists", "") && rule("DoesNotExist", ""));
    let job = "  template: {spec: {containers: [{name: c, image: i}]}}\n";
    assert!(
        of("Job", job).contains("Unsupported value: \"Always\": supported values: \"OnFailure\", \"Never\"")
    );
    let rolling = format!(
        "  replicas: -1\n  strategy: {{rollingUpdate: {{maxSurge: 0, maxUnavailable: 0%}}}}\n  selector: {{matchLabels: {{app: a}}}}\n{template}"
    );
    let problems = of("Deployment", &rolling);
    assert!(problems.contains("spec.replicas: Invalid value: -1"), "{problems}");
    assert!(problems.contains("may not be 0 when `maxSurge` is 0"), "{problems}");
}
