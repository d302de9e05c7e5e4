//! Workloads: pods that are made from templates, kept at their number, rolled out, replaced.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use lab::{FLATNET, Lab, SOON, bin_dir, condition, text};
use netns_fixtures::wait_until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const SLEEPER: &str = "{name: c, image: 'busybox:v1', command: [sleep, '100000']}";

/// Three nodes with agents, that are missed after a second.
fn cluster() -> Lab {
    let lab = Lab::bare();
    let dir = bin_dir();
    let dir = dir.to_str().expect("a path");
    let args =
        ["up", "--nodes", "3", "--bin-dir", dir, "--max-container-restart-period", "1", "--node-grace", "1"];
    lab.ok(&args);
    lab
}

/// A workload `web` with these pods.
fn manifest(kind: &str, fields: &str, containers: &str) -> String {
    let (version, selector) = match kind {
        "Job" => ("batch/v1", ""),
        "ReplicationController" => ("v1", ""),
        _ => ("apps/v1", "selector: {matchLabels: {app: web}},"),
    };
    format!(
        "{{apiVersion: {version}, kind: {kind}, metadata: {{name: web}}, spec: {{{fields} {selector}
           template: {{metadata: {{labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{containers}]}}}}}}}}"
    )
}

/// The pods with the label of the workload.
fn pods(lab: &Lab) -> Vec<Value> {
    let list: Value =
        serde_json::from_str(&lab.ok(&["get", "pods", "-l", "app=web", "-o", "json"])).expect("JSON");
    list["items"].as_array().expect("a list").clone()
}

fn stays(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null()
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn node(pod: &Value) -> String {
    pod["spec"]["nodeName"].as_str().expect("a node").to_owned()
}

fn uids(pods: &[Value]) -> BTreeSet<String> {
    pods.iter().map(uid).collect()
}

/// Waits until there are exactly `count` pods, all of them ready.
fn settled(lab: &Lab, count: usize) -> Vec<Value> {
    let mut last = vec![];
    let found = wait_until(&format!("{count} ready pods"), SOON, || {
        last = pods(lab);
        let all = last.len() == count && last.iter().all(|pod| condition(pod, "Ready") && stays(pod));
        all.then(|| last.clone())
    });
    found.unwrap_or_else(|timeout| {
        panic!("{timeout}: {}\n{}", lab.ok(&["get", "all"]), lab.ok(&["get", "events"]))
    })
}

fn object(lab: &Lab, kind: &str) -> Value {
    serde_json::from_str(&lab.ok(&["get", kind, "web", "-o", "json"])).expect("JSON")
}

/// Waits until nothing of workloads is left: no pod, no file, no controller.
fn nothing_left(lab: &Lab) {
    let left = || {
        let files = ["pods", "names", "workloads"].map(|below| {
            let entries = fs::read_dir(lab.root().join(below)).expect("a directory").flatten();
            entries.count()
        });
        files.iter().sum::<usize>() + usize::from(lab.process(&["controller"]).is_some())
    };
    let gone = wait_until("nothing to be left", SOON, || (left() == 0).then_some(()));
    gone.unwrap_or_else(|timeout| panic!("{timeout}: {:#?}", lab.traces()));
}

/// The processes of containers with this argument, which no other test has.
fn processes(argument: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let is = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).map(|line| text(&line)).unwrap_or_default();
        line.split('\0').collect::<Vec<_>>() == ["sleep", argument, ""]
    };
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is).collect()
}

#[test]
fn r32_a_workload_is_scaled_in_whole_pods() {
    let lab = cluster();
    let containers = format!(
        "{{name: front, image: 'builtin/tools:v1', args: [netexec, --http-port=80]}}, {}",
        SLEEPER.replace("name: c", "name: back")
    );
    assert_eq!(lab.apply(&manifest("Deployment", "", &containers)), "deployment.apps/web created\n");
    settled(&lab, 1);
    assert_eq!(lab.ok(&["scale", "deployment/web", "--replicas", "2"]), "deployment.apps/web scaled\n");
    lab.ok(&["rollout", "status", "deployment/web", "--timeout", "60"]);
    let two = settled(&lab, 2);
    let ips: BTreeSet<&str> =
        two.iter().map(|pod| pod["status"]["podIP"].as_str().expect("an address")).collect();
    assert_eq!(ips.len(), 2, "each pod has an address of its own");
    assert_ne!(node(&two[0]), node(&two[1]), "pods go where the fewest are");
    for (from, to) in [(0, 1), (1, 0)] {
        for container in ["front", "back"] {
            assert!(
                Path::new(&format!("/proc/{}", lab.pid(&name(&two[from]), container))).exists(),
                "{container}"
            );
        }
        let (own, other) = (&two[from]["status"]["podIP"], &two[to]["status"]["podIP"]);
        let ask = format!(
            "printf 'GET /clientip HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 80",
            other.as_str().expect("an address")
        );
        let answer = wait_until("an answer", SOON, || {
            let output = lab.flatpod(&["exec", &name(&two[from]), "-c", "back", "--", "sh", "-c", &ask]);
            text(&output.stdout).split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
        });
        assert!(answer.expect("an answer").starts_with(own.as_str().expect("an address")), "as itself");
    }
    // A workload stands for its first pod.
    let first = lab.ok(&["exec", "deployment/web", "-c", "back", "--", "hostname"]);
    assert!(two.iter().any(|pod| name(pod) == first.trim()), "{first}");
    // What the manifest does not say stays as it is.
    assert_eq!(lab.apply(&manifest("Deployment", "", &containers)), "deployment.apps/web unchanged\n");
    assert_eq!(
        lab.apply(&manifest("Deployment", "replicas: 1,", &containers)),
        "deployment.apps/web configured\n"
    );
    settled(&lab, 1);
    let table = lab.ok(&["get", "deploy"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
    assert_eq!(rows[1][..4], ["web", "1/1", "1", "1"]);
    lab.ok(&["delete", "deployment/web"]);
    nothing_left(&lab);
}

#[test]
fn r33_replica_sets_replace_adopt_and_let_go() {
    let lab = cluster();
    // Alike, and nobody's: it is taken for one of three.
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: found, labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{SLEEPER}]}}}}"
    ));
    lab.apply(&manifest("ReplicaSet", "replicas: 3,", SLEEPER));
    let three = settled(&lab, 3);
    let owner = uid(&object(&lab, "rs"));
    for pod in &three {
        let reference = &pod["metadata"]["ownerReferences"][0];
        assert_eq!(
            (reference["uid"].as_str(), reference["controller"].as_bool()),
            (Some(owner.as_str()), Some(true))
        );
        assert!(name(pod) == "found" || name(pod).len() == "web-12345".len(), "{}", name(pod));
    }
    let nodes: BTreeSet<String> = three.iter().map(node).collect();
    assert_eq!(nodes.len(), 3, "{}", lab.ok(&["get", "pods", "-o", "wide"]));
    let gone = &three[0];
    lab.ok(&["delete", "pod", &name(gone)]);
    let again = settled(&lab, 3);
    assert_eq!(uids(&again).intersection(&uids(&three)).count(), 2, "one is new");
    assert_eq!(lab.ok(&["delete", "rs", "web", "--cascade=orphan"]), "replicaset.apps \"web\" deleted\n");
    let free = settled(&lab, 3);
    assert_eq!(uids(&free), uids(&again));
    assert!(free.iter().all(|pod| pod["metadata"]["ownerReferences"].is_null()));
    // The same as a replication controller, which takes them over.
    lab.apply(&manifest("ReplicationController", "replicas: 2,", SLEEPER));
    let two = settled(&lab, 2);
    assert!(uids(&two).is_subset(&uids(&free)));
    assert_eq!(two[0]["metadata"]["ownerReferences"][0]["kind"], "ReplicationController");
    lab.ok(&["delete", "rc/web"]);
    nothing_left(&lab);
}

/// Claim 31 beside claim 33: what a workload owns is replaced, what nobody owns is not.
#[test]
fn r31_r33_pods_of_a_failed_node_are_replaced_elsewhere_and_bare_ones_are_not() {
    let lab = cluster();
    lab.apply(&manifest("Deployment", "replicas: 3,", SLEEPER));
    let before = settled(&lab, 3);
    lab.apply(&manifest("DaemonSet", "", SLEEPER).replace("app: web", "app: everywhere"));
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: bare}}, spec: {{nodeName: n2, terminationGracePeriodSeconds: 0, containers: [{SLEEPER}]}}}}"
    ));
    lab.wait_ready("bare");
    lab.ok(&["rollout", "status", "ds/web", "--timeout", "60"]);
    let lost: Vec<&Value> = before.iter().filter(|pod| node(pod) == "n2").collect();
    assert_eq!(lost.len(), 1, "one on each node");
    let lost_pid = lab.pid(&name(lost[0]), "c");
    lab.ok(&["node", "fail", "n2"]);
    let after = wait_until("a replacement", SOON, || {
        let serving: Vec<Value> =
            pods(&lab).into_iter().filter(|pod| condition(pod, "Ready") && stays(pod)).collect();
        (serving.len() == 3).then_some(serving)
    });
    let after = after.unwrap_or_else(|timeout| panic!("{timeout}: {}", lab.ok(&["get", "all"])));
    let fresh: Vec<&Value> = after.iter().filter(|pod| !uids(&before).contains(&uid(pod))).collect();
    assert_eq!(fresh.len(), 1);
    assert_ne!(node(fresh[0]), "n2");
    // Nobody can reach the node: what ran there still does, and is not known any more.
    assert!(Path::new(&format!("/proc/{lost_pid}")).exists());
    let told = lab.ok(&["get", "events", &name(lost[0])]);
    assert!(told.contains("node n2 has not been reachable for 1s (--node-grace)"), "{told}");
    let bare = lab.get("bare");
    assert_eq!((bare["status"]["phase"].as_str(), stays(&bare)), (Some("Unknown"), true));
    let daemons = lab.ok(&["get", "pods", "-l", "app=everywhere", "-o", "json"]);
    let daemons: Value = serde_json::from_str(&daemons).expect("JSON");
    assert!(daemons["items"].as_array().expect("a list").iter().all(stays), "they stay with their nodes");
    let dir = bin_dir();
    lab.ok(&["node", "heal", "n2", "--bin-dir", dir.to_str().expect("a path")]);
    let healed = settled(&lab, 3);
    assert_eq!(uids(&healed), uids(&after), "the lost one goes");
    assert!(!Path::new(&format!("/proc/{lost_pid}/exe")).exists());
    assert_eq!(uid(&lab.wait_ready("bare")), uid(&bare));
}

/// At no moment do fewer serve than was promised, nor are there more than may be.
#[test]
fn r33_a_rolling_update_keeps_what_it_promises() {
    let lab = cluster();
    let app = |version: &str| {
        format!(
            "{{name: c, image: 'busybox:v1', command: [sh, -c, 'sleep 0.5; touch /tmp/serves; exec sleep {version}'],
               readinessProbe: {{exec: {{command: [test, -e, /tmp/serves]}}, periodSeconds: 1, timeoutSeconds: 30}}}}"
        )
    };
    let rolling = "replicas: 4, strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 25%}},";
    // Numbers that nobody else sleeps for.
    let [old, new] = ["7", "8"].map(|digit| format!("{digit}{:07}", std::process::id()));
    let (old, new) = (old.as_str(), new.as_str());
    lab.apply(&manifest("Deployment", rolling, &app(old)));
    settled(&lab, 4);
    let serving = || {
        let serves = |pid: &i32| Path::new(&format!("/proc/{pid}/root/tmp/serves")).exists();
        let count = |version| processes(version).iter().filter(|pid| serves(pid)).count();
        // The old ones first: who is gone by then has a successor that is seen after it.
        count(old) + count(new)
    };
    assert_eq!(serving(), 4);
    let done = AtomicBool::new(false);
    let (fewest, most) = std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let (mut fewest, mut most) = (usize::MAX, 0);
            while !done.load(Ordering::Relaxed) {
                fewest = fewest.min(serving());
                most = most.max(pods(&lab).iter().filter(|pod| stays(pod)).count());
            }
            (fewest, most)
        });
        lab.apply(&manifest("Deployment", rolling, &app(new)));
        let told = lab.flatpod(&["rollout", "status", "deployment/web", "--timeout", "120"]);
        done.store(true, Ordering::Relaxed);
        assert!(told.status.success(), "{}", text(&told.stdout));
        assert!(
            text(&told.stdout).ends_with("deployment \"web\" successfully rolled out\n"),
            "{}",
            text(&told.stdout)
        );
        look.join().expect("a look")
    });
    assert!(fewest >= 3, "only {fewest} of 4 served");
    assert!(most <= 5, "{most} pods at once");
    settled(&lab, 4);
    assert_eq!((processes(old).len(), processes(new).len()), (0, 4));
    let sets = || lab.ok(&["get", "rs", "-o", "name"]).lines().count();
    wait_until("one replica set", SOON, || (sets() == 1).then_some(())).expect("the former one goes");
    // All anew, by the same way.
    let before = settled(&lab, 4);
    lab.ok(&["rollout", "restart", "deployment/web"]);
    lab.ok(&["rollout", "status", "deployment/web", "--timeout", "120"]);
    assert!(uids(&settled(&lab, 4)).is_disjoint(&uids(&before)));
    lab.ok(&["delete", "deployment", "web"]);
    nothing_left(&lab);
    assert_eq!(processes(new).len(), 0);
}

#[test]
fn r33_a_stateful_set_makes_and_deletes_in_order_and_keeps_names() {
    let lab = cluster();
    let app =
        "{name: c, image: 'busybox:v1', command: [sh, -c, 'sleep 0.3; touch /tmp/up; exec sleep 100000'],
                readinessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, timeoutSeconds: 30}}";
    lab.apply(&manifest("StatefulSet", "replicas: 3, serviceName: peers,", app));
    // What is seen on the way: no pod without a ready one before it.
    let mut seen: Vec<Vec<(String, bool)>> = vec![];
    let all = wait_until("three in order", SOON, || {
        let now = pods(&lab);
        seen.push(now.iter().map(|pod| (name(pod), condition(pod, "Ready"))).collect());
        (now.len() == 3 && now.iter().all(|pod| condition(pod, "Ready"))).then_some(now)
    });
    let all = all.unwrap_or_else(|timeout| panic!("{timeout}: {}", lab.ok(&["get", "events"])));
    for moment in &seen {
        let (last, before) =
            moment.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
        assert!(before.iter().all(|(_, ready)| *ready), "{last:?} came too early: {moment:?}");
    }
    for (number, pod) in all.iter().enumerate() {
        let expected = format!("web-{number}");
        assert_eq!(
            (name(pod), lab.exec(&name(pod), "c", &["hostname"]).trim()),
            (expected.clone(), expected.as_str())
        );
        assert_eq!(pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"], expected);
    }
    // Who goes comes back under its name.
    lab.ok(&["delete", "pod", "web-1"]);
    let again = settled(&lab, 3);
    assert_eq!(again.iter().map(name).collect::<Vec<_>>(), ["web-0", "web-1", "web-2"]);
    assert_eq!(uids(&again).intersection(&uids(&all)).count(), 2);
    assert_eq!(lab.exec("web-1", "c", &["hostname"]), "web-1\n");
    // Down from the last one: never web-2 without web-1.
    lab.ok(&["scale", "sts/web", "--replicas", "1"]);
    let one = wait_until("one to be left", SOON, || {
        let names: Vec<String> = pods(&lab).iter().map(name).collect();
        if names.iter().any(|name| name == "web-2") && !names.iter().any(|name| name == "web-1") {
            // Unless it went while it was looked at.
            assert!(pods(&lab).iter().all(|pod| name(pod) != "web-2"), "{names:?}");
        }
        (names == ["web-0"]).then_some(())
    });
    one.unwrap_or_else(|timeout| panic!("{timeout}: {}", lab.ok(&["get", "all"])));
    lab.ok(&["delete", "sts/web"]);
    nothing_left(&lab);
}

/// Two of one name could both write to what is one's own: who is lost is replaced when somebody says that it is gone.
#[test]
fn r33_a_lost_pod_of_a_stateful_set_is_replaced_when_it_is_said_to_be_gone() {
    let lab = cluster();
    lab.apply(&manifest("StatefulSet", "replicas: 1, serviceName: peers,", SLEEPER));
    let before = settled(&lab, 1).remove(0);
    lab.ok(&["node", "fail", &node(&before)]);
    let lost = lab.wait("web-0", "to be counted as lost", |pod| !stays(pod));
    assert_eq!(uid(&lost), uid(&before));
    lab.ok(&["delete", "pod", "web-0"]);
    let after = settled(&lab, 1).remove(0);
    assert_eq!(name(&after), "web-0");
    assert_ne!(uid(&after), uid(&before));
    assert_ne!(node(&after), node(&before));
}

#[test]
fn r33_a_daemon_set_follows_the_nodes() {
    let lab = Lab::new();
    lab.apply(&manifest("DaemonSet", "", SLEEPER));
    let on = |expected: &[&str]| {
        let pods = settled(&lab, expected.len());
        let nodes: BTreeSet<String> = pods.iter().map(node).collect();
        assert_eq!(nodes, expected.iter().map(|&name| name.to_owned()).collect());
        pods
    };
    let first = on(&["n1"]);
    lab.node("n2", FLATNET);
    lab.node("n3", FLATNET);
    let all = on(&["n1", "n2", "n3"]);
    assert!(uids(&all).is_superset(&uids(&first)));
    lab.ok(&["node", "delete", "n2", "--force"]);
    assert_eq!(uids(&on(&["n1", "n3"])).intersection(&uids(&all)).count(), 2);
    // Only on nodes that are selected.
    let selected = manifest("DaemonSet", "", SLEEPER)
        .replace("spec: {terminationG", "spec: {nodeSelector: {kubernetes.io/hostname: n3}, terminationG");
    lab.apply(&selected);
    on(&["n3"]);
    lab.ok(&["delete", "ds/web"]);
    nothing_left(&lab);
}

fn job_condition(lab: &Lab) -> Option<(String, String)> {
    let condition = object(lab, "job")["status"]["conditions"][0].clone();
    Some((condition["type"].as_str()?.to_owned(), condition["reason"].as_str()?.to_owned()))
}

fn job_over(lab: &Lab) -> (String, String) {
    let over = wait_until("the job to be over", SOON, || job_condition(lab));
    over.unwrap_or_else(|timeout| {
        panic!("{timeout}: {}\n{}", lab.ok(&["get", "all"]), lab.ok(&["get", "events"]))
    })
}

#[test]
fn r33_a_job_is_tried_again_until_it_succeeds() {
    let lab = cluster();
    let dir = lab.path().join("shared");
    fs::create_dir(&dir).expect("a directory");
    // Fails once, then succeeds; a sidecar runs beside it and does not keep it.
    let job = format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: web}}, spec: {{completions: 2, template: {{metadata: {{labels: {{app: web}}}},
           spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, volumes: [{{name: v, hostPath: {{path: '{}'}}}}],
             initContainers: [{{name: s, image: 'busybox:v1', restartPolicy: Always, command: [sleep, '100000']}}],
             containers: [{{name: c, image: 'busybox:v1', volumeMounts: [{{name: v, mountPath: /data}}],
               command: [sh, -c, 'if test -e /data/tried; then exit 0; else touch /data/tried; exit 3; fi']}}]}}}}}}}}",
        dir.display()
    );
    lab.apply(&job);
    assert_eq!(job_over(&lab), ("Complete".to_owned(), "CompletionsReached".to_owned()));
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods(&lab) {
        *phases.entry(pod["status"]["phase"].as_str().expect("a phase").to_owned()).or_default() += 1;
    }
    assert_eq!(phases, [("Failed".to_owned(), 1), ("Succeeded".to_owned(), 2)].into());
    let status = object(&lab, "job")["status"].clone();
    assert_eq!((status["succeeded"].as_i64(), status["failed"].as_i64()), (Some(2), Some(1)));
    let row = lab.ok(&["get", "jobs"]);
    assert!(
        row.lines().nth(1).is_some_and(|line| line.contains("Complete") && line.contains("2/2")),
        "{row}"
    );
    lab.ok(&["delete", "job/web"]);
    nothing_left(&lab);
}

#[test]
fn r33_a_job_gives_up_at_its_limit() {
    let lab = cluster();
    let failing = "{name: c, image: 'busybox:v1', command: [sh, -c, 'exit 7']}";
    let job = |policy: &str| {
        manifest("Job", "backoffLimit: 1,", failing)
            .replace("spec: {terminationG", &format!("spec: {{restartPolicy: {policy}, terminationG"))
    };
    let limit = ("Failed".to_owned(), "BackoffLimitExceeded".to_owned());
    lab.apply(&job("Never"));
    assert_eq!(job_over(&lab), limit);
    assert_eq!(pods(&lab).len(), 2, "one, and one more");
    assert!(pods(&lab).iter().all(|pod| pod["status"]["phase"] == "Failed"));
    lab.ok(&["delete", "job/web"]);
    // Restarts within a pod count as well.
    lab.apply(&job("OnFailure"));
    assert_eq!(job_over(&lab), limit);
    wait_until("its pod to go", SOON, || pods(&lab).is_empty().then_some(())).expect("it is ended");
    lab.ok(&["delete", "job/web"]);
    nothing_left(&lab);
}

/// Placement: a host port is on a node once, and what fits nowhere is told and tried again.
#[test]
fn r33_host_ports_decide_where_pods_fit() {
    let lab = cluster();
    let app = SLEEPER.replace("name: c,", "name: c, ports: [{containerPort: 80, hostPort: 8080}],");
    lab.apply(&manifest("ReplicaSet", "replicas: 4,", &app));
    let three = settled(&lab, 3);
    assert_eq!(three.iter().map(node).collect::<BTreeSet<_>>().len(), 3);
    let told = wait_until("the fourth to be told", SOON, || {
        let events = lab.ok(&["get", "events"]);
        events.contains("0/3 nodes are available: 3 node(s) didn't have free ports").then_some(())
    });
    told.unwrap_or_else(|timeout| panic!("{timeout}: {}", lab.ok(&["get", "events"])));
    lab.ok(&["scale", "rs/web", "--replicas", "2"]);
    settled(&lab, 2);
}

/// A controller that is killed at any moment leaves what the next one brings to the same end.
#[test]
fn r33_a_controller_that_is_killed_makes_no_pod_twice() {
    let lab = Lab::new();
    lab.apply(&manifest("ReplicaSet", "replicas: 0,", SLEEPER));
    for (round, replicas) in [6_usize, 2, 0, 6, 2].into_iter().enumerate() {
        lab.ok(&["scale", "rs/web", "--replicas", &replicas.to_string()]);
        for blow in 0..6_u64 {
            let strike = Instant::now() + Duration::from_millis((7 * blow * blow + 11 * round as u64) % 90);
            // Not a wait for a condition: the point is to strike at different moments.
            let _ = wait_until("the moment", SOON, || (Instant::now() >= strike).then_some(()));
            if let Some(pid) = lab.process(&["controller"]) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            // Any command starts another one.
            let there = pods(&lab).iter().filter(|pod| stays(pod)).count();
            assert!(there <= 6, "{there} pods at once");
        }
        let now = settled(&lab, replicas);
        assert_eq!(uids(&now).len(), replicas);
    }
    lab.ok(&["scale", "rs/web", "--replicas", "5"]);
    lab.ok(&["delete", "rs/web", "--wait=false"]);
    if let Some(pid) = lab.process(&["controller"]) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let gone =
        wait_until("it to be gone", SOON, || lab.ok(&["get", "all"]).lines().nth(1).is_none().then_some(()));
    gone.unwrap_or_else(|timeout| panic!("{timeout}: {}", lab.ok(&["get", "all"])));
    nothing_left(&lab);
}

#[test]
fn r33_a_roll_out_goes_on_after_its_controller_was_killed() {
    let lab = Lab::new();
    let version = |seconds: u32| SLEEPER.replace("'100000'", &format!("'{seconds}'"));
    lab.apply(&manifest("Deployment", "replicas: 3,", &version(100_000)));
    settled(&lab, 3);
    for round in 1..=3_u32 {
        lab.apply(&manifest("Deployment", "replicas: 3,", &version(100_000 + round)));
        for blow in 0..5_u64 {
            let strike = Instant::now() + Duration::from_millis((19 * blow + 13 * u64::from(round)) % 70);
            let _ = wait_until("the moment", SOON, || (Instant::now() >= strike).then_some(()));
            if let Some(pid) = lab.process(&["controller"]) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let there = pods(&lab).iter().filter(|pod| stays(pod)).count();
            assert!(there <= 4, "{there} pods at once");
        }
        lab.ok(&["rollout", "status", "deploy/web", "--timeout", "60"]);
        let now = settled(&lab, 3);
        let expected = (100_000 + round).to_string();
        assert!(now.iter().all(|pod| pod["spec"]["containers"][0]["command"][1] == expected.as_str()));
        let sets = || lab.ok(&["get", "rs", "-o", "name"]).lines().count();
        wait_until("one replica set", SOON, || (sets() == 1).then_some(())).expect("former ones go");
    }
}
