//! Filters of system calls: who is held to one, what it refuses, and that nothing else is different.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{collections::BTreeMap, fs};

use lab::{Lab, status, text};

const DEFAULT: &str = "seccompProfile: {type: RuntimeDefault}";
/// What the kernel says of a process that has a filter, and of one that has none.
const FILTERED: &str = "2";
const UNFILTERED: &str = "0";
/// Asks for addresses that are always the same: any user may, but it is not on the list.
const REFUSED: [&str; 4] = ["setarch", "-R", "echo", "done"];

/// The lines of `/proc/PID/status`.
fn facts(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn of_container(lab: &Lab, pod: &str, container: &str) -> BTreeMap<String, String> {
    facts(&fs::read_to_string(format!("/proc/{}/status", lab.pid(pod, container))).unwrap())
}

/// What a process may do by its rights.
fn rights(facts: &BTreeMap<String, String>) -> Vec<&str> {
    let names = ["Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];
    names.map(|name| facts[name].as_str()).into()
}

/// A pod of these containers that sleep, each with a security context; the pod's own is `security`.
fn sleepers(name: &str, security: &str, contexts: &[(&str, String)]) -> String {
    let container = |(name, context): &(&str, String)| {
        format!(
            "{{name: {name}, image: 'busybox:v1', command: [sleep, '1000'], securityContext: {{{context}}}}}"
        )
    };
    let all: Vec<_> = contexts.iter().map(container).collect();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0,
           securityContext: {{{security}}}, containers: [{}]}}}}",
        all.join(", ")
    )
}

/// The filter comes with the profile, and takes or gives no right.
#[test]
fn a_profile_filters_and_changes_no_right() {
    let lab = Lab::new();
    let rights_of = [
        ("root", ""),
        ("user", "runAsUser: 1234"),
        ("strict", "runAsUser: 1234, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}"),
        ("admin", "capabilities: {add: [SYS_ADMIN]}"),
    ];
    let with = |more: &str| {
        rights_of
            .map(|(name, context)| (name, [context, more].join(", ").trim_matches([',', ' ']).to_owned()))
    };
    lab.apply(&sleepers("plain", "", &with("")));
    lab.apply(&sleepers("own", "", &with(DEFAULT)));
    lab.apply(&sleepers("pods", DEFAULT, &with("")));
    lab.apply(&sleepers("none", DEFAULT, &with("seccompProfile: {type: Unconfined}")));
    for (pod, seccomp) in [("plain", UNFILTERED), ("own", FILTERED), ("pods", FILTERED), ("none", UNFILTERED)]
    {
        lab.wait_ready(pod);
        for (name, _) in rights_of {
            let (got, plain) = (of_container(&lab, pod, name), of_container(&lab, "plain", name));
            assert_eq!(got["Seccomp"], seccomp, "{name} of {pod}");
            assert_eq!(rights(&got), rights(&plain), "{name} of {pod}");
        }
    }
    lab.apply(&sleepers("free", DEFAULT, &[("c", "privileged: true".to_owned())]));
    lab.wait_ready("free");
    assert_eq!(
        of_container(&lab, "free", "c")["Seccomp"],
        UNFILTERED,
        "who is privileged is held to nothing"
    );
}

#[test]
fn who_comes_later_is_held_to_it_too() {
    let lab = Lab::new();
    let contexts = [("c", DEFAULT.to_owned()), ("d", String::new())];
    lab.apply(&sleepers("p", "", &contexts));
    lab.apply(&sleepers("q", DEFAULT, &contexts[1..]));
    for pod in ["p", "q"] {
        lab.wait_ready(pod);
    }
    for (pod, container, seccomp) in [("p", "c", FILTERED), ("p", "d", UNFILTERED), ("q", "d", FILTERED)] {
        let first = of_container(&lab, pod, container);
        let later = facts(&lab.exec(pod, container, &["cat", "/proc/self/status"]));
        assert_eq!(
            (later["Seccomp"].as_str(), rights(&later)),
            (seccomp, rights(&first)),
            "{container} of {pod}"
        );
    }
    // A pod's profile is that of its debuggers, as of all that have no other; not of who is privileged.
    for (pod, profile, seccomp) in
        [("p", "general", UNFILTERED), ("q", "general", FILTERED), ("q", "sysadmin", UNFILTERED)]
    {
        let name = format!("{pod}-{profile}");
        let line =
            ["debug", pod, "-c", &name, "--profile", profile, "--image", "busybox:v1", "--", "sleep", "1000"];
        lab.ok(&line);
        lab.wait(pod, "looked into", |pod| status(pod, &name)["state"]["running"].is_object());
        assert_eq!(of_container(&lab, pod, &name)["Seccomp"], seccomp, "{name}");
    }
}

/// The node decides for who says nothing, as a kubelet with the same option.
#[test]
fn a_node_may_filter_by_default() {
    let lab = Lab::bare();
    lab.node_with("n1", lab::FLATNET, &["--seccomp-default"]);
    let privileged = "privileged: true";
    let contexts = [("c", ""), ("own", "seccompProfile: {type: Unconfined}"), ("free", privileged)];
    lab.apply(&sleepers("p", "", &contexts.map(|(name, context)| (name, context.to_owned()))));
    lab.wait_ready("p");
    for (name, seccomp) in [("c", FILTERED), ("own", UNFILTERED), ("free", UNFILTERED)] {
        assert_eq!(of_container(&lab, "p", name)["Seccomp"], seccomp, "{name}");
    }
}

/// What is refused is refused as the list says, by the filter alone.
#[test]
fn calls_that_are_not_on_the_list_are_refused() {
    let lab = Lab::new();
    let on_host = |pod: String| pod.replace("busybox:v1", "builtin/host:v1");
    let admin = "capabilities: {add: [SYS_ADMIN]}";
    let contexts = [("c", String::new()), ("admin", admin.to_owned())];
    lab.apply(&on_host(sleepers("plain", "", &contexts)));
    lab.apply(&on_host(sleepers("listed", DEFAULT, &contexts)));
    for pod in ["plain", "listed"] {
        lab.wait_ready(pod);
    }
    assert_eq!(lab.exec("plain", "c", &REFUSED), "done\n");
    let refused = lab.flatpod(&[&["exec", "listed", "-c", "c", "--"], &REFUSED[..]].concat());
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(text(&refused.stderr).contains("Operation not permitted"), "{}", text(&refused.stderr));
    // Who has the right by the container's capabilities is not kept from it.
    for pod in ["plain", "listed"] {
        assert_eq!(lab.exec_code(pod, "admin", &["unshare", "-m", "true"]), Some(0), "{pod}");
    }
}

/// Shells, threads, sockets, terminals and signals are what programs are made of.
#[test]
fn ordinary_programs_work_under_it() {
    let lab = Lab::new();
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{securityContext: {{{DEFAULT}}}, containers: [
          {{name: server, image: 'builtin/tools:v1', args: [netexec], ports: [{{name: web, containerPort: 8080}}],
            readinessProbe: {{periodSeconds: 1, httpGet: {{path: /hostname, port: web}}}}}},
          {{name: shell, image: 'busybox:v1', tty: true, stdin: true, command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']}}]}}}}"
    ));
    lab.wait_ready("p");
    assert_eq!(
        lab.exec(
            "p",
            "shell",
            &["sh", "-c", "echo a b | (read x y; echo $y) && ls / | wc -l > /tmp/n && test -s /tmp/n"]
        ),
        "b\n"
    );
    assert!(lab.exec("p", "shell", &["ping", "-c", "1", "127.0.0.1"]).contains("1 packets received"));
    assert_eq!(lab.exec_code("p", "shell", &["nc", "-w", "1", "127.0.0.1", "8080"]), Some(0));
    assert_eq!(
        lab.exec("p", "server", &["/bin/get", "http://127.0.0.1:8080/echo?msg=hello"]).trim(),
        "hello"
    );
    let begun = std::time::Instant::now();
    lab.ok(&["delete", "p", "--grace-period", "60"]);
    assert!(begun.elapsed() < lab::SOON, "its end was asked for and came");
}

/// The filter is there before the program, without no_new_privs: a set-user-ID program still is one.
#[test]
fn programs_that_change_the_user_still_do() {
    let lab = Lab::new();
    let container = |name: &str, more: &str| {
        format!(
            "{{name: {name}, image: 'builtin/host:v1', command: [/own/sleep, '1000'],
               volumeMounts: [{{name: own, mountPath: /own}}], securityContext: {{runAsUser: 1234{more}}}}}"
        )
    };
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0,
           securityContext: {{{DEFAULT}}}, volumes: [{{name: own, emptyDir: {{}}}}],
           initContainers: [{{name: make, image: 'builtin/host:v1', volumeMounts: [{{name: own, mountPath: /own}}],
             command: [sh, -c, 'cp /usr/bin/sleep /own/sleep && chmod 4755 /own/sleep']}}],
           containers: [{}, {}]}}}}",
        container("may", ""),
        container("may-not", ", allowPrivilegeEscalation: false"),
    ));
    lab.wait_ready("p");
    for (name, user) in [("may", "1234 0 0 0"), ("may-not", "1234 1234 1234 1234")] {
        let got = of_container(&lab, "p", name);
        assert_eq!((got["Uid"].as_str(), got["Seccomp"].as_str()), (user, FILTERED), "{name}");
        // What it was lent to install the filter with is gone for good.
        let admin = u64::from_str_radix(&got["CapPrm"], 16).unwrap() >> 21 & 1;
        assert_eq!(admin, 0, "{name}: {}", got["CapPrm"]);
    }
}
