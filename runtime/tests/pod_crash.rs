//! Whoever is killed, pods stay what they are.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use lab::{Lab, SOON, ns, status};
use netns_fixtures::wait_until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 1,
  initContainers: [{name: i, image: 'busybox:v1', command: [sh, -c, 'echo init']}],
  containers: [{name: c, image: 'busybox:v1', command: [sh, -c, 'n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done']},
               {name: d, image: 'busybox:v1', command: [sleep, '1000']}]}}";

fn shoot(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let gone = || (!std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists()).then_some(());
    wait_until("its end", SOON, gone).unwrap();
}

#[test]
fn containers_go_on_without_their_supervisor_and_are_taken_over() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let pids = (lab.pid("p", "c"), lab.pid("p", "d"));
    let net = ns(pids.0, "net");
    shoot(lab.process(&["supervise"]).unwrap());
    let log = lab.pod_dir("p").join("logs/c/0.log");
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    wait_until("more output", SOON, || (size() > before + 100).then_some(())).unwrap();
    let after = lab.wait_ready("p");
    wait_until("a supervisor", SOON, || lab.process(&["supervise"])).unwrap();
    assert_eq!((lab.pid("p", "c"), lab.pid("p", "d")), pids);
    assert_eq!(ns(pids.0, "net"), net);
    assert_eq!(status(&after, "c")["restartCount"], 0);
    assert_eq!(status(&after, "i")["restartCount"], 0);
    // Output is whole: every number once, in order.
    let numbers: Vec<u32> = lab.logs("p", "c").lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "{numbers:?}");
    // The new one sees an end that the old one would have seen.
    kill(Pid::from_raw(pids.1), Signal::SIGKILL).unwrap();
    let runs_again = |pod: &serde_json::Value, times: i32| {
        let d = status(pod, "d");
        d["restartCount"] == times && d["state"]["running"].is_object()
    };
    lab.wait("p", "d runs again", |pod| runs_again(pod, 1));
    // And the next one has not forgotten what this one counted.
    shoot(lab.process(&["supervise"]).unwrap());
    lab.get("p");
    wait_until("a supervisor", SOON, || lab.process(&["supervise"])).unwrap();
    kill(Pid::from_raw(lab.pid("p", "d")), Signal::SIGKILL).unwrap();
    let after = lab.wait("p", "d runs again", |pod| runs_again(pod, 2));
    assert_eq!(status(&after, "i")["restartCount"], 0);
}

/// Init containers that have done their work are not run again, whoever looks after the pod.
#[test]
fn init_containers_are_done_once_though_the_supervisor_is_killed_among_them() {
    let lab = Lab::new();
    let one = |name: &str, line: &str| {
        format!(
            "{{name: {name}, image: 'busybox:v1', volumeMounts: [{{name: notes, mountPath: /notes}}],
               command: [sh, -c, 'echo {name} >> /notes/all; {line}']}}"
        )
    };
    let inits = [
        one("i1", "true"),
        // The third time, it works.
        one("i2", "test $(grep -c i2 /notes/all) = 3"),
        one("i3", "while ! test -e /notes/go; do sleep 0.05; done"),
        one("i4", "true"),
    ];
    // A shell that has grep.
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0, restartPolicy: OnFailure,
           volumes: [{{name: notes, emptyDir: {{}}}}], initContainers: [{}], containers: [{}]}}}}",
        inits.join(", ").replace("grep -c", "busybox grep -c"),
        one("app", "true")
    ));
    lab.wait("p", "i3 runs", |pod| status(pod, "i3")["state"]["running"].is_object());
    shoot(lab.process(&["supervise"]).unwrap());
    lab.get("p");
    wait_until("a supervisor", SOON, || lab.process(&["supervise"])).unwrap();
    let dir = lab.pod_dir("p").join("volumes/notes");
    std::fs::write(dir.join("go"), "").unwrap();
    let over = lab.wait_phase("p", "Succeeded");
    let notes = std::fs::read_to_string(dir.join("all")).unwrap();
    assert_eq!(notes.lines().collect::<Vec<_>>(), ["i1", "i2", "i2", "i2", "i3", "i4", "app"]);
    assert_eq!(
        ["i1", "i2", "i3", "i4", "app"].map(|name| status(&over, name)["restartCount"].as_i64()),
        [0, 2, 0, 0, 0].map(Some)
    );
}

#[test]
fn nobody_works_for_a_pod_to_which_nothing_happens() {
    let lab = Lab::new();
    lab.apply(&POD.replace("echo $n; ", ""));
    lab.wait_ready("p");
    let file = lab.pod_dir("p").join("status.json");
    // A file that is replaced is another one each time.
    let status = || std::fs::metadata(&file).map(|file| (file.ino(), file.mtime_nsec())).unwrap();
    let written = || {
        let before = status();
        let writes = || (status() != before).then_some(());
        wait_until("a status that nothing has happened to", Duration::from_secs(1), writes).is_ok()
    };
    // The last change may be on its way.
    wait_until("a second without writing", SOON, || (!written()).then_some(())).unwrap();
    assert!(!written() && !written());
}

#[test]
fn what_ends_while_nobody_looks_is_known_later() {
    let lab = Lab::new();
    lab.apply(
        &POD.replace("spec: {", "spec: {restartPolicy: Never, ")
            .replace("sleep, '1000'", "sh, -c, 'sleep 1; exit 5'"),
    );
    lab.wait("p", "d runs", |pod| status(pod, "d")["state"]["running"].is_object());
    shoot(lab.process(&["supervise"]).unwrap());
    let exit = lab.pod_dir("p").join("ctr/d/0/exit.json");
    // Not by asking flatpod, which would give the pod a supervisor.
    wait_until("the end of d", SOON, || exit.exists().then_some(())).unwrap();
    let after = lab.wait("p", "d ended", |pod| status(pod, "d")["state"]["terminated"].is_object());
    assert_eq!(status(&after, "d")["state"]["terminated"]["exitCode"], 5);
}

#[test]
fn a_container_without_its_shim_is_ended_and_started_again() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let (c, d) = (lab.pid("p", "c"), lab.pid("p", "d"));
    shoot(lab.process(&["shim", "ctr/c/0"]).unwrap());
    let after = lab.wait("p", "c restarted", |pod| {
        status(pod, "c")["restartCount"] == 1 && status(pod, "c")["state"]["running"].is_object()
    });
    let ended = &status(&after, "c")["lastState"]["terminated"];
    assert_eq!(
        (ended["exitCode"].as_i64(), ended["reason"].as_str()),
        (Some(137), Some("ContainerStatusUnknown"))
    );
    assert!(!std::path::Path::new(&format!("/proc/{c}/exe")).exists(), "the old one is gone");
    assert_eq!(lab.pid("p", "d"), d);
}

#[test]
fn the_holder_of_the_processes_takes_all_with_it_and_everything_is_made_anew() {
    let lab = Lab::new();
    lab.apply(&POD.replace("spec: {", "spec: {shareProcessNamespace: true, "));
    lab.wait_ready("p");
    let before = (lab.pid("p", "c"), ns(lab.pid("p", "c"), "net"));
    shoot(lab.pid("p", ".pause"));
    let after = lab.wait("p", "made anew", |pod| {
        // Between the end of the containers and that of their holder they may have been started in vain.
        let again = status(pod, "c")["restartCount"].as_i64() >= Some(1);
        lab::condition(pod, "Ready") && again && status(pod, "i")["restartCount"] == 1
    });
    assert!(lab.events("p").contains("SandboxChanged"));
    assert!(after["status"]["podIP"].is_string());
    assert_ne!(before.1, ns(lab.pid("p", "c"), "net"));
}

#[test]
fn a_deletion_goes_on_after_its_supervisor_was_killed() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    lab.ok(&["delete", "p", "--grace-period", "3", "--wait=false"]);
    shoot(lab.process(&["supervise"]).unwrap());
    lab.ok(&["delete", "p"]);
    assert!(!lab.flatpod(&["get", "pod", "p"]).status.success());
}

/// Killed anywhere between its first and its last step, a supervisor leaves what the next one finishes.
#[test]
fn killed_at_any_moment_it_comes_to_the_same_end() {
    let lab = Lab::new();
    for moment in (0..12).map(|n| std::time::Duration::from_millis(n * 24)) {
        lab.apply(POD);
        let strike = std::time::Instant::now() + moment;
        // Not a wait for a condition: the point is to strike at different moments.
        let _ = wait_until("the moment", SOON, || (std::time::Instant::now() >= strike).then_some(()));
        if let Some(pid) = lab.process(&["supervise"]) {
            shoot(pid);
        }
        lab.wait_ready("p");
        lab.ok(&["delete", "p", "--wait=false", "--grace-period", "0", "--force"]);
        let strike = std::time::Instant::now() + moment;
        let _ = wait_until("the moment", SOON, || (std::time::Instant::now() >= strike).then_some(()));
        if let Some(pid) = lab.process(&["supervise"]) {
            // It may be at its end already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if lab.flatpod(&["get", "pod", "p"]).status.success() {
            let _ = lab.flatpod(&["delete", "p"]);
        }
        wait_until("no pod", SOON, || (!lab.ok(&["get", "pods"]).contains("p ")).then_some(())).unwrap();
    }
}
