//! The files in `examples/`, applied as they are: what their comments promise is what is seen.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lab::{Lab, SOON, bin_dir, condition, json_file, ns, status, text};
use netns_fixtures::{KillOnDrop, wait_until};
use nix::libc::EADDRINUSE;
use serde_json::Value;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// The names of the files, without their ending.
fn names() -> BTreeSet<String> {
    let all = fs::read_dir(dir()).expect("examples").flatten().map(|entry| entry.path());
    let yaml = all.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    yaml.map(|path| path.file_stem().expect("a name").to_str().expect("a name").to_owned()).collect()
}

fn file(name: &str) -> String {
    dir().join(format!("{name}.yaml")).to_str().expect("a path").to_owned()
}

/// A machine with one node on which the example is applied.
fn applied(name: &str) -> Lab {
    let lab = Lab::new();
    lab.ok(&["apply", "-f", &file(name)]);
    lab
}

/// The commands that the comment of an example tells to try.
fn commands(name: &str) -> String {
    let text = fs::read_to_string(file(name)).expect("an example");
    let comment = text.lines().take_while(|line| line.starts_with('#'));
    let told: Vec<&str> = comment.filter_map(|line| line.strip_prefix("#   ")).collect();
    assert!(!told.is_empty(), "{name} tells nothing to try");
    told.join("\n")
}

/// What a reader's shell makes of these commands.
fn shell(lab: &Lab, commands: &str) -> Output {
    let path = format!("{}:{}", bin_dir().display(), env::var("PATH").expect("a PATH"));
    let mut shell = Command::new("sh");
    shell.args(["-c", commands]).env("PATH", path).env("FLATPOD_ROOT", lab.root()).stdin(Stdio::null());
    shell.output().expect("sh runs")
}

#[test]
fn every_file_is_valid_tested_and_in_the_table() {
    let tests = include_str!("examples.rs");
    let table = fs::read_to_string(dir().join("README.md")).expect("a table");
    assert!(!names().is_empty());
    for name in names() {
        let mut flatpod = Command::new(env!("CARGO_BIN_EXE_flatpod"));
        let output = flatpod.args(["apply", "--dry-run", "-f", &file(&name)]).output().expect("flatpod runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains("valid (dry run)"), "{name}");
        assert!(
            tests.contains(&format!("#[test]\nfn {}() {{", name.replace('-', "_"))),
            "{name} has no test"
        );
        assert!(table.contains(&format!("[{name}.yaml]({name}.yaml)")), "{name} is not in the table");
        let manifest = fs::read_to_string(file(&name)).expect("an example");
        let images = manifest.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        assert!(images.clone().count() > 0 && images.clone().all(|image| image.starts_with("builtin/")));
    }
}

#[test]
fn web_and_content() {
    let lab = applied("web-and-content");
    lab.wait_ready("web-and-content");
    let page = || shell(&lab, &commands("web-and-content")).stdout;
    let first = page();
    assert!(!first.is_empty());
    let changed = wait_until("another page", SOON, || (page() != first).then_some(()));
    changed.expect("the sidecar writes another page");
    let pod = lab.get("web-and-content");
    assert_eq!(status(&pod, "server")["restartCount"], 0);
    let pids = ["server", "content"].map(|container| lab.pid("web-and-content", container));
    assert_ne!(ns(pids[0], "mnt"), ns(pids[1], "mnt"), "two containers, each with files of its own");
    // Nothing but the volume is served.
    let out = ["get", "http://127.0.0.1/../etc/passwd"];
    assert_eq!(lab.exec_code("web-and-content", "server", &out), Some(1));
}

#[test]
fn log_tailer() {
    let lab = applied("log-tailer");
    lab.wait_ready("log-tailer");
    let told = lab.path().join("told");
    let mut follow = lab.command(&["logs", "log-tailer", "-c", "tailer", "-f"]);
    let follow = follow.stdout(fs::File::create(&told).expect("a file")).spawn().expect("flatpod runs");
    let _follow = KillOnDrop::new(follow);
    let lines = wait_until("the third line", SOON, || {
        let lines = fs::read_to_string(&told).expect("a file");
        lines.contains("line 3\n").then_some(lines)
    });
    assert!(lines.expect("the third line").starts_with("line 1\nline 2\nline 3\n"), "none is missed");
    assert_eq!(lab.logs("log-tailer", "app"), "");
}

#[test]
fn localhost_proxy() {
    let lab = applied("localhost-proxy");
    lab.wait_ready("asker");
    lab.wait_ready("localhost-proxy");
    let output = shell(&lab, &commands("localhost-proxy"));
    let (told, refused) = (text(&output.stdout), text(&output.stderr));
    assert!(told.starts_with("127.0.0.1:") && told.lines().count() == 1, "{told}");
    assert!(refused.contains(":8080: Connection refused"), "{refused}");
    // What is asked for by the server's containers is not what the other pod finds at its own localhost.
    let own = ["connect", "127.0.0.1:8080"];
    assert_eq!(lab.exec_code("localhost-proxy", "proxy", &own), Some(0));
    assert_eq!(lab.exec_code("asker", "asker", &own), Some(1));
}

#[test]
fn port_conflict() {
    let lab = applied("port-conflict");
    let code = |pod: &Value| {
        let second = status(pod, "second");
        let ends = [&second["state"], &second["lastState"]];
        ends.into_iter().find_map(|end| end["terminated"]["exitCode"].as_i64())
    };
    let pod = lab.wait("port-conflict", "an exit code", |pod| code(pod).is_some());
    assert_eq!(code(&pod), Some(i64::from(EADDRINUSE)));
    let described = lab.ok(&["describe", "pod", "port-conflict"]);
    let code = format!("Exit Code: {EADDRINUSE}");
    assert!(described.split_whitespace().collect::<Vec<_>>().join(" ").contains(&code), "{described}");
    let complaint = wait_until("the second to complain", SOON, || {
        let told = text(&lab.flatpod(&["logs", "port-conflict", "-c", "second"]).stdout);
        told.starts_with("bind 80: Address already in use").then_some(())
    });
    complaint.expect("it says which port, and why");
    lab.wait_ready("port-neighbour");
    wait_until("the neighbour to listen", SOON, || {
        (lab.logs("port-neighbour", "only") == "listening on 80\n").then_some(())
    })
    .expect("the neighbour listens");
    assert_eq!(status(&lab.get("port-conflict"), "first")["restartCount"], 0, "the first one has the port");
    for (pod, container) in [("port-conflict", "first"), ("port-neighbour", "only")] {
        assert_eq!(lab.get(pod)["spec"]["nodeName"], "n1");
        assert_eq!(lab.exec_code(pod, container, &["connect", "127.0.0.1:80"]), Some(0), "{pod}");
    }
}

#[test]
fn init_chain() {
    let lab = applied("init-chain");
    let over = lab.wait_phase("init-chain", "Succeeded");
    assert_eq!(lab.logs("init-chain", "app"), "seed\nsprout\nflower\n");
    let attempts = ["seed", "sprout", "flower", "app"].map(|container| {
        let dir = lab.pod_dir("init-chain").join("ctr").join(container);
        assert_eq!(status(&over, container)["state"]["terminated"]["exitCode"], 0, "{container}");
        json_file(&dir.join("record.json"))["attempt"].clone()
    });
    assert_eq!(attempts.map(|attempt| attempt.as_u64()), [Some(0); 4], "each has run once");
}

#[test]
fn three_nodes() {
    let lab = Lab::bare();
    lab.ok(&["up", "--nodes", "3", "--bin-dir", bin_dir().to_str().expect("a path")]);
    lab.ok(&["apply", "-f", &file("three-nodes")]);
    let ready = |app: &str| -> Vec<Value> {
        let found = wait_until(&format!("three {app}s"), SOON, || {
            let list = lab.ok(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"]);
            let list: Value = serde_json::from_str(&list).expect("JSON");
            let pods = list["items"].as_array().expect("a list").clone();
            (pods.len() == 3 && pods.iter().all(|pod| condition(pod, "Ready"))).then_some(pods)
        });
        found.unwrap_or_else(|timeout| panic!("{timeout}\n{}", lab.ok(&["get", "all"])))
    };
    let (servers, clients) = (ready("server"), ready("client"));
    for pods in [&servers, &clients] {
        let nodes: BTreeSet<_> = pods.iter().map(|pod| pod["spec"]["nodeName"].as_str()).collect();
        assert_eq!(nodes, ["n1", "n2", "n3"].map(Some).into(), "one on each node");
    }
    let mut expected = BTreeSet::new();
    for client in &clients {
        let (name, own) = (&client["metadata"]["name"], &client["status"]["podIP"]);
        let (name, own) = (name.as_str().expect("a name"), own.as_str().expect("an address"));
        for server in &servers {
            let server = server["metadata"]["name"].as_str().expect("a name");
            expected.insert(format!("{name} ({own}) asks {server}: {own}"));
        }
    }
    let commands = commands("three-nodes");
    // The first packet between two nodes may be before the agents know both.
    let told = wait_until("nine answers", SOON, || {
        let output = shell(&lab, &commands);
        let told = text(&output.stdout);
        let lines = told.lines().map(|line| line.rsplit_once(':').map_or(line, |(asker, _port)| asker));
        (lines.map(str::to_owned).collect::<BTreeSet<_>>() == expected).then_some(())
    });
    told.unwrap_or_else(|timeout| panic!("{timeout}: {}", text(&shell(&lab, &commands).stdout)));
}
