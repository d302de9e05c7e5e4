//! Ephemeral containers: looking into a pod that runs.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;
mod terminal;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
};

use lab::{Lab, SOON, ns, status, text};
use netns_fixtures::wait_until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use terminal::Terminal;

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
    containers: [
      {name: c, image: 'busybox:v1', command: [sh, -c, 'echo here > /tmp/mark; sleep 1234']},
      {name: d, image: 'busybox:v1', command: [sleep, '1000']}]}}";

fn is_running(pod: &Value, container: &str) -> bool {
    status(pod, container)["state"]["running"].is_object()
}

fn is_over(pod: &Value, container: &str) -> bool {
    status(pod, container)["state"]["terminated"].is_object()
}

/// Adds a container with a shell to pod `p`.
fn debug(lab: &Lab, name: &str, more: &[&str], command: &[&str]) {
    let line = [&["debug", "p", "-c", name, "--image", "busybox:v1"], more, &["--"], command].concat();
    lab.ok(&line);
}

#[test]
fn r29_a_debugger_shares_the_sandbox_and_sees_its_target() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let (c, d) = (lab.pid("p", "c"), lab.pid("p", "d"));
    debug(&lab, "look", &["--target", "c"], &["sleep", "1000"]);
    debug(&lab, "alone", &[], &["sleep", "1000"]);
    lab.wait("p", "both run", |pod| is_running(pod, "look") && is_running(pod, "alone"));
    let (look, alone) = (lab.pid("p", "look"), lab.pid("p", "alone"));
    for kind in ["net", "ipc", "uts"] {
        assert_eq!((ns(look, kind), ns(alone, kind)), (ns(c, kind), ns(c, kind)), "{kind}");
    }
    assert_eq!(ns(look, "pid"), ns(c, "pid"));
    assert!(![ns(c, "pid"), ns(d, "pid")].contains(&ns(alone, "pid")));
    for one in [look, alone] {
        assert!(![ns(c, "mnt"), ns(d, "mnt")].contains(&ns(one, "mnt")));
    }
    // Whoever gets a terminal there sees the target's processes and its files, and still has files of its own.
    assert!(lab.exec("p", "look", &["ps"]).contains("sleep 1234"));
    assert_eq!(lab.exec("p", "look", &["cat", "/proc/1/root/tmp/mark"]), "here\n");
    assert_eq!(lab.exec_code("p", "look", &["test", "-e", "/tmp/mark"]), Some(1));
    assert!(!lab.exec("p", "alone", &["ps"]).contains("sleep 1234"));
    assert_eq!((lab.pid("p", "c"), lab.pid("p", "d")), (c, d), "nobody else has noticed");
    // A namespace that is not its own does not end with it.
    kill(Pid::from_raw(look), Signal::SIGKILL).unwrap();
    let after = lab.wait("p", "look has ended", |pod| is_over(pod, "look"));
    assert_eq!(status(&after, "look")["state"]["terminated"]["exitCode"], 137);
    assert_eq!((lab.pid("p", "c"), lab.pid("p", "d")), (c, d));
    lab.exec("p", "c", &["true"]);
}

#[test]
fn r29_a_debugger_is_never_started_again_and_counts_for_nothing() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    debug(&lab, "once", &[], &["sh", "-c", "echo seen; exit 3"]);
    lab.wait("p", "once has ended", |pod| is_over(pod, "once"));
    assert_eq!(lab.logs("p", "once"), "seen\n");
    let attempts = lab.pod_dir("p").join("ctr/once");
    // What the policy says of the others is done meanwhile, and by a supervisor that was not there.
    kill(Pid::from_raw(lab.process(&["supervise"]).unwrap()), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(lab.pid("p", "d")), Signal::SIGKILL).unwrap();
    let after = lab.wait("p", "d runs again", |pod| {
        status(pod, "d")["restartCount"] == 1 && is_running(pod, "d") && lab::condition(pod, "Ready")
    });
    let once = status(&after, "once");
    assert_eq!((&once["restartCount"], &once["state"]["terminated"]["exitCode"]), (&0.into(), &3.into()));
    assert!(attempts.join("0").exists() && !attempts.join("1").exists());
    assert_eq!(after["status"]["phase"], "Running");
    assert_eq!(after["status"]["qosClass"], "BestEffort");
    assert!(lab.ok(&["get", "pod", "p"]).contains("2/2"), "it is not counted");
    assert_eq!(lab.apply(POD), "pod/p unchanged\n");
}

#[test]
fn a_debugger_outlives_the_supervisor_and_ends_with_the_pod() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    debug(&lab, "look", &["--target", "c"], &["sleep", "1000"]);
    lab.wait("p", "look runs", |pod| is_running(pod, "look"));
    let look = lab.pid("p", "look");
    let supervisor = lab.process(&["supervise"]).unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    let next = wait_until("another supervisor", SOON, || {
        // Asking for the pod gives it one, as soon as the old one has let go.
        assert!(is_running(&lab.get("p"), "look"));
        lab.process(&["supervise"]).filter(|pid| *pid != supervisor)
    });
    next.unwrap();
    // Added while nobody looks: the next supervisor starts it.
    kill(Pid::from_raw(lab.process(&["supervise"]).unwrap()), Signal::SIGKILL).unwrap();
    debug(&lab, "more", &[], &["sleep", "1000"]);
    let after = lab.wait("p", "more runs", |pod| is_running(pod, "more"));
    assert_eq!((lab.pid("p", "look"), &status(&after, "look")["restartCount"]), (look, &0.into()));
    let more = lab.pid("p", "more");
    lab.ok(&["delete", "p"]);
    for pid in [look, more] {
        assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{pid} is gone");
    }
}

#[test]
fn a_debugger_has_the_users_terminal_and_answers_its_exit_code() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let c = lab.pid("p", "c");
    let line = ["debug", "-it", "p", "-c", "look", "--image", "busybox:v1", "--target", "c", "--", "sh"];
    let mut screen = Terminal::start(&lab, &line, 35, 95);
    screen.until("Targeting container \"c\".");
    screen.ask("cat /proc/1/root/tmp/mark; busybox stty size", "here\r\n35 95");
    screen.resize(50, 132);
    screen.ask("busybox stty size", "50 132");
    screen.enter("exit 9\r");
    assert_eq!(screen.end(), Some(9));
    let after = lab.wait("p", "look has ended", |pod| is_over(pod, "look"));
    assert_eq!(status(&after, "look")["state"]["terminated"]["exitCode"], 9);
    assert_eq!(lab.pid("p", "c"), c);
    // What was said before anybody could attach is not lost, and without a terminal neither is input.
    let mut child =
        lab.command(&["debug", "-i", "p", "--image", "busybox:v1", "--", "sh", "-c", "echo first; cat"]);
    let child = child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut reads = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(reads.next().unwrap().unwrap(), "first");
    writeln!(input, "second").unwrap();
    assert_eq!(reads.next().unwrap().unwrap(), "second");
    child.kill().unwrap();
    child.wait().unwrap();
    let quick = lab.flatpod(&[
        "debug",
        "--attach",
        "p",
        "--image",
        "busybox:v1",
        "--",
        "sh",
        "-c",
        "echo all; exit 7",
    ]);
    assert_eq!((text(&quick.stdout).as_str(), quick.status.code()), ("all\n", Some(7)));
}

#[test]
fn a_debugger_is_not_started_again_with_a_new_sandbox() {
    let lab = Lab::new();
    lab.apply(&POD.replace("spec: {", "spec: {shareProcessNamespace: true, "));
    lab.wait_ready("p");
    debug(&lab, "look", &[], &["sleep", "1000"]);
    lab.wait("p", "look runs", |pod| is_running(pod, "look"));
    assert_eq!(ns(lab.pid("p", "look"), "pid"), ns(lab.pid("p", "c"), "pid"), "the pod shares its processes");
    kill(Pid::from_raw(lab.pid("p", ".pause")), Signal::SIGKILL).unwrap();
    let after = lab.wait("p", "made anew", |pod| {
        lab::condition(pod, "Ready") && status(pod, "c")["restartCount"].as_i64() >= Some(1)
    });
    assert!(is_over(&after, "look"), "{after:#}");
    assert!(!lab.pod_dir("p").join("ctr/look/1").exists());
}

#[test]
fn a_pod_is_over_when_only_a_debugger_runs() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never,
            terminationGracePeriodSeconds: 0, volumes: [{name: v, emptyDir: {}}],
            containers: [{name: c, image: 'busybox:v1', volumeMounts: [{name: v, mountPath: /v}],
              command: [sh, -c, 'while ! test -e /v/go; do sleep 0.1; done']}]}}",
    );
    lab.wait_ready("p");
    debug(&lab, "look", &[], &["sleep", "1000"]);
    lab.wait("p", "look runs", |pod| is_running(pod, "look"));
    std::fs::write(lab.pod_dir("p").join("volumes/v/go"), "").unwrap();
    let after = lab.wait_phase("p", "Succeeded");
    assert_eq!(status(&after, "look")["state"]["terminated"]["exitCode"], 137);
    let late = lab.flatpod(&["debug", "p", "--image", "busybox:v1", "--", "true"]);
    let told = text(&late.stderr);
    assert!(
        !late.status.success() && told.contains("completed pod; current phase of p is Succeeded"),
        "{told}"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_what_would() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let refused = |line: &[&str]| {
        let output = lab.flatpod(&[&["debug", "p"], line].concat());
        assert!(!output.status.success(), "{line:?}");
        text(&output.stderr)
    };
    let told = refused(&["--target", "x", "--image", "busybox:v1", "--", "true"]);
    assert!(told.contains("--target: Not found: \"x\"; pod p has: c, d"), "{told}");
    let told = refused(&["-c", "d", "--image", "busybox:v1", "--", "true"]);
    assert!(told.contains("Duplicate value: \"d\"; pod p has: c, d"), "{told}");
    let told = refused(&["-c", "No", "--image", "busybox:v1", "--", "true"]);
    assert!(told.contains("RFC 1123"), "{told}");
    let told = refused(&[]);
    assert!(told.contains("builtin/tools:v1 has no shell"), "{told}");
    assert!(lab.get("p")["spec"]["ephemeralContainers"].is_null(), "nothing was added");
    // Two at once: one of them has the name, and neither undoes the other.
    let start = |name: &str| {
        let line = ["debug", "p", "-c", name, "--image", "busybox:v1", "--", "sleep", "1000"];
        lab.command(&line).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let all = ["e", "e", "f", "g", "h"].map(start);
    let done = all.map(|mut child| child.wait().unwrap().success());
    assert_eq!(done.iter().filter(|done| **done).count(), 4, "{done:?}");
    lab.wait("p", "all run", |pod| ["e", "f", "g", "h"].iter().all(|name| is_running(pod, name)));
    let manifest = POD.replace("containers: [", "ephemeralContainers: [{name: x, image: y}], containers: [");
    let told = text(&lab.try_apply(&manifest.replace("name: p", "name: q")).stderr);
    assert!(told.contains("use flatpod debug"), "{told}");
}

#[test]
fn the_default_image_has_tools_and_the_name_is_told() {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait_ready("p");
    let output = lab.flatpod(&["debug", "p", "--", "ns"]);
    let told = text(&output.stderr);
    let name = told.strip_prefix("Defaulting debug container name to ").unwrap().trim_end_matches(".\n");
    assert!(name.starts_with("debugger-") && name.len() == 14, "{told}");
    lab.wait("p", "it has ended", |pod| is_over(pod, name));
    let net = std::fs::metadata(format!("/proc/{}/ns/net", lab.pid("p", "c"))).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&net);
    assert!(lab.logs("p", name).contains(&format!("net {inode}\n")), "{}", lab.logs("p", name));
}
