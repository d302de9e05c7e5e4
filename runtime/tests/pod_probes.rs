//! Probes and hooks: who is asked, when, from where, and what comes of the answers.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use lab::{Lab, condition, status};

/// A pod `p` of these containers, with notes in `/notes/all`.
fn pod(containers: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{volumes: [{{name: notes, emptyDir: {{}}}}],
           containers: [{containers}]{more}}}}}"
    )
}

const SHELL: &str = "image: 'busybox:v1', volumeMounts: [{name: notes, mountPath: /notes}]";

fn notes(lab: &Lab) -> String {
    let text = std::fs::read_to_string(lab.pod_dir("p").join("volumes/notes/all")).unwrap_or_default();
    text.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_container_that_is_not_alive_is_started_again() {
    let lab = Lab::new();
    let exec = format!("{{name: exec, {SHELL}, command: [sleep, '1000'], livenessProbe: {{periodSeconds: 1, failureThreshold: 1,
        exec: {{command: [test, -e, /notes/alive]}}}}}}");
    let http = "{name: http, image: 'builtin/tools:v1', args: [netexec, --unhealthy-after, '2'], ports: [{name: web, containerPort: 8080}],
        livenessProbe: {periodSeconds: 1, failureThreshold: 1, httpGet: {path: /healthz, port: web}}}";
    lab.apply(&pod(&format!("{exec}, {http}"), ", terminationGracePeriodSeconds: 1"));
    let after = lab.wait("p", "both restarted", |pod| {
        ["exec", "http"].iter().all(|name| status(pod, name)["restartCount"].as_i64() >= Some(1))
    });
    let events = lab.events("p");
    // Answered, and not well.
    assert!(events.contains("Liveness probe failed") && !events.contains("no answer in time"), "{events}");
    let code = |name: &str| status(&after, name)["lastState"]["terminated"]["exitCode"].clone();
    assert_eq!(code("exec"), 137, "sleep is deaf as PID 1, so its grace passed");
}

#[test]
fn a_container_that_is_not_ready_runs_on() {
    let lab = Lab::new();
    let container = format!("{{name: c, {SHELL}, command: [sleep, '1000'], readinessProbe: {{periodSeconds: 1, failureThreshold: 1,
        exec: {{command: [test, -e, /notes/ready]}}}}}}");
    lab.apply(&pod(&container, ", terminationGracePeriodSeconds: 0"));
    lab.wait("p", "asked", |_| lab.events("p").contains("Readiness probe failed"));
    let before = lab.get("p");
    assert!(!condition(&before, "Ready") && lab.ok(&["get", "pods"]).contains("0/1"));
    lab.exec("p", "c", &["touch", "/notes/ready"]);
    let after = lab.wait_ready("p");
    assert_eq!(status(&after, "c")["restartCount"], 0);
}

/// A sidecar has started when its startup probe says so: only then comes what is behind it.
#[test]
fn a_sidecar_that_has_not_started_keeps_the_rest_waiting() {
    let lab = Lab::new();
    let side = format!("{{name: side, restartPolicy: Always, {SHELL}, command: [sleep, '1000'], startupProbe: {{periodSeconds: 1,
        failureThreshold: 1000, exec: {{command: [test, -e, /notes/go]}}}}}}");
    let app = format!("{{name: app, {SHELL}, command: [sleep, '1000']}}");
    lab.apply(&pod(&app, &format!(", terminationGracePeriodSeconds: 0, initContainers: [{side}]")));
    lab.wait("p", "asked", |_| lab.events("p").contains("Startup probe failed"));
    assert!(status(&lab.get("p"), "app")["state"]["waiting"].is_object());
    lab.exec("p", "side", &["touch", "/notes/go"]);
    lab.wait_ready("p");
}

#[test]
fn hooks_run_after_the_start_and_before_the_end() {
    let lab = Lab::new();
    let container = format!("{{name: c, {SHELL}, command: [sh, -c, 'trap \"echo term >> /notes/all; exit 0\" TERM; while :; do sleep 0.05; done'],
        lifecycle: {{postStart: {{exec: {{command: [sh, -c, 'sleep 0.5; echo started >> /notes/all']}}}},
                    preStop: {{exec: {{command: [sh, -c, 'sleep 1; echo stop >> /notes/all; echo note > /dev/shm/x']}}}}}}}}");
    let more = ", restartPolicy: Never, terminationGracePeriodSeconds: 20, activeDeadlineSeconds: 4";
    lab.apply(&pod(&container, more));
    lab.wait_ready("p");
    assert_eq!(notes(&lab), "started");
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(notes(&lab), "started stop term");
    assert_eq!(status(&over, "c")["state"]["terminated"]["exitCode"], 0);
}

#[test]
fn a_hook_at_the_start_that_fails_ends_the_container() {
    let lab = Lab::new();
    let container = format!(
        "{{name: c, {SHELL}, command: [sleep, '1000'], lifecycle: {{postStart: {{exec: {{command: ['false']}}}}}}}}"
    );
    lab.apply(&pod(&container, ", terminationGracePeriodSeconds: 1, restartPolicy: Never"));
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(status(&over, "c")["state"]["terminated"]["exitCode"], 137);
    assert!(lab.events("p").contains("FailedPostStartHook"));
}

/// One budget: what the hook takes is not there for the rest, and what takes too long is cut off.
#[test]
fn a_hook_at_the_end_has_no_more_than_the_grace() {
    let lab = Lab::new();
    let container = format!(
        "{{name: c, {SHELL}, command: [sleep, '1000'], lifecycle: {{preStop: {{exec: {{command: [sleep, '500']}}}}}}}}"
    );
    lab.apply(&pod(&container, ", terminationGracePeriodSeconds: 2"));
    lab.wait_ready("p");
    let begun = std::time::Instant::now();
    lab.ok(&["delete", "p"]);
    let took = begun.elapsed();
    assert!(
        took >= std::time::Duration::from_millis(3_900) && took < lab::SOON,
        "2 s grace, 2 s more: {took:?}"
    );
}
