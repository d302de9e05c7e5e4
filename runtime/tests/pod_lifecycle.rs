//! Init containers, sidecars, restarts, ends, and what is told about them.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{Lab, status};
use serde_json::{Value, json};

/// A pod `p` with this in its spec.
fn pod(spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 1, {spec}}}}}"
    )
}

/// A container that writes down when it begins and ends.
fn noted(name: &str, seconds: &str, more: &str) -> String {
    format!(
        "{{name: {name}, image: 'busybox:v1', volumeMounts: [{{name: notes, mountPath: /notes}}], {more}
          command: [sh, -c, 'echo +{name} >> /notes/all; sleep {seconds}; echo -{name} >> /notes/all']}}"
    )
}

const NOTES: &str = "volumes: [{name: notes, emptyDir: {}}]";

fn notes(lab: &Lab) -> String {
    let text = fs::read_to_string(lab.pod_dir("p").join("volumes/notes/all")).unwrap_or_default();
    text.lines().collect::<Vec<_>>().join(" ")
}

fn code(pod: &Value, container: &str) -> Option<i64> {
    status(pod, container)["state"]["terminated"]["exitCode"].as_i64()
}

/// Claim 2.
#[test]
fn r02_the_shortest_pod_just_works() {
    let lab = Lab::new();
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: 'builtin/tools:v1', args: [netexec]}\n";
    assert_eq!(lab.apply(text), "pod/p created\n");
    lab.wait("p", "output", |_| lab.flatpod(&["logs", "p"]).stdout.starts_with(b"serving HTTP on 8080"));
    lab.wait_ready("p");
    assert_eq!(lab.apply(text), "pod/p unchanged\n");
    let other = lab.try_apply(&text.replace("netexec", "pause"));
    assert!(!other.status.success() && lab::text(&other.stderr).contains("delete it first"));
    assert!(lab.ok(&["get", "pods"]).starts_with("NAME   READY   STATUS"));
    assert_eq!(lab.ok(&["get", "pods", "-o", "yaml"]), lab.ok(&["get", "pods", "-o", "yaml"]));
    lab.ok(&["delete", "p", "--now"]);
    // Its supervisor is the last to go.
    let gone = || (!lab.traces().iter().any(|trace| trace.contains("pods/"))).then_some(());
    netns_fixtures::wait_until("nothing to be left of the pod", lab::SOON, gone).unwrap();
}

/// Claim 27.
#[test]
fn r27_init_containers_run_in_order_before_apps() {
    let lab = Lab::new();
    let inits = [noted("i1", "0.3", ""), noted("i2", "0.1", ""), noted("i3", "0", "")].join(", ");
    lab.apply(&pod(&format!(
        "restartPolicy: Never, {NOTES}, initContainers: [{inits}], containers: [{}]",
        noted("app", "0", "")
    )));
    let over = lab.wait_phase("p", "Succeeded");
    assert_eq!(notes(&lab), "+i1 -i1 +i2 -i2 +i3 -i3 +app -app");
    assert_eq!(["i1", "i2", "i3", "app"].map(|name| code(&over, name)), [Some(0); 4]);
}

/// Claim 27.
#[test]
fn r27_a_failed_init_container_fails_the_pod_or_is_tried_again() {
    let lab = Lab::new();
    let spec = "initContainers: [{name: bad, image: 'builtin/tools:v1', args: [exit, '3']}],
                containers: [{name: app, image: 'builtin/tools:v1'}]";
    lab.apply(&pod(&format!("restartPolicy: Never, {spec}")));
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(code(&over, "bad"), Some(3));
    assert!(status(&over, "app")["state"]["waiting"].is_object());
    assert!(!lab.pod_dir("p").join("logs/app").exists(), "never made");
    lab.ok(&["delete", "p"]);
    lab.apply(&pod(spec));
    let waiting = lab.wait("p", "waiting", |pod| {
        status(pod, "bad")["restartCount"].as_i64() >= Some(2)
            && status(pod, "bad")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(waiting["status"]["phase"], "Pending");
}

/// Claim 28: a sidecar starts before the app, does not keep the pod, and ends after it.
#[test]
fn r28_a_sidecar_starts_first_and_does_not_keep_the_pod() {
    let lab = Lab::new();
    let side = "{name: side, restartPolicy: Always, image: 'busybox:v1', volumeMounts: [{name: notes, mountPath: /notes}],
        command: [sh, -c, 'trap \"echo -side >> /notes/all; exit 0\" TERM; echo +side >> /notes/all; while :; do sleep 0.05; done']}";
    let spec = format!(
        "restartPolicy: Never, {NOTES}, initContainers: [{side}, {}], containers: [{}]",
        noted("i2", "0.3", ""),
        noted("app", "0.3", "")
    );
    lab.apply(&pod(&spec.replace("terminationGracePeriodSeconds: 1", "")));
    let over = lab.wait_phase("p", "Succeeded");
    assert_eq!(notes(&lab), "+side +i2 -i2 +app -app -side");
    assert_eq!((code(&over, "side"), code(&over, "app")), (Some(0), Some(0)));
}

/// One order and one budget for the end: the hook, the app, then sidecars, last one first; and a sidecar that ends before
/// is started again, which says nothing about the pod.
#[test]
fn r28_the_end_comes_to_hook_app_and_sidecars_in_this_order() {
    let lab = Lab::new();
    let waits = |name: &str, more: &str| {
        format!(
            "{{name: {name}, image: 'busybox:v1', volumeMounts: [{{name: notes, mountPath: /notes}}], {more}
               command: [sh, -c, 'trap \"sleep 0.3; echo {name} >> /notes/all; exit 0\" TERM; while :; do sleep 0.05; done']}}"
        )
    };
    let always = "restartPolicy: Always, ";
    let hook = "lifecycle: {preStop: {exec: {command: [sh, -c, 'sleep 0.5; echo hook >> /notes/all']}}}, ";
    let spec = format!(
        "restartPolicy: Never, {NOTES}, initContainers: [{}, {}], containers: [{}]",
        waits("one", always),
        waits("two", always),
        waits("app", hook)
    );
    // The volume goes with the pod, so its files are looked at from a directory of the node.
    let kept = lab.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let host = format!("volumes: [{{name: notes, hostPath: {{path: {}}}}}]", kept.display());
    lab.apply(&pod(&spec.replace(NOTES, &host)).replace("Seconds: 1,", "Seconds: 60,"));
    lab.wait_ready("p");
    let app = lab.pid("p", "app");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(lab.pid("p", "one")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let after = lab.wait("p", "the sidecar again", |pod| {
        status(pod, "one")["restartCount"] == 1 && status(pod, "one")["state"]["running"].is_object()
    });
    assert_eq!((after["status"]["phase"].as_str(), lab.pid("p", "app")), (Some("Running"), app));
    lab.ok(&["delete", "p"]);
    let notes = fs::read_to_string(kept.join("all")).unwrap();
    assert_eq!(notes.lines().collect::<Vec<_>>(), ["hook", "app", "two", "one"]);
}

/// Claim 30: four rows of command and arguments.
#[test]
fn r30_command_and_arguments_over_the_images() {
    let lab = Lab::new();
    let rootfs = lab.path().join("busybox");
    fs::write(rootfs.join("ep-1"), "#!/bin/sh\necho \"$0 $@\"\n").unwrap();
    fs::write(rootfs.join("ep-2"), "#!/bin/sh\necho \"$0 $@\"\n").unwrap();
    for name in ["ep-1", "ep-2"] {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(rootfs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    lab.ok(&[
        "image",
        "import",
        "ep:v1",
        rootfs.to_str().unwrap(),
        "--entrypoint",
        "/ep-1",
        "--cmd",
        "foo",
        "bar",
    ]);
    let one = |name: &str, more: &str| format!("{{name: {name}, image: 'ep:v1'{more}}}");
    let all = [
        one("neither", ""),
        one("command", ", command: [/ep-2]"),
        one("args", ", args: [zoo, boo]"),
        one("both", ", env: [{name: X, value: x}], command: [/ep-2], args: [zoo, $(X), $$(X), $(Y)]"),
    ];
    lab.apply(&pod(&format!("restartPolicy: Never, containers: [{}]", all.join(", "))));
    lab.wait_phase("p", "Succeeded");
    let said = ["neither", "command", "args", "both"].map(|name| lab.logs("p", name));
    assert_eq!(said, ["/ep-1 foo bar\n", "/ep-2 \n", "/ep-1 zoo boo\n", "/ep-2 zoo x $(X) $(Y)\n"]);
}

/// Claim 5: restart policies, exit codes, phases.
#[test]
fn r05_restart_policies_exit_codes_and_phases() {
    let lab = Lab::new();
    let exits =
        |code: u8| format!("containers: [{{name: c, image: 'builtin/tools:v1', args: [exit, '{code}']}}]");
    lab.apply(&pod(&format!("restartPolicy: OnFailure, {}", exits(0))));
    assert_eq!(status(&lab.wait_phase("p", "Succeeded"), "c")["restartCount"], 0);
    lab.ok(&["delete", "p"]);
    lab.apply(&pod(&format!("restartPolicy: Never, {}", exits(7))));
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(
        (code(&over, "c"), &status(&over, "c")["state"]["terminated"]["reason"]),
        (Some(7), &json!("Error"))
    );
    lab.ok(&["delete", "p"]);
    // Sharing processes, a shell is not the first of them and dies of its own signal.
    let crash = "containers: [{name: c, image: 'busybox:v1', command: [sh, -c, 'kill -SEGV $$$$']}]";
    lab.apply(&pod(&format!("restartPolicy: Never, shareProcessNamespace: true, {crash}")));
    assert_eq!(code(&lab.wait_phase("p", "Failed"), "c"), Some(139));
    lab.ok(&["delete", "p"]);
    lab.apply(&pod(&exits(1)));
    lab.wait("p", "a restart", |pod| status(pod, "c")["restartCount"].as_i64() >= Some(1));
    let descriptors =
        |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(usize::MAX);
    let supervisor = lab.process(&["supervise"]).unwrap();
    // Those of a start may be among them; what is left behind by every run would come on top.
    let before = descriptors(supervisor);
    let looping = lab.wait("p", "three restarts", |pod| status(pod, "c")["restartCount"].as_i64() >= Some(3));
    assert_eq!(looping["status"]["phase"], "Running");
    lab.wait("p", "waiting", |pod| status(pod, "c")["state"]["waiting"]["reason"] == "CrashLoopBackOff");
    assert!(lab.ok(&["get", "pods"]).contains("CrashLoopBackOff"));
    let none_left = || (descriptors(supervisor) <= before).then_some(());
    netns_fixtures::wait_until("no descriptors to be left of runs that are over", lab::SOON, none_left)
        .unwrap();
    assert!(lab.events("p").contains("Back-off restarting failed container c in pod p_default("));
    lab.ok(&["delete", "p", "--now"]);
    lab.apply(&pod(
        "restartPolicy: Never, containers: [{name: c, image: 'builtin/tools:v1', command: [/no/such]}]",
    ));
    let over = lab.wait_phase("p", "Failed");
    let ended = &status(&over, "c")["state"]["terminated"];
    assert_eq!(
        (ended["exitCode"].as_i64(), ended["reason"].as_str()),
        (Some(128), Some("StartError")),
        "{ended}"
    );
    assert!(ended["message"].as_str().unwrap().contains("/no/such"), "{ended}");
    let events = lab.ok(&["get", "events", "p"]);
    assert!(
        events.contains("Error: failed to start container c: ") && !events.contains("Started"),
        "{events}"
    );
}

#[test]
fn the_logs_of_the_previous_run_are_kept() {
    let lab = Lab::new();
    lab.apply(&pod("containers: [{name: c, image: 'busybox:v1', command: [sh, -c, 'echo run $RANDOM; test -e /dev/shm/x && sleep 1000; touch /dev/shm/x']}]"));
    lab.wait("p", "restarted", |pod| {
        status(pod, "c")["restartCount"] == 1 && status(pod, "c")["state"]["running"].is_object()
    });
    lab.wait("p", "output", |_| lab.logs("p", "c").starts_with("run "));
    let previous = lab.ok(&["logs", "p", "--previous"]);
    assert!(previous.starts_with("run "), "{previous}");
    assert_ne!(previous, lab.logs("p", "c"));
}

/// Nobody injects an init, the exit codes are the kernel's.
#[test]
fn ends_have_the_time_they_are_given() {
    let lab = Lab::new();
    let all = "{name: traps, image: 'builtin/tools:v1', args: [trap, --exit, '7']},
               {name: deaf, image: 'busybox:v1', command: [sleep, '1000']}";
    lab.apply(
        &pod(&format!("restartPolicy: Never, activeDeadlineSeconds: 2, containers: [{all}]"))
            .replace("Seconds: 1,", "Seconds: 3,"),
    );
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(over["status"]["reason"], "DeadlineExceeded");
    assert_eq!((code(&over, "traps"), code(&over, "deaf")), (Some(7), Some(137)));
    // The status has whole seconds only.
    let dir = lab.pod_dir("p");
    let ended = lab::json_file(&dir.join("ctr/deaf/0/exit.json"))["finishedAt"].clone();
    let events = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut asked = events
        .filter(|event| event["message"] == "Stopping container deaf")
        .map(|event| event["time"].clone());
    let at = |time: &serde_json::Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let waited = at(&ended).duration_since(at(&asked.next_back().unwrap()));
    assert!(waited.as_millis() >= 2_500, "PID 1 without a handler takes the whole grace: {waited:?}");
}

/// It need not be killed when its grace is over, though it is the first process of its PID namespace.
#[test]
fn the_built_in_server_ends_when_it_is_asked_to() {
    let lab = Lab::new();
    let text = pod("containers: [{name: c, image: 'builtin/tools:v1', args: [netexec]}]");
    lab.apply(&text.replace("Seconds: 1,", "Seconds: 300,"));
    lab.wait_ready("p");
    let begun = Instant::now();
    lab.ok(&["delete", "p"]);
    assert!(begun.elapsed() < Duration::from_secs(200));
}

#[test]
fn a_pod_of_the_same_name_waits_for_its_predecessor() {
    let lab = Lab::new();
    let text = pod("containers: [{name: c, image: 'busybox:v1', command: [sleep, '1000']}]")
        .replace("Seconds: 1,", "Seconds: 4,");
    lab.apply(&text);
    let first = lab.wait_ready("p");
    lab.ok(&["delete", "p", "--wait=false"]);
    let begun = Instant::now();
    lab.apply(&text);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_ne!(lab.wait_ready("p")["metadata"]["uid"], first["metadata"]["uid"]);
}

/// No run is lost, no zombie stays.
#[test]
fn fifty_short_containers_leave_fifty_exit_codes_and_no_zombie() {
    let lab = Lab::new();
    let all: Vec<String> =
        (0..50).map(|n| format!("{{name: c{n}, image: 'builtin/tools:v1', args: [exit, '{n}']}}")).collect();
    lab.apply(&pod(&format!("restartPolicy: Never, containers: [{}]", all.join(", "))));
    let supervisor = lab.process(&["supervise"]);
    let over = lab.wait_phase("p", "Failed");
    for n in 0..50 {
        assert_eq!(code(&over, &format!("c{n}")), Some(n));
    }
    if let Some(pid) = supervisor {
        // Its last children may be ending still, as it may itself.
        let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let none = || children().is_empty().then_some(());
        netns_fixtures::wait_until("no child of the supervisor to be left", Duration::from_secs(10), none)
            .unwrap();
    }
}
