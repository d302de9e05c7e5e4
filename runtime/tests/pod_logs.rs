//! Logs that are rotated while they are written and read.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

use jiff::Timestamp;
use lab::{Lab, SOON, status, text};
use netns_fixtures::{KillOnDrop, wait_until};

/// A lab whose node keeps this much of logs.
fn lab(size: &str, files: &str) -> Lab {
    let lab = Lab::bare();
    lab.node_with(
        "n1",
        lab::FLATNET,
        &["--container-log-max-size", size, "--container-log-max-files", files],
    );
    lab
}

fn pod(command: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0, restartPolicy: Never,
           volumes: [{{name: v, emptyDir: {{}}}}],
           containers: [{{name: c, image: 'busybox:v1', command: [sh, -c, '{command}'],
             volumeMounts: [{{name: v, mountPath: /v}}]}}]}}}}"
    )
}

/// The files of the first run's log, with their sizes.
fn files(lab: &Lab) -> Vec<(PathBuf, u64)> {
    let dir = std::fs::read_dir(lab.pod_dir("p").join("logs/c")).expect("logs").flatten();
    dir.map(|entry| (entry.path(), entry.metadata().expect("a file").len())).collect()
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{line:?}"))).collect()
}

#[test]
fn followers_see_every_line_once_while_files_rotate() {
    let lab = lab("20k", "1000");
    lab.apply(&pod(
        "n=0; while test $n -lt 20000; do n=$((n+1)); echo $n; test $((n % 500)) = 0 && sleep 0.05; done; \
         while ! test -e /v/go; do sleep 0.1; done; echo 20001",
    ));
    lab.wait_ready("p");
    let follow = |more: &[&str]| {
        let mut command = lab.command(&[&["logs", "p", "-f"], more].concat());
        KillOnDrop::new(command.stdout(Stdio::piped()).spawn().expect("flatpod runs"))
    };
    let mut followers = [follow(&[]), follow(&["--tail", "3"]), follow(&[])];
    let reads: Vec<_> = followers
        .iter_mut()
        .map(|follower| {
            let out = BufReader::new(follower.child().stdout.take().unwrap());
            std::thread::spawn(move || -> Vec<u32> {
                out.lines().map(|line| line.unwrap().parse().unwrap()).collect()
            })
        })
        .collect();
    lab.wait("p", "all is written", |_| lab.logs("p", "c").ends_with("\n20000\n"));
    assert!(files(&lab).len() > 20, "{:?}", files(&lab));
    std::fs::write(lab.pod_dir("p").join("volumes/v/go"), "").unwrap();
    for (at, read) in reads.into_iter().enumerate() {
        let seen = read.join().unwrap();
        assert_eq!(seen.last(), Some(&20_001), "follower {at}");
        assert!(seen.windows(2).all(|two| two[0] + 1 == two[1]), "follower {at}");
        assert!(at == 1 || seen[0] == 1, "follower {at} begins with {}", seen[0]);
    }
    lab.wait_phase("p", "Succeeded");
    assert_eq!(numbers(&lab.logs("p", "c")), (1..=20_001).collect::<Vec<_>>());
}

#[test]
fn the_newest_files_are_kept_and_the_last_lines_are_found_in_them() {
    let lab = lab("4k", "3");
    lab.apply(&pod(
        "busybox seq 5000; busybox head -c 30000 /dev/zero | busybox tr \"\\\\0\" x; echo; exit 3",
    ));
    lab.wait_phase("p", "Failed");
    let found = files(&lab);
    assert_eq!(found.len(), 3, "{found:?}");
    // A piece of a line is longer than a file may be.
    assert!(found.iter().all(|(_, size)| *size <= 17 * 1024), "{found:?}");
    let tail = lab.ok(&["logs", "p", "--tail", "1"]);
    assert!(tail.ends_with('\n') && tail.trim_end().chars().all(|c| c == 'x'), "{tail:?}");
    lab.ok(&["delete", "p"]);
    lab.apply(
        &pod("busybox seq 5000")
            .replace("command:", "terminationMessagePolicy: FallbackToLogsOnError, command:"),
    );
    let after = lab.wait_phase("p", "Succeeded");
    assert!(status(&after, "c")["state"]["terminated"]["message"].is_null());
    let (all, tail) = (numbers(&lab.logs("p", "c")), numbers(&lab.ok(&["logs", "p", "--tail", "120"])));
    assert!(files(&lab).iter().all(|(_, size)| *size <= 4000), "{:?}", files(&lab));
    assert_eq!(tail, (4881..=5000).collect::<Vec<_>>());
    assert!(all.len() > 120 && all.ends_with(&tail) && all.windows(2).all(|two| two[0] + 1 == two[1]));
    assert!(all.len() < 500, "{}", all.len());
}

#[test]
fn last_words_are_found_across_files() {
    let lab = lab("1k", "5");
    lab.apply(
        &pod("busybox seq 1 200; exit 4")
            .replace("command:", "terminationMessagePolicy: FallbackToLogsOnError, command:"),
    );
    let after = lab.wait_phase("p", "Failed");
    let message = status(&after, "c")["state"]["terminated"]["message"].as_str().unwrap().to_owned();
    let seen = numbers(&message);
    assert!(seen.len() > 40 && seen.ends_with(&[199, 200]), "{message:?}");
}

#[test]
fn the_logs_of_runs_that_are_forgotten_go_whole() {
    let lab = lab("1k", "5");
    lab.apply(&pod("busybox seq 1 100; exit 1").replace("restartPolicy: Never", "restartPolicy: Always"));
    lab.wait("p", "three restarts", |pod| status(pod, "c")["restartCount"].as_i64() >= Some(3));
    let left = || {
        files(&lab).iter().any(|(file, _)| file.file_name().unwrap().to_str().unwrap().starts_with("0.log"))
    };
    wait_until("the first run's log to go", SOON, || (!left()).then_some(())).unwrap();
    assert!(lab.ok(&["logs", "p", "--previous"]).ends_with("\n100\n"));
}

const TWO: &str = "{apiVersion: v1, kind: Pod, metadata: {name: NAME, labels: {app: two}}, spec: {
    terminationGracePeriodSeconds: 0, restartPolicy: Never,
    initContainers: [{name: first, image: 'busybox:v1', command: [echo, ready]}],
    containers: [
      {name: a, image: 'busybox:v1', command: [sh, -c, 'SAY a']},
      {name: b, image: 'busybox:v1', command: [sh, -c, 'SAY b']}]}}";

#[test]
fn both_streams_are_printed_to_stdout_in_their_order() {
    let lab = Lab::new();
    lab.apply(&pod("echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three"));
    lab.wait_phase("p", "Succeeded");
    for more in [&[][..], &["-f"], &["--tail", "3"]] {
        let output = lab.flatpod(&[&["logs", "p"], more].concat());
        assert_eq!(text(&output.stdout), "one\ntwo\nthree\n", "{more:?}");
        assert_eq!(text(&output.stderr), "", "{more:?}");
    }
}

#[test]
fn old_lines_and_bytes_too_many_are_left_out() {
    let lab = Lab::new();
    lab.apply(&pod("echo old; sleep 3; echo new; echo newer"));
    lab.wait_phase("p", "Succeeded");
    let stamped = lab.ok(&["logs", "p", "--timestamps"]);
    let times: Vec<_> = stamped.lines().map(|line| line.split_once(' ').expect("a time").0).collect();
    let logs = |more: &[&str]| lab.ok(&[&["logs", "p"], more].concat());
    assert_eq!(logs(&["--since-time", times[1]]), "new\nnewer\n");
    assert_eq!(logs(&["--since-time", times[0]]), "old\nnew\nnewer\n");
    let written: Timestamp = times[1].parse().expect("a time");
    let age = Timestamp::now().duration_since(written).as_secs() + 2;
    assert_eq!(logs(&["--since", &format!("{age}s")]), "new\nnewer\n");
    assert_eq!(logs(&["--since", "5m"]), "old\nnew\nnewer\n");
    assert_eq!(logs(&["--limit-bytes", "6"]), "old\nne");
    assert_eq!((logs(&["--tail", "1"]), logs(&["--tail", "-1"])), ("newer\n".into(), logs(&[])));
    for wrong in [&["--since", "soon"][..], &["--since", "5m", "--since-time", times[0]], &["-l", "a=b"]] {
        assert_eq!(lab.flatpod(&[&["logs", "p"], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}

/// Two containers write lines longer than what is read at once, at the same time.
#[test]
fn containers_that_are_followed_together_interleave_whole_lines() {
    let lab = Lab::new();
    let say = "n=0; while test $n -lt 100; do n=$((n+1)); sleep 0.02; \
               echo $n $(busybox head -c 40000 /dev/zero | busybox tr \"\\\\0\" $0); done";
    let say = |name: &str| say.replace("$0", name);
    let manifest = TWO.replace("NAME", "p").replace("SAY a", &say("a")).replace("SAY b", &say("b"));
    lab.apply(&manifest);
    lab.wait("p", "both have begun", |pod| {
        ["a", "b"].iter().all(|name| {
            ["running", "terminated"].iter().any(|state| status(pod, name)["state"][state].is_object())
        })
    });
    let told = lab.ok(&["logs", "p", "--all-containers", "--prefix", "-f"]);
    assert!(told.starts_with("[pod/p/first] ready\n"), "{:.99}", told);
    for name in ["a", "b"] {
        let prefix = format!("[pod/p/{name}] ");
        let lines: Vec<_> = told.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        let whole = (1..=100).map(|n| format!("{n} {}", name.repeat(40_000)));
        assert!(lines.into_iter().eq(whole), "every line of {name} once, whole, in order");
    }
    assert_eq!(told.lines().count(), 201);
}

#[test]
fn the_logs_of_pods_are_selected_by_labels() {
    let lab = Lab::new();
    let say = |manifest: String| manifest.replace("SAY", "busybox seq 20; echo");
    for name in ["p", "q"] {
        lab.apply(&say(TWO.replace("NAME", name)));
    }
    lab.apply(&say(TWO.replace("NAME", "r")).replace("app: two", "app: other"));
    for name in ["p", "q", "r"] {
        lab.wait_phase(name, "Succeeded");
    }
    let told = lab.ok(&["logs", "-l", "app=two", "--prefix"]);
    let ten = |pod: &str| {
        (12..=20)
            .map(|n| n.to_string())
            .chain(["a".into()])
            .map(move |line| format!("[pod/{pod}/a] {line}\n"))
            .collect::<String>()
    };
    assert_eq!(told, ten("p") + &ten("q"), "the last ten lines of the first container of each");
    let all = lab.ok(&["logs", "-l", "app=two", "--all-containers", "--tail=-1"]);
    assert_eq!(all.lines().count(), 2 * (1 + 2 * 21));
    let named = lab.ok(&["logs", "-l", "app=two", "-c", "b", "--tail=1", "--prefix"]);
    assert_eq!(named, "[pod/p/b] b\n[pod/q/b] b\n");
    let none = lab.flatpod(&["logs", "-l", "app=none"]);
    assert_eq!((text(&none.stdout).as_str(), none.status.code()), ("", Some(0)));
    assert!(text(&none.stderr).contains("No pods with these labels"));
}
