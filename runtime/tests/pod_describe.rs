//! What is told of pods to people: describe, wait, watch.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use lab::{Lab, SOON, condition, status, text};
use netns_fixtures::{KillOnDrop, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: web, tier: front}}, spec: {
    terminationGracePeriodSeconds: 0, volumes: [{name: v, emptyDir: {}}],
    initContainers: [{name: i, image: 'busybox:v1', command: ['true']}],
    containers: [
      {name: c, image: 'busybox:v1', command: [sh, -c, 'sleep 1000'], ports: [{containerPort: 80}],
        env: [{name: A, value: one}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}],
        readinessProbe: {exec: {command: [test, -e, /v/ready]}, periodSeconds: 1, timeoutSeconds: 5},
        volumeMounts: [{name: v, mountPath: /v}]},
      {name: d, image: 'busybox:v1', command: [sleep, '1000'],
        resources: {limits: {memory: 64Mi}}}]}}";

fn make_ready(lab: &Lab) {
    std::fs::write(lab.pod_dir("p").join("volumes/v/ready"), "").expect("a file");
}

/// The lines of `text` after one that begins with `title`, as far as they are indented more than it.
fn section(text: &str, title: &str) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with(title));
    let first = lines.next().unwrap_or_else(|| panic!("no {title} in\n{text}"));
    let below: Vec<_> = lines.take_while(|line| depth(line) > depth(first)).collect();
    below.join("\n")
}

#[test]
fn describe_tells_what_kubectl_does() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait("p", "d runs", |pod| status(pod, "d")["state"]["running"].is_object());
    make_ready(&lab);
    lab.wait_ready("p");
    for restarts in [1, 2] {
        kill(Pid::from_raw(lab.pid("p", "d")), Signal::SIGKILL).unwrap();
        lab.wait("p", "d runs again", |pod| {
            let d = status(pod, "d");
            d["restartCount"] == restarts && d["state"]["running"].is_object() && condition(pod, "Ready")
        });
    }
    let pod = lab.get("p");
    let told = lab.ok(&["describe", "pod", "p"]);
    let ip = pod["status"]["podIP"].as_str().unwrap();
    for line in [
        "Name:             p\n",
        "Service Account:  default\n",
        "Node:             n1/192.0.2.1\n",
        "Labels:           app=web\n                  tier=front\n",
        "Annotations:      <none>\n",
        "Status:           Running\n",
        &format!("IP:               {ip}\nIPs:\n  IP:  {ip}\n"),
        "QoS Class:       Burstable\n",
    ] {
        assert!(told.contains(line), "{line:?} in\n{told}");
    }
    let c = section(&told, "c:");
    for line in [
        "    Image:      busybox:v1",
        "    Port:       80/TCP",
        "      sh\n      -c\n      sleep 1000",
        "    Readiness:      exec [test -e /v/ready] delay=0s timeout=5s period=1s #success=1 #failure=3",
        "      A:   one\n      IP:   (v1:status.podIP)",
        "    Mounts:\n      /v from v (rw)",
    ] {
        assert!(c.contains(line), "{line:?} in\n{c}");
    }
    let d = section(&told, "d:");
    for line in
        ["State:          Running", "Last State:     Terminated", "  Exit Code:    137", "Restart Count:  2"]
    {
        assert!(d.contains(line), "{line:?} in\n{d}");
    }
    assert!(section(&told, "Init Containers:").contains("      Reason:       Completed"), "{told}");
    assert!(section(&told, "Conditions:").contains("  Ready                      True"), "{told}");
    assert!(section(&told, "Volumes:").contains("EmptyDir (a temporary directory that shares"), "{told}");
    let events = section(&told, "Events:");
    let again = events.lines().find(|line| line.ends_with("Started container d")).unwrap_or(&events);
    assert!(again.starts_with("  Normal") && again.contains(" (x3 over "), "{events}");
    assert_eq!(events.matches("Started container d").count(), 1, "{events}");
    let missing = lab.flatpod(&["describe", "pod", "no"]);
    assert!(text(&missing.stderr).contains("pods \"no\" not found"));
}

#[test]
fn wait_ends_when_it_is_so_or_when_it_is_time() {
    let lab = Lab::new();
    lab.apply(POD);
    let late = lab.flatpod(&["wait", "--for=condition=Ready", "pod/p", "--timeout=1s"]);
    assert_eq!(late.status.code(), Some(1));
    assert_eq!(text(&late.stderr), "error: timed out waiting for the condition on pods/p\n");
    let not_ready = lab.ok(&["wait", "--for=condition=ready=false", "p", "--timeout=60s"]);
    assert_eq!(not_ready, "pod/p condition met\n");
    let wait = |goal: &str| {
        let mut command = lab.command(&["wait", goal, "p", "--timeout=60s"]);
        KillOnDrop::new(command.stdout(Stdio::piped()).spawn().expect("flatpod runs"))
    };
    let waiting = wait("--for=condition=Ready");
    lab.wait("p", "c runs", |pod| status(pod, "c")["state"]["running"].is_object());
    make_ready(&lab);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("pod/p condition met\n", Some(0)));
    assert!(condition(&lab.get("p"), "Ready"));
    let waiting = wait("--for=delete");
    lab.ok(&["delete", "p"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("pod/p condition met\n", Some(0)));
    assert_eq!(lab.ok(&["wait", "--for=delete", "p"]), "pod/p condition met\n");
    let missing = lab.flatpod(&["wait", "--for=condition=Ready", "p"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("pods \"p\" not found"));
    assert_eq!(lab.flatpod(&["wait", "--for=Ready", "p"]).status.code(), Some(2));
}

#[test]
fn watching_shows_every_change_until_nobody_looks() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait("p", "c runs", |pod| status(pod, "c")["state"]["running"].is_object());
    let mut command = lab.command(&["get", "pods", "-w"]);
    let mut watcher = KillOnDrop::new(command.stdout(Stdio::piped()).spawn().expect("flatpod runs"));
    let mut lines = BufReader::new(watcher.child().stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("NAME"));
    assert!(lines.next().unwrap().starts_with("p "));
    make_ready(&lab);
    // Columns are as wide as the first table had them.
    let mut until = |wanted: &str| {
        let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = lines.by_ref().find(|line| words(line).contains(wanted));
        assert!(line.unwrap().starts_with("p "), "{wanted}");
    };
    until("2/2 ");
    kill(Pid::from_raw(lab.pid("p", "d")), Signal::SIGKILL).unwrap();
    until("2/2 Running 1 (");
    lab.ok(&["delete", "p", "--wait=false"]);
    until("Terminating");
    drop(lines);
    let end = wait_until("the end of the watcher", SOON, || watcher.ended());
    assert_eq!(end.unwrap().code(), Some(0));
}

#[test]
fn wait_compares_what_a_path_finds() {
    let lab = Lab::new();
    lab.apply(&POD.replace("name: p,", "name: p, annotations: {a.b/c: 'x=}'},"));
    let wait = |goal: &str, time: &str| {
        lab.flatpod(&["wait", &format!("--for=jsonpath={goal}"), "p", "--timeout", time])
    };
    let met = |goal: &str| {
        let output = wait(goal, "60s");
        let told = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            (told.0.as_str(), output.status.code()),
            ("pod/p condition met\n", Some(0)),
            "{goal}: {}",
            told.1
        );
    };
    for goal in [
        "{.status.phase}=Running",
        "'{.status.phase}'=Running",
        "{.status.podIP}",
        "{.spec.containers[1].name}=d",
        "{.status.conditions[?(@.type==\"Initialized\")].status}=True",
        "{.metadata.annotations['a.b/c']}=x=}",
    ] {
        met(goal);
    }
    for goal in ["{.status.phase}=Succeeded", "{.status.nothing}", "{.status.nothing}=x"] {
        let late = wait(goal, "0");
        assert_eq!(late.status.code(), Some(1), "{goal}");
        assert_eq!(text(&late.stderr), "error: timed out waiting for the condition on pods/p\n", "{goal}");
    }
    let several = wait("{.spec.containers[*].name}=c", "0");
    assert!(text(&several.stderr).contains("several values (c, d)"), "{}", text(&several.stderr));
    for wrong in ["{.status", "{.status.phase}Running", "{.a[}", "{.status.phase}="] {
        assert_eq!(wait(wrong, "0").status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn events_are_shown_as_they_come_and_by_type() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait("p", "d runs", |pod| status(pod, "d")["state"]["running"].is_object());
    let mut watchers = [&["events", "p", "-w"][..], &["get", "events", "-w", "--no-headers"]]
        .map(|line| KillOnDrop::new(lab.command(line).stdout(Stdio::piped()).spawn().expect("flatpod runs")));
    let [mut of_pod, mut of_all] = watchers
        .each_mut()
        .map(|watcher| BufReader::new(watcher.child().stdout.take().unwrap()).lines().map(Result::unwrap));
    assert!(of_pod.next().unwrap().starts_with("AGE "));
    for lines in [&mut of_pod, &mut of_all] {
        let seen = lines.find(|line| line.ends_with("Started container d")).unwrap();
        assert!(seen.contains(" Normal ") && seen.contains(" pod/p "), "{seen}");
    }
    let again = "apiVersion: v1\nkind: Pod\nmetadata: {name: q}\nspec: {terminationGracePeriodSeconds: 0,
        containers: [{name: other, image: 'no-such:v1'}]}\n";
    lab.apply(again);
    kill(Pid::from_raw(lab.pid("p", "d")), Signal::SIGKILL).unwrap();
    let d_again = |line: &String| line.ends_with("Started container d");
    let between: Vec<_> = of_pod.by_ref().take_while(|line| !d_again(line)).collect();
    assert!(!between.iter().any(|line| line.contains("pod/q")), "only what was asked for: {between:?}");
    let warned = of_all.find(|line| line.contains(" pod/q ")).unwrap();
    assert!(warned.contains(" Warning "), "{warned}");
    drop((of_pod, of_all));
    for watcher in &mut watchers {
        let end = wait_until("the end of the watcher", SOON, || watcher.ended());
        assert_eq!(end.unwrap().code(), Some(0));
    }
    let types = |types: &str| lab.ok(&["events", "--types", types, "--no-headers"]);
    assert!(
        types("Warning").lines().all(|line| line.contains(" Warning ")) && types("Warning").contains("pod/q")
    );
    assert!(
        types("normal").lines().all(|line| line.contains(" Normal ")) && types("normal").contains("pod/p")
    );
    assert_eq!(types("Normal,Warning").lines().count(), lab.ok(&["get", "events"]).lines().count() - 1);
    assert_eq!(lab.flatpod(&["events", "--types", "Other"]).status.code(), Some(2));
}
