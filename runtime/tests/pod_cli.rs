//! The verbs that people use to look into pods.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use lab::{Lab, SOON, text};
use netns_fixtures::{KillOnDrop, wait_until};

fn pod(command: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0, restartPolicy: Never,
           containers: [{{name: c, image: 'busybox:v1', command: [sh, -c, '{command}']}}]}}}}"
    )
}

#[test]
fn exec_passes_input_output_and_exit_codes() {
    let lab = Lab::new();
    lab.apply(&pod("sleep 1000"));
    lab.wait_ready("p");
    let mut child = lab.command(&["exec", "-i", "p", "--", "sh", "-c", "cat; echo err >&2; exit 9"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("flatpod");
    child.stdin.take().expect("stdin").write_all(b"in").expect("it is read");
    let output = child.wait_with_output().expect("an end");
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("in", "err\n"));
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(lab.exec_code("p", "c", &["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(lab.exec_code("p", "c", &["no-such"]), Some(127));
    let wrong = lab.flatpod(&["exec", "p", "-c", "x", "--", "true"]);
    assert!(text(&wrong.stderr).contains("it has: c"), "{}", text(&wrong.stderr));
}

#[test]
fn exec_has_a_terminal_when_it_is_started_from_one() {
    let lab = Lab::new();
    lab.apply(&pod("sleep 1000"));
    lab.wait_ready("p");
    let line = format!(
        "{} exec -it p -- sh -c 'test -t 0 && test -t 1 && echo with terminal; exit 3'",
        env!("CARGO_BIN_EXE_flatpod")
    );
    // script(1) gives its command a terminal.
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("FLATPOD_ROOT", lab.root());
    let output = script.stdin(Stdio::null()).output().expect("script runs");
    assert!(text(&output.stdout).contains("with terminal"), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn logs_follow_until_the_container_ends() {
    let lab = Lab::new();
    lab.apply(&pod("for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done; echo -n last"));
    let followed = wait_until("a log", SOON, || {
        let output = lab.flatpod(&["logs", "p", "-f"]);
        output.status.success().then_some(output)
    });
    let followed = followed.expect("a log");
    assert_eq!(text(&followed.stdout), "line 1\nline 2\nline 3\nline 4\nline 5\nlast");
    assert_eq!(lab.ok(&["logs", "p", "--tail", "2"]), "line 5\nlast");
    assert!(lab.ok(&["logs", "p", "--timestamps"]).lines().all(|line| line.contains("Z l")));
}

/// A reader that reads no more stops nobody.
#[test]
fn output_goes_on_when_its_reader_does_not() {
    let lab = Lab::new();
    lab.apply(&pod(
        "n=0; while test $n -lt 20000; do n=$((n+1)); echo $n; done; echo done > /dev/shm/done; sleep 1000",
    ));
    lab.wait_ready("p");
    let reader = lab.command(&["logs", "p", "-f"]).stdout(Stdio::piped()).spawn().expect("flatpod runs");
    let _reader = KillOnDrop::new(reader);
    let done = wait_until("the end of the output", SOON, || {
        lab.pod_dir("p").join("shm/done").exists().then_some(())
    });
    done.expect("nobody waits for a reader");
    lab.wait("p", "the last line", |_| lab.logs("p", "c").ends_with("\n20000\n"));
    let numbers = lab.logs("p", "c");
    assert!(numbers.lines().eq((1..=20_000).map(|n| n.to_string())), "nothing is lost");
}

/// A disk without room loses output, and stops nobody.
#[test]
fn a_full_disk_stops_no_container() {
    let lab = Lab::new();
    let line = "test -e /dev/shm/again || { touch /dev/shm/again; sleep 1000; }; \
        n=0; while test $n -lt 20000; do n=$((n+1)); echo $n; done; echo done > /dev/shm/done; sleep 1000";
    lab.apply(&pod(line).replace("restartPolicy: Never", "restartPolicy: Always"));
    lab.wait_ready("p");
    let ready = || lab.pod_dir("p").join("shm/again").exists().then_some(());
    wait_until("the first run to wait", SOON, ready).expect("a shell runs");
    // The log of the second run is where there is never any room.
    std::os::unix::fs::symlink("/dev/full", lab.pod_dir("p").join("logs/c/1.log")).expect("a link");
    let first = nix::unistd::Pid::from_raw(lab.pid("p", "c"));
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).expect("a process");
    let done = wait_until("the end of the output", SOON, || {
        lab.pod_dir("p").join("shm/done").exists().then_some(())
    });
    done.expect("nobody waits for the disk");
    let restarts = lab::status(&lab.get("p"), "c")["restartCount"].clone();
    assert_eq!(restarts, 1, "the second run is the one that has come to its end");
    let log = std::fs::read_link(lab.pod_dir("p").join("logs/c/1.log")).expect("a link still");
    assert_eq!(log, std::path::Path::new("/dev/full"));
}

/// What is no text comes back as it was: every byte there is, many times, without an end of line.
#[test]
fn bytes_come_back_as_they_were() {
    let lab = Lab::new();
    let all: Vec<u8> = (0..=255).collect();
    let bytes = all.repeat(300);
    let dir = lab.path().join("bytes");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("all"), &bytes).expect("a file");
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{restartPolicy: Never,
           volumes: [{{name: bytes, hostPath: {{path: {}}}}}], containers: [{{name: c, image: 'busybox:v1',
             command: [cat, /bytes/all], volumeMounts: [{{name: bytes, mountPath: /bytes}}]}}]}}}}",
        dir.display()
    ));
    lab.wait_phase("p", "Succeeded");
    assert!(lab.flatpod(&["logs", "p"]).stdout == bytes, "the same bytes");
}

/// One line of a megabyte without an end is cut into pieces and comes back whole.
#[test]
fn long_lines_come_back_whole() {
    let lab = Lab::new();
    lab.apply(&pod("head -c 1000000 /dev/zero | tr \"\\\\0\" x").replace("[sh, -c,", "[busybox, sh, -c,"));
    lab.wait_phase("p", "Succeeded");
    let told = lab.logs("p", "c");
    assert_eq!((told.len(), told.trim_matches('x')), (1_000_000, ""));
    let records = std::fs::read_to_string(lab.pod_dir("p").join("logs/c/0.log")).expect("a log");
    assert!(records.lines().all(|line| line.len() < 17_000 && line.contains(" stdout P x")), "pieces");
}

#[test]
fn pods_are_run_listed_and_removed_by_name() {
    let lab = Lab::new();
    assert_eq!(lab.ok(&["run", "web", "--image", "builtin/tools:v1", "--", "netexec"]), "pod/web created\n");
    lab.wait_ready("web");
    let json: serde_json::Value =
        serde_json::from_str(&lab.ok(&["get", "pods", "-o", "json"])).expect("JSON");
    assert_eq!((json["kind"].as_str(), json["items"][0]["kind"].as_str()), (Some("List"), Some("Pod")));
    assert!(lab.ok(&["get", "nodes"]).contains("n1"));
    assert!(lab.ok(&["image", "ls"]).contains("builtin/tools   v1 "));
    let busy = lab.flatpod(&["node", "delete", "n1"]);
    assert!(text(&busy.stderr).contains("--force"), "{}", text(&busy.stderr));
    let missing = lab.flatpod(&["delete", "nope"]);
    assert_eq!((missing.status.code(), text(&missing.stderr).contains("not found")), (Some(1), true));
    lab.ok(&["delete", "pod", "web", "--now"]);
    let json: serde_json::Value =
        serde_json::from_str(&lab.ok(&["get", "pods", "-o", "json"])).expect("JSON");
    assert_eq!(json["items"], serde_json::json!([]));
}

#[test]
fn what_there_is_can_be_read_by_scripts() {
    let lab = Lab::new();
    lab.apply(&pod("sleep 1000"));
    let seen = lab.wait_ready("p");
    let ip = seen["status"]["podIP"].as_str().expect("an address");
    assert_eq!(lab.ok(&["get", "pod", "p", "-o", "jsonpath={.status.podIP}"]), ip);
    let template = r#"jsonpath={range .items[*]}{.metadata.name}{"\t"}{.spec.nodeName}{"\n"}{end}"#;
    assert_eq!(lab.ok(&["get", "pods", "-o", template]), "p\tn1\n");
    let row = lab.ok(&["get", "pods", "--no-headers"]);
    assert!(row.starts_with("p ") && row.lines().count() == 1, "{row}");
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&lab.ok(&[&["get"], args, &["-o", "json"]].concat())).expect("JSON")
    };
    let node = json(&["node", "n1"]);
    assert_eq!((&node["kind"], &node["status"]["conditions"][0]["status"]), (&"Node".into(), &"True".into()));
    let events = json(&["events"]);
    let started =
        |event: &serde_json::Value| event["reason"] == "Started" && event["involvedObject"] == "pod/p";
    assert!(events["items"].as_array().expect("a list").iter().any(started), "{events}");
    assert_eq!(json(&["all"])["items"][0]["kind"], "Pod");
    assert_eq!(lab.ok(&["get", "all", "-o", "name"]), "pod/p\n");
    assert!(lab.ok(&["get", "all"]).contains("\npod/p "));
    for (format, told) in [("jsonpath={.a", "no closing brace"), ("tabel", "it is one of wide")] {
        let wrong = lab.flatpod(&["get", "pods", "-o", format]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains(told), "{}", text(&wrong.stderr));
    }
    let unknown = lab.flatpod(&["get", "node", "n9"]);
    assert!(text(&unknown.stderr).contains("there are: n1"), "{}", text(&unknown.stderr));
}

#[test]
fn create_makes_nothing_when_one_object_is_there() {
    let lab = Lab::new();
    let manifest = lab.path().join("pod.yaml");
    let map = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {k: KEPT}}\n";
    let create = |text: &str| {
        std::fs::write(&manifest, text).expect("a file");
        lab.flatpod(&["create", "-f", manifest.to_str().expect("a path")])
    };
    let made = create(&(pod("sleep 1000") + "\n" + map));
    assert_eq!(text(&made.stdout), "configmap/m created\npod/p created\n", "{}", text(&made.stderr));
    let uid = lab.wait_ready("p")["metadata"]["uid"].clone();
    let other = pod("sleep 1000").replace("name: p", "name: q");
    let again = create(&(other.clone() + "\n" + &map.replace("KEPT", "lost") + "---\n" + &pod("sleep 2000")));
    assert_eq!(again.status.code(), Some(1));
    let told = text(&again.stderr);
    assert!(told.contains("AlreadyExists: pod/p") && told.contains("AlreadyExists: configmap/m"), "{told}");
    assert_eq!(lab.ok(&["get", "pods", "-o", "name"]), "pod/p\n", "q is not made either");
    assert_eq!(lab.get("p")["metadata"]["uid"], uid);
    assert_eq!(text(&create(&other).stdout), "pod/q created\n");
}
