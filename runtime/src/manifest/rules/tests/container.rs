//! The rules of a container.

use super::{all, container};

#[test]
fn ports() {
    container(&[
        (
            "ports: [{containerPort: 0}]",
            &[".ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive"],
        ),
        (
            "ports: [{containerPort: 80, hostPort: 70000}]",
            &[".ports[0].hostPort: Invalid value: 70000: [...]"],
        ),
        (
            "ports: [{containerPort: 80, name: web}, {containerPort: 81, name: web}]",
            &[".ports[1].name: Duplicate value: \"web\""],
        ),
        ("ports: [{containerPort: 80, name: Web}]", &[".ports[0].name: Invalid value: \"Web\": [...]"]),
        (
            "ports: [{containerPort: 80, protocol: tcp}]",
            &[".ports[0].protocol: Unsupported value: \"tcp\": [...]"],
        ),
        ("ports: [{containerPort: 80, hostIP: here}]", &[".ports[0].hostIP: Invalid value: \"here\": [...]"]),
        (
            "ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]",
            &[".ports[1].hostPort: Duplicate value: \"TCP//80\""],
        ),
        (
            "ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80, hostIP: 127.0.0.1}]",
            &[".ports[1].hostPort: Duplicate value: \"TCP/127.0.0.1/80\""],
        ),
        (
            "ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}, {containerPort: 81, hostPort: 80, hostIP: 127.0.0.1}]",
            &[],
        ),
        ("ports: [{containerPort: 80, hostPort: 80}, {containerPort: 80, hostPort: 80, protocol: UDP}]", &[]),
    ]);
    all(&[
        (
            "hostNetwork: true\ncontainers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 81}]}]",
            &[
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        ),
        (
            "containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 80}]}]\ninitContainers: [{name: b, image: i, ports: [{containerPort: 80, hostPort: 80}]}]",
            &[],
        ),
        (
            "containers: [{name: a, image: i, ports: [{containerPort: 80, hostPort: 80}]}]\ninitContainers: [{name: b, image: i, restartPolicy: Always, ports: [{containerPort: 80, hostPort: 80}]}]",
            &["spec.containers[0].ports[0].hostPort: Duplicate value: \"TCP//80\""],
        ),
    ]);
}

#[test]
fn probes() {
    container(&[
        (
            "livenessProbe: {periodSeconds: 5}",
            &[".livenessProbe: Required value: must specify a handler type"],
        ),
        (
            "livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 80}}",
            &[".livenessProbe: Forbidden: may not specify more than 1 handler type"],
        ),
        ("livenessProbe: {exec: {}}", &[".livenessProbe.exec.command: Required value"]),
        ("livenessProbe: {grpc: {port: 80}}", &[".livenessProbe.grpc: not supported: [...]"]),
        (
            "livenessProbe: {tcpSocket: {port: 0}}",
            &[".livenessProbe.tcpSocket.port: Invalid value: 0: [...]"],
        ),
        ("livenessProbe: {httpGet: {port: web}}", &[".livenessProbe.httpGet.port: Not found: \"web\""]),
        (
            "livenessProbe: {httpGet: {port: \"80\"}}",
            &[".livenessProbe.httpGet.port: Invalid value: \"80\": must contain at least one letter (a-z)"],
        ),
        (
            "livenessProbe: {httpGet: {port: 80, scheme: http}}",
            &[".livenessProbe.httpGet.scheme: \"http\" is not supported: [...]"],
        ),
        (
            "livenessProbe: {httpGet: {port: 80, httpHeaders: [{name: a b, value: c}]}}",
            &[".livenessProbe.httpGet.httpHeaders[0].name: Invalid value: \"a b\": [...]"],
        ),
        (
            "startupProbe: {tcpSocket: {port: 80}, successThreshold: 2}",
            &[".startupProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        ("readinessProbe: {tcpSocket: {port: 80}, successThreshold: 2}", &[]),
        (
            "readinessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 5}",
            &[
                ".readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        ),
        (
            "livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 0, periodSeconds: -1}",
            &[
                ".livenessProbe.periodSeconds: Invalid value: -1: [...]",
                ".livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
            ],
        ),
    ]);
}

#[test]
fn hooks() {
    container(&[
        ("lifecycle: {preStop: {}}", &[".lifecycle.preStop: Required value: must specify a handler type"]),
        (
            "lifecycle: {postStart: {tcpSocket: {port: 80}}}",
            &[".lifecycle.postStart.tcpSocket: not supported: [...]"],
        ),
        (
            "lifecycle: {postStart: {exec: {command: []}}}",
            &[".lifecycle.postStart.exec.command: Required value"],
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: 31}}}",
            &[".lifecycle.preStop.sleep: Invalid value: 31: [...](30)"],
        ),
        (
            "lifecycle: {stopSignal: SIGTERM}",
            &[".lifecycle.stopSignal: Forbidden: may not be set when `spec.os.name` is not set"],
        ),
    ]);
    let signal = |name: &str| {
        format!("os: {{name: linux}}\ncontainers: [{{name: c, image: i, lifecycle: {{stopSignal: {name}}}}}]")
    };
    all(&[
        (&signal("SIGRTMIN+3"), &[]),
        (&signal("TERM"), &["spec.containers[0].lifecycle.stopSignal: Invalid value: \"TERM\": [...]"]),
        (
            &signal("SIGRTMIN+99"),
            &["spec.containers[0].lifecycle.stopSignal: Invalid value: \"SIGRTMIN+99\": [...]"],
        ),
    ]);
}

#[test]
fn environments() {
    container(&[
        ("env: [{name: A=B}]", &[".env[0].name: Invalid value: \"A=B\": [...]"]),
        (
            "env: [{name: A, valueFrom: {}}]",
            &[".env[0].valueFrom: Invalid value: \"\": must specify one of: [...]"],
        ),
        (
            "env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
            &[".env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}, secretKeyRef: {name: s, key: k}}}]",
            &[".env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time"],
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.hostname}}}]",
            &[".env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.hostname\": [...]"],
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['-']\"}}}]",
            &[".env[0].valueFrom.fieldRef.fieldPath: Invalid value: [...]"],
        ),
        ("env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['A/b']\"}}}]", &[]),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.gpu}}}]",
            &[".env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": [...]"],
        ),
        (
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1Mi, containerName: x}}}]",
            &[
                ".env[0].valueFrom.resourceFieldRef.containerName: Not found: \"x\"",
                ".env[0].valueFrom.resourceFieldRef.divisor: Unsupported value: \"1Mi\": [...]",
            ],
        ),
        (
            "env: [{name: A, valueFrom: {configMapKeyRef: {name: C_, key: ../k}}}]",
            &[
                ".env[0].valueFrom.configMapKeyRef.name: Invalid value: \"C_\": [...]",
                ".env[0].valueFrom.configMapKeyRef.key: Invalid value: \"../k\": [...]",
            ],
        ),
        ("envFrom: [{}]", &[".envFrom[0]: Invalid value: \"\": must specify one of: [...]"]),
        (
            "envFrom: [{prefix: \"=\", configMapRef: {name: a}, secretRef: {name: b}}]",
            &[
                ".envFrom[0].prefix: Invalid value: \"=\": [...]",
                ".envFrom[0]: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        ),
    ]);
}

#[test]
fn mounts() {
    container(&[
        ("volumeMounts: [{name: x, mountPath: /a}]", &[".volumeMounts[0].name: Not found: \"x\""]),
        (
            "volumeMounts: [{name: v, mountPath: a}]",
            &[".volumeMounts[0].mountPath: Invalid value: \"a\": must be an absolute path"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /}]",
            &[".volumeMounts[0].mountPath: Invalid value: \"/\": must not be the root of the container"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a/../b}]",
            &[".volumeMounts[0].mountPath: Invalid value: \"/a/../b\": must not contain '..'"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a}, {name: w, mountPath: /a/}]",
            &[".volumeMounts[1].mountPath: Invalid value: \"/a/\": must be unique"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]",
            &[".volumeMounts[0].subPath: Invalid value: \"../b\": must not contain '..'"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, subPath: b, subPathExpr: c}]",
            &[".volumeMounts[0].subPathExpr: Invalid value: [...]mutually exclusive"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional}]",
            &[".volumeMounts[0].mountPropagation: \"Bidirectional\" is not supported: [...]"],
        ),
        (
            "volumeMounts: [{name: v, mountPath: /a, recursiveReadOnly: IfPossible}]",
            &[".volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true"],
        ),
    ]);
}

#[test]
fn resources() {
    container(&[
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}",
            &[
                ".resources.requests[cpu]: Invalid value: \"1500m\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            "resources: {limits: {memory: -1}}",
            &[
                ".resources.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
                ".resources.requests[memory]: Invalid value: \"-1\": [...]",
            ],
        ),
        (
            "resources: {requests: {ephemeral-storage: 1Gi}}",
            &[".resources.requests[ephemeral-storage]: not supported: [...]"],
        ),
        (
            "resources: {requests: {example.com/gpu: 1}}",
            &[".resources.requests[example.com/gpu]: not supported: devices are not allocated here"],
        ),
        ("resources: {limits: {cpu: 1}, claims: [{name: c}]}", &[".resources.claims: not supported: [...]"]),
    ]);
}
