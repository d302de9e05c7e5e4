//! Probes and hooks: who is asked, when, from where, and what comes of the answers.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::PathBuf, process::Command};

use lab::{Lab, SOON, condition, status, text};
use netns_fixtures::{NetNs, wait_until};

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

/// A question that is not answered in time ends with all that it started, and the next one finds nobody.
#[test]
fn questions_that_take_too_long_do_not_pile_up() {
    let lab = Lab::new();
    let container = format!(
        "{{name: c, {SHELL}, command: [sleep, '1000'], readinessProbe: {{periodSeconds: 1, timeoutSeconds: 1,
           exec: {{command: [sh, -c, 'echo asked >> /notes/all; /bin/sleep 3333; :']}}}}}}"
    );
    lab.apply(&pod(&container, ", terminationGracePeriodSeconds: 0"));
    wait_until("the fifth question", SOON, || (notes(&lab).matches("asked").count() >= 5).then_some(()))
        .unwrap();
    // Of the one that is being asked there are a shell and what it started, with the word on both command lines.
    let few = || (lab.exec("p", "c", &["ps"]).matches("/bin/sleep 3333").count() <= 2).then_some(());
    wait_until("no more than one question", SOON, few)
        .unwrap_or_else(|_| panic!("{}", lab.exec("p", "c", &["ps"])));
    let pod = lab.get("p");
    assert_eq!((status(&pod, "c")["restartCount"].as_i64(), condition(&pod, "Ready")), (Some(0), false));
}

/// A node asks its pods as itself: from an address of its own network namespace.
#[test]
fn questions_come_from_the_nodes_address() {
    let lab = Lab::new();
    // Whoever has come is not let go, so that the kernel still has the connection when it is looked at.
    let container = format!(
        "{{name: c, {SHELL}, command: [nc, -ll, -p, '8080', -e, /bin/sleep, '1000'],
           readinessProbe: {{periodSeconds: 1, tcpSocket: {{port: 8080}}}}}}"
    );
    lab.apply(&pod(&container, ", terminationGracePeriodSeconds: 0"));
    lab.wait_ready("p");
    let own = NetNs::open(lab.root().join("nodes/n1/net")).unwrap();
    let own = own.run(|| {
        let all = nix::ifaddrs::getifaddrs().expect("addresses");
        let v4 = all.filter_map(|one| Some(one.address?.as_sockaddr_in()?.ip()));
        v4.filter(|ip| !ip.is_loopback()).collect::<Vec<_>>()
    });
    let connections = lab.exec("p", "c", &["cat", "/proc/net/tcp", "/proc/net/tcp6"]);
    // Number, own end, other end, state: `0A` listens. An end is an address, words as they are in memory, and a port.
    let ends = connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let asked = ends.filter(|fields| fields[1].ends_with(":1F90") && fields[3] != "0A");
    let sources: BTreeSet<Ipv4Addr> = asked
        .map(|fields| {
            let (address, _) = fields[2].split_once(':').expect("an address and a port");
            let word = u32::from_str_radix(&address[address.len() - 8..], 16).expect("a number");
            Ipv4Addr::from(word.to_ne_bytes())
        })
        .collect();
    let own: BTreeSet<Ipv4Addr> = own.unwrap().into_iter().collect();
    assert!(!sources.is_empty() && sources.is_subset(&own), "{sources:?} of {own:?}: {connections}");
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

/// A container `secure` that answers by TLS what is in the directory that is returned, a whole answer in each file. Its
/// certificate is for somebody else, and by nobody.
fn secure(lab: &Lab, more: &str) -> (String, PathBuf) {
    let dir = lab.path().join("tls");
    fs::create_dir(&dir).expect("a directory");
    let line = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=somebody.example -days 1";
    let made = Command::new("openssl").args(line.split(' ')).current_dir(&dir).output().expect("run openssl");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let command = "[openssl, s_server, -HTTP, -accept, '8443', -cert, cert, -key, key]";
    let container = format!(
        "{{name: secure, image: 'builtin/host:v1', workingDir: /answers, command: {command},
           env: [{{name: OPENSSL_CONF, value: /dev/null}}], ports: [{{name: https, containerPort: 8443}}],
           volumeMounts: [{{name: answers, mountPath: /answers}}], {more}}}"
    );
    (container, dir)
}

/// With this status.
fn answer(file: PathBuf, status: &str) {
    fs::write(file, format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n")).expect("an answer");
}

fn secure_pod(containers: &str, more: &str, dir: &std::path::Path) -> String {
    let volume = format!("{{name: answers, hostPath: {{path: {}}}}}", dir.display());
    pod(containers, more).replace("volumes: [", &format!("volumes: [{volume}, "))
}

/// Whatever the certificate says: the kubelet does not look at it either.
#[test]
fn who_answers_by_tls_is_asked_by_tls() {
    let lab = Lab::new();
    let probe = |port: &str| {
        format!(
            "readinessProbe: {{periodSeconds: 1, failureThreshold: 1, httpGet: {{scheme: HTTPS, path: /healthz, port: {port}}}}}"
        )
    };
    let (container, dir) = secure(&lab, &probe("https"));
    // What servers say to somebody whose words make no sense to them.
    let plain = format!(
        "{{name: plain, {SHELL}, command: [sh, -c, 'while :; do printf \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\" | nc -l -p 8080; done'], {}}}",
        probe("8080")
    );
    answer(dir.join("healthz"), "200 OK");
    lab.apply(&secure_pod(&format!("{container}, {plain}"), ", terminationGracePeriodSeconds: 0", &dir));
    let ready = |name: &'static str| move |pod: &serde_json::Value| status(pod, name)["ready"] == true;
    lab.wait("p", "ready by HTTPS", ready("secure"));
    let reason = "Readiness probe failed: server gave HTTP response to HTTPS client";
    lab.wait("p", "told why", |_| lab.events("p").contains(reason));
    let now = lab.get("p");
    assert!(!ready("plain")(&now) && !condition(&now, "Ready"));
    assert!(!lab.events("p").contains("HTTP status"), "nothing was wrong with its answers yet");
    answer(dir.join("healthz"), "500 Internal Server Error");
    lab.wait("p", "not ready", |pod| !ready("secure")(pod));
    assert!(lab.events("p").contains("Readiness probe failed: HTTP status 500"), "{}", lab.events("p"));
    answer(dir.join("healthz"), "200 OK");
    lab.wait("p", "ready again", ready("secure"));
}

#[test]
fn hooks_are_called_by_tls() {
    let lab = Lab::new();
    let hook = "lifecycle: {preStop: {httpGet: {scheme: HTTPS, path: /bye, port: https}}},
        readinessProbe: {periodSeconds: 1, httpGet: {scheme: HTTPS, path: /healthz, port: https}}";
    let (container, dir) = secure(&lab, hook);
    answer(dir.join("healthz"), "204 No Content");
    // An answer that shows in the end: only who was asked can give it.
    answer(dir.join("bye"), "503 Service Unavailable");
    let more = ", restartPolicy: Never, terminationGracePeriodSeconds: 5, activeDeadlineSeconds: 5";
    lab.apply(&secure_pod(&container, more, &dir));
    lab.wait_ready("p");
    lab.wait_phase("p", "Failed");
    let told = lab.events("p");
    assert!(told.contains("PreStopHook failed: HTTP status 503"), "{told}");
}
