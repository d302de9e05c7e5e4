//! Attaching to containers: their input, their output, their terminals.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;
mod terminal;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::AsFd,
    process::{Child, Stdio},
};

use lab::{Lab, SOON, status, text};
use netns_fixtures::{KillOnDrop, wait_until};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use terminal::Terminal;

fn pod(command: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0, restartPolicy: Never,
           containers: [{{name: c, image: 'busybox:v1', command: [sh, -c, '{command}'], {more}}}]}}}}"
    )
}

fn attach(lab: &Lab, more: &[&str]) -> Child {
    let mut command = lab.command(&[&["attach", "p", "-q"], more].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("flatpod runs")
}

/// Whether there is something to read, now or soon.
fn has_something(from: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, 50_u16).expect("poll") > 0
}

fn line_of(from: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    line
}

#[test]
fn who_attaches_writes_and_all_read() {
    let lab = Lab::new();
    lab.apply(&pod("while read l; do echo got $l; done; echo end", "stdin: true"));
    lab.wait_ready("p");
    let (mut looker, mut writer) = (attach(&lab, &[]), attach(&lab, &["-i"]));
    let mut input = writer.stdin.take().unwrap();
    let mut looks = BufReader::new(looker.stdout.take().unwrap());
    let mut reads = BufReader::new(writer.stdout.take().unwrap());
    // Whether the one who only looks has come already is seen by what it sees.
    let mut number = 0;
    let came = wait_until("both to be attached", SOON, || {
        number += 1;
        writeln!(input, "{number}").unwrap();
        assert_eq!(line_of(&mut reads), format!("got {number}\n"));
        let mut fds =
            [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(looks.get_ref()), nix::poll::PollFlags::POLLIN)];
        (nix::poll::poll(&mut fds, 50_u16).unwrap() > 0).then_some(())
    });
    came.unwrap();
    let first = line_of(&mut looks);
    assert!(first.starts_with("got "), "{first}");
    // Leaving changes nothing for the others, nor for the container.
    kill(Pid::from_raw(i32::try_from(looker.id()).unwrap()), Signal::SIGKILL).unwrap();
    looker.wait().unwrap();
    writeln!(input, "after").unwrap();
    assert_eq!(line_of(&mut reads), "got after\n");
    drop(input);
    kill(Pid::from_raw(i32::try_from(writer.id()).unwrap()), Signal::SIGKILL).unwrap();
    writer.wait().unwrap();
    let pid = lab.pid("p", "c");
    let mut again = attach(&lab, &["-i"]);
    let mut input = again.stdin.take().unwrap();
    writeln!(input, "again").unwrap();
    assert_eq!(line_of(&mut BufReader::new(again.stdout.take().unwrap())), "got again\n");
    assert_eq!(lab.pid("p", "c"), pid);
    kill(Pid::from_raw(i32::try_from(again.id()).unwrap()), Signal::SIGKILL).unwrap();
    again.wait().unwrap();
    let log = lab.logs("p", "c");
    assert!(log.starts_with("got 1\n") && log.ends_with("got after\ngot again\n"), "{log}");
}

#[test]
fn input_that_is_read_once_ends_with_its_first_writer() {
    let lab = Lab::new();
    lab.apply(&pod("cat; echo end >&2; exit 5", "stdin: true, stdinOnce: true"));
    lab.wait_ready("p");
    let mut writer = attach(&lab, &["-i"]);
    // More than fits into the pipes on the way.
    let much = "0123456789abcdef\n".repeat(40_000);
    let mut input = writer.stdin.take().unwrap();
    let sent = much.clone();
    let sender = std::thread::spawn(move || input.write_all(sent.as_bytes()).unwrap());
    let output = writer.wait_with_output().unwrap();
    sender.join().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout) == much, "{} bytes of {}", output.stdout.len(), much.len());
    assert_eq!(text(&output.stderr), "end\n");
    let after = lab.wait_phase("p", "Failed");
    assert_eq!(status(&after, "c")["state"]["terminated"]["exitCode"], 5);
    assert!(lab.logs("p", "c") == much + "end\n", "the log has the same, and what went to stderr");
    let late = lab.flatpod(&["attach", "p"]);
    assert!(text(&late.stderr).contains("completed pod; current phase is Failed"), "{}", text(&late.stderr));
}

#[test]
fn a_terminal_is_led_through_and_left_as_it_is() {
    let lab = Lab::new();
    lab.apply(&pod("exec sh -i", "stdin: true, tty: true"));
    lab.wait_ready("p");
    let pid = lab.pid("p", "c");
    let mut screen = Terminal::start(&lab, &["attach", "-it", "p"], 33, 77);
    screen.ask("test -t 0 && test -t 1 && echo with\"\"terminal", "withterminal");
    screen.ask("busybox stty size", "33 77");
    screen.resize(40, 111);
    screen.ask("busybox stty size", "40 111");
    // Ctrl-C is the container's.
    screen.enter("sleep 1000\r");
    wait_until("the command to have the terminal", SOON, || has_a_job(pid).then_some(())).expect("a job");
    screen.ask("\x03echo still\"\"here", "stillhere");
    screen.enter("\x10\x11");
    screen.until("Session ended, resume using 'flatpod attach p -c c -n default -i -t'");
    assert_eq!(screen.end(), Some(0));
    assert_eq!(lab.pid("p", "c"), pid);
    let mut again = Terminal::start(&lab, &["attach", "-it", "p"], 20, 60);
    again.ask("echo back\"\"again", "backagain");
    again.enter("exit 4\r");
    assert_eq!(again.end(), Some(4));
    assert!(lab.logs("p", "c").contains("stillhere"), "{}", lab.logs("p", "c"));
}

/// Whether a child of this shell is what the keys of its terminal are for (proc(5): process group 5, that of the
/// terminal 8).
fn has_a_job(shell: i32) -> bool {
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
    let mut children = children.split_whitespace();
    children.any(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(2).is_some() && fields.get(2) == fields.get(5)
    })
}

#[test]
fn exec_tells_of_the_size_of_the_terminal() {
    let lab = Lab::new();
    lab.apply(&pod("sleep 1000", "tty: false"));
    lab.wait_ready("p");
    let mut screen = Terminal::start(&lab, &["exec", "-it", "p", "--", "sh"], 31, 71);
    screen.ask("busybox stty size", "31 71");
    screen.resize(42, 112);
    screen.ask("busybox stty size", "42 112");
    screen.enter("exit 6\r");
    assert_eq!(screen.end(), Some(6));
}

#[test]
fn run_attaches_answers_the_exit_code_and_leaves_nothing() {
    let lab = Lab::new();
    let line =
        ["run", "q", "-it", "--rm", "--image", "busybox:v1", "--restart", "Never", "--command", "--", "sh"];
    let mut screen = Terminal::start(&lab, &line, 30, 70);
    screen.ask("busybox stty size", "30 70");
    screen.enter("exit 8\r");
    screen.until("pod \"q\" deleted");
    assert_eq!(screen.end(), Some(8));
    assert!(!lab.flatpod(&["get", "pod", "q"]).status.success());
    // Input by a pipe, and all output, also what came before anybody could attach.
    let line =
        ["run", "q", "-i", "--image", "busybox:v1", "--restart", "Never", "--command", "--", "sh", "-c"];
    let mut command = lab.command(&[&line[..], &["echo first; cat; exit 3"]].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"second\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("first\nsecond\n", Some(3)));
    lab.wait_phase("q", "Failed");
    let again = lab.flatpod(&["run", "q", "-i", "--image", "busybox:v1"]);
    assert!(text(&again.stderr).contains("already exists"), "{}", text(&again.stderr));
    // Ended by a signal, it still deletes what it made.
    let line = ["run", "r", "--attach", "--rm", "--image", "busybox:v1", "--command", "--", "sh", "-c"];
    let script = "trap \"exit 0\" TERM; echo up; while :; do sleep 0.1; done";
    let mut command = lab.command(&[&line[..], &[script]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut reads = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line_of(&mut reads), "up\n");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(line_of(&mut reads), "pod \"r\" deleted\n");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!lab.flatpod(&["get", "pod", "r"]).status.success());
    let wrong = lab.flatpod(&["run", "s", "--rm", "--image", "busybox:v1"]);
    assert!(text(&wrong.stderr).contains("--rm should only be used for attached"), "{}", text(&wrong.stderr));
}

/// Shims that say goodbye to who is attached are still waited for.
/// A pod is nobody's child: the terminal that it was run from may close, and who attached may be killed.
#[test]
fn a_pod_outlives_the_terminal_that_it_was_run_from() {
    let lab = Lab::new();
    let line = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done";
    let args = ["run", "p", "-it", "--image", "busybox:v1", "--command", "--", "sh", "-c", line];
    let mut screen = Terminal::start(&lab, &args, 24, 80);
    screen.until("line 3");
    let (pid, supervisor) = (lab.pid("p", "p"), lab.process(&["supervise"]).unwrap());
    drop(screen);
    let last = || {
        lab.logs("p", "p")
            .lines()
            .last()
            .and_then(|line| line.trim().strip_prefix("line ")?.parse::<u32>().ok())
    };
    let then = last().unwrap();
    wait_until("twenty lines more", SOON, || (last() >= Some(then + 20)).then_some(())).unwrap();
    assert_eq!((lab.pid("p", "p"), lab.process(&["supervise"])), (pid, Some(supervisor)));
    assert_eq!(status(&lab.get("p"), "p")["restartCount"], 0);
}

#[test]
fn a_supervisor_leaves_no_zombies() {
    let lab = Lab::new();
    lab.apply(&pod("exit 0", "stdin: true").replace("restartPolicy: Never", "restartPolicy: Always"));
    lab.wait("p", "three restarts", |pod| status(pod, "c")["restartCount"].as_i64() >= Some(3));
    let supervisor = lab.process(&["supervise"]).unwrap();
    let zombies = || -> Vec<String> {
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
        let children = children.unwrap_or_default();
        let stats = children
            .split_whitespace()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        stats.filter(|stat| stat.contains(") Z ")).collect()
    };
    // One that has just ended may be there for a moment, but not several, and not the same for long.
    let first = zombies();
    assert!(first.len() <= 1, "{first:?}");
    wait_until("the zombie to go", SOON, || (!first.iter().any(|old| zombies().contains(old))).then_some(()))
        .expect("no zombie stays");
}

#[test]
fn a_reader_who_stops_reading_stops_nobody_else() {
    let lab = Lab::new();
    let work = "busybox seq 400000; echo done > /dev/shm/done; read end";
    lab.apply(&pod(&format!("while read l; do test $l = go && break; echo $l; done; {work}"), "stdin: true"));
    lab.wait_ready("p");
    let (mut stalled, mut writer) = (KillOnDrop::new(attach(&lab, &[])), attach(&lab, &["-i"]));
    let mut input = writer.stdin.take().unwrap();
    let mut reads = BufReader::new(writer.stdout.take().unwrap());
    let mut out = stalled.child().stdout.take().unwrap();
    let came = wait_until("both to be attached", SOON, || {
        writeln!(input, "x").unwrap();
        assert_eq!(line_of(&mut reads), "x\n");
        has_something(&out).then_some(())
    });
    came.unwrap();
    writeln!(input, "go").unwrap();
    assert!(reads.lines().take(1000).map(Result::unwrap).eq((1..=1000).map(|n| n.to_string())));
    let done = || lab.pod_dir("p").join("shm/done").exists().then_some(());
    wait_until("the end of the output", SOON, done).expect("nobody waits for a reader");
    let whole =
        |log: &str| log.lines().skip_while(|line| *line == "x").eq((1..=400_000).map(|n| n.to_string()));
    wait_until("the whole log", SOON, || whole(&lab.logs("p", "c")).then_some(())).expect("nothing is lost");
    drop(writer);
    lab.ok(&["delete", "p"]);
    // What it did not read is missing, and said to be.
    let mut told = String::new();
    let reader = std::thread::spawn(move || out.read_to_end(&mut vec![]));
    stalled.child().stderr.take().unwrap().read_to_string(&mut told).unwrap();
    reader.join().unwrap().unwrap();
    assert!(told.contains("bytes are not shown here"), "{told:?}");
}
