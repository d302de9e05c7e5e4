//! Fifty pods at once on three nodes, and nothing of them afterwards, whoever is killed meanwhile.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "the counts are to be seen, with --nocapture")]

mod lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use lab::{Lab, SOON, bin_dir};
use netns_fixtures::wait_until;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const PODS: usize = 50;
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What the kernel and the nodes' directories have of pods, by kind.
type Census = BTreeMap<&'static str, BTreeSet<String>>;

fn cluster() -> Lab {
    let lab = Lab::bare();
    let dir = bin_dir();
    let dir = dir.to_str().unwrap();
    lab.ok(&["up", "--nodes", "3", "--bin-dir", dir, "--max-container-restart-period", "1"]);
    lab
}

fn names() -> Vec<String> {
    (0..PODS).map(|number| format!("p{number}")).collect()
}

fn manifest() -> String {
    let pod = |name: &String| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{terminationGracePeriodSeconds: 0, containers: \
             [{{name: c, image: 'busybox:v1', command: [sleep, '100000']}}]}}\n"
        )
    };
    names().iter().map(pod).collect()
}

fn pods(lab: &Lab) -> Vec<Value> {
    let list: Value = serde_json::from_str(&lab.ok(&["get", "pods", "-o", "json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn census(lab: &Lab) -> Census {
    let own = lab.path().to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(own)).map(str::to_owned);
    let (namespaces, mounts) = mounts.partition(|line: &String| line.contains(" - nsfs "));
    let mut found = Census::from([
        ("processes", lab.processes().into_iter().map(|(pid, line)| format!("{pid} {line}")).collect()),
        ("mounts", mounts),
        ("namespaces", namespaces),
        ("cgroups", cgroups(lab)),
    ]);
    for node in NODES {
        let dir = lab.root().join("nodes").join(node);
        let ip = |what: &str| {
            let net = format!("--net={}", dir.join("net").display());
            let output = Command::new("nsenter").args([net.as_str(), "ip", "-o", what]).output().unwrap();
            assert!(output.status.success(), "{}", lab::text(&output.stderr));
            let text = lab::text(&output.stdout);
            // Without the numbers that change by themselves, as lifetimes do.
            text.lines()
                .map(|line| {
                    format!("{node} {}", line.split_whitespace().take(4).collect::<Vec<_>>().join(" "))
                })
                .collect::<Vec<_>>()
        };
        found.entry("links").or_default().extend(ip("link"));
        found.entry("routes").or_default().extend(ip("route"));
        for below in ["flatnet/attachments", "cni/cache/results"] {
            let files = fs::read_dir(dir.join(below)).into_iter().flatten().flatten();
            found.entry("addresses").or_default().extend(files.map(|file| file.path().display().to_string()));
        }
    }
    found
}

/// The cgroups of pods, in every hierarchy. The pods' own is named after the root directory, whose hash only the
/// program knows: they are told apart by the pods' unique ids, which are kept when pods are first seen.
fn cgroups(lab: &Lab) -> BTreeSet<String> {
    let uids = fs::read_to_string(lab.path().join("uids")).unwrap_or_default();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let roots = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]).flat_map(|at| folders(&at));
    let labs = roots.filter(|root| root.contains("/flatpod-"));
    let of_pods = labs.flat_map(|at| folders(Path::new(&at))).flat_map(|at| folders(Path::new(&at)));
    of_pods.filter(|path| uids.lines().any(|uid| path.ends_with(uid))).collect()
}

fn folders(at: &Path) -> Vec<String> {
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path().display().to_string()).collect()
}

fn print(when: &str, census: &Census) {
    let counts: Vec<_> = census.iter().map(|(kind, all)| format!("{kind} {}", all.len())).collect();
    println!("{when:<24} {}", counts.join(", "));
}

/// Deletes all pods; everything is then as it was.
fn nothing_is_left(lab: &Lab, before: &Census) {
    let names = names();
    let args: Vec<&str> = ["delete", "pod"].into_iter().chain(names.iter().map(String::as_str)).collect();
    lab.ok(&args);
    // The kernel takes links and namespaces away after those who asked for it have their answer.
    let gone = wait_until("everything to go", SOON, || (census(lab) == *before).then_some(()));
    let after = census(lab);
    print("deleted:", &after);
    let left = |kind: &&&str| after[**kind] != before[**kind];
    let left: Vec<_> = before.keys().filter(|kind| left(kind)).map(|kind| (kind, &after[kind])).collect();
    assert!(gone.is_ok(), "left, or lost: {left:#?}");
}

#[test]
fn fifty_pods_at_once_run_everywhere_and_leave_nothing() {
    let lab = cluster();
    let before = census(&lab);
    print("before:", &before);
    lab.apply(&manifest());
    let running = wait_until("all to run", SOON * 3, || {
        let pods = pods(&lab);
        pods.iter().all(|pod| lab::condition(pod, "Ready")).then_some(pods)
    })
    .unwrap();
    let field = |pointer: &str| -> Vec<String> {
        running.iter().map(|pod| pod.pointer(pointer).and_then(Value::as_str).unwrap().to_owned()).collect()
    };
    fs::write(lab.path().join("uids"), field("/metadata/uid").join("\n")).unwrap();
    let addresses: BTreeSet<_> = field("/status/podIP").into_iter().collect();
    assert_eq!(addresses.len(), PODS, "an address each: {addresses:?}");
    let nodes = field("/spec/nodeName");
    for node in NODES {
        let count = nodes.iter().filter(|name| *name == node).count();
        assert!((16..=17).contains(&count), "{count} pods on {node}");
    }
    let during = census(&lab);
    print("fifty pods:", &during);
    for kind in ["processes", "mounts", "namespaces", "cgroups", "links", "addresses"] {
        assert!(during[kind].len() >= before[kind].len() + PODS, "{kind} can be seen");
    }
    nothing_is_left(&lab, &before);
}

#[test]
fn fifty_pods_whose_keepers_are_killed_leave_nothing() {
    let lab = cluster();
    let before = census(&lab);
    print("before:", &before);
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| lab.apply(&manifest()));
        let mut dice = 7_usize;
        let mut killed = 0;
        let is_keeper = |line: &str| line.contains("supervise") || line.contains(" shim ");
        while killed < PODS {
            let keepers: Vec<_> = lab.processes().into_iter().filter(|(_, line)| is_keeper(line)).collect();
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if let Some((pid, _)) = keepers.get((dice >> 33) % keepers.len().max(1)) {
                // It may have ended meanwhile.
                killed += usize::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
            }
        }
        println!("{killed} supervisors and shims killed");
        applied.join().unwrap();
    });
    let uids: Vec<String> =
        pods(&lab).iter().filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect();
    assert_eq!(uids.len(), PODS);
    fs::write(lab.path().join("uids"), uids.join("\n")).unwrap();
    nothing_is_left(&lab, &before);
}
