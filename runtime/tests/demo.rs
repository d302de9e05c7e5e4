//! `flatpod demo` as a user runs it: it is green, it notices what is wrong, it leaves nothing behind.
//!
//! Needs `flatnet` and `flatnetd` built beside `flatpod`: `cargo build --release`.

#![expect(clippy::disallowed_methods, reason = "the subject is a program")]

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use netns_fixtures::{KillOnDrop, gate, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// For the kernel to end an enclosure whose outer process is gone.
const SOON: Duration = Duration::from_secs(20);

fn flatpod(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatpod"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_green(output: &Output) {
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}\n{told}");
}

/// Mounts and links of the machine of the kinds that a demonstration makes: others come and go.
fn surroundings() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let ours = |line: &&str| {
        let at = line.split(' ').nth(1).unwrap_or_default();
        at == "/proc" || at == "/run" || at.starts_with("/run/flatpod")
    };
    let mounts = mounts.lines().filter(ours).map(str::to_owned);
    let links = nix::net::if_::if_nameindex().expect("links");
    let links = links.iter().map(|link| link.name().to_string_lossy().into_owned());
    let made = |name: &String| ["flat", "fn", "seg", "port"].iter().any(|p| name.starts_with(p));
    mounts.chain(links.filter(made)).collect()
}

#[test]
fn it_is_green_and_leaves_nothing() {
    gate::require();
    let before = surroundings();
    for args in [&["demo", "--backend", "vxlan"], &["demo", "--backend", "direct"]] {
        let output = flatpod(args).output().expect("flatpod runs");
        assert_green(&output);
        assert!(!text(&output.stdout).contains('\x1b'), "no colour into a pipe");
    }
    assert_eq!(surroundings(), before);
}

#[test]
fn its_json_carries_the_same_claims() {
    gate::require();
    let output = flatpod(&["demo", "--output", "json"]).output().expect("flatpod runs");
    assert_green(&output);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(report["failures"], json!([]));
    let sections = report["sections"].as_array().expect("sections");
    let rows = |at: usize| sections[at]["rows"].as_array().expect("a table's rows");
    for family in [0, 1] {
        assert_eq!(rows(family).len(), 30, "six pods, each to five others");
        let seen = |row: &Value| row["evidence"].as_str().is_some_and(|seen| seen.starts_with("TCP from "));
        assert!(rows(family).iter().all(|row| row["ok"] == true && seen(row)), "{:#?}", rows(family));
    }
    assert_eq!(rows(2).len(), 9, "three clients, each asks three servers");
    let nothing = sections.last().expect("a last section")["rows"].as_array().expect("rows");
    for what in ["other processes", "mounts", "cgroups"] {
        assert!(
            nothing.iter().any(|row| row["subject"] == what && row["evidence"].as_str() == Some("0")),
            "{what}"
        );
    }
}

#[test]
fn a_masquerading_node_turns_it_red() {
    gate::require();
    let rules = "table inet control { chain post { type nat hook postrouting priority srcnat - 10; \
                 oifname { \"eth0\", \"flat.1\" } masquerade; }; }";
    let dir = wrapped_agent(&format!("echo '{rules}' | nft -f - || exit 9"));
    let bin_dir = dir.path().to_str().expect("a temporary directory's name");
    let output = flatpod(&["demo", "--bin-dir", bin_dir]).output().expect("flatpod runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(" is seen as 192.0.2."), "{}", text(&output.stdout));
}

#[test]
fn an_agent_that_ends_is_named_with_its_last_words() {
    gate::require();
    let dir = wrapped_agent("echo no such luck; exit 3");
    let bin_dir = dir.path().to_str().expect("a temporary directory's name");
    let output = flatpod(&["demo", "--bin-dir", bin_dir]).output().expect("flatpod runs");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("flatnetd of n1") && told.contains("no such luck"), "{told}");
}

#[test]
fn wrong_usage_is_status_2_and_impossible_wishes_say_why() {
    let wrong = flatpod(&["demo", "--backend", "carrier-pigeon"]).output().expect("flatpod runs");
    assert_eq!(wrong.status.code(), Some(2));
    let args = ["demo", "--backend", "direct", "--underlay", "ipv4"];
    let impossible = flatpod(&args).output().expect("flatpod runs");
    assert_eq!(impossible.status.code(), Some(2));
    assert!(text(&impossible.stderr).contains("--underlay ipv6"));
    let root = tempfile::tempdir().expect("a temporary directory");
    for (line, told) in [
        (["up", "--nodes", "2", "--far", "3", "--backend", "auto"], "--far 3: there are 2 nodes"),
        (["up", "--nodes", "2", "--far", "1", "--backend", "direct"], "use another backend"),
    ] {
        let impossible = flatpod(&line).env("FLATPOD_ROOT", root.path()).output().expect("flatpod runs");
        assert_eq!(impossible.status.code(), Some(2));
        assert!(text(&impossible.stderr).contains(told), "{}", text(&impossible.stderr));
    }
}

#[test]
fn it_leaves_nothing_when_interrupted_or_killed_at_any_moment() {
    gate::require();
    let before = surroundings();
    let signals = [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)];
    for (signal, code) in signals {
        for after_ms in [0, 20, 60, 150, 300, 600, 1400, 4000] {
            let outer = flatpod(&["demo"]).stdout(Stdio::null()).spawn().expect("flatpod runs");
            let mut outer = KillOnDrop::new(outer);
            let inside =
                wait_until("PID 1 of the enclosure", SOON, || enclosure(outer.id())).expect("an enclosure");
            // Not a wait for a condition: the point is to strike at different moments.
            let strike = Instant::now() + Duration::from_millis(after_ms);
            let moment = || (Instant::now() >= strike).then_some(());
            wait_until("the moment", SOON, moment).expect("time passes");
            let pid = Pid::from_raw(i32::try_from(outer.id()).expect("a pid"));
            kill(pid, signal).expect("a running demonstration");
            let status = outer.child().wait().expect("an end");
            assert_eq!(status.code(), code, "{signal} after {after_ms} ms: {status}");
            assert_eq!(status.signal().is_some(), code.is_none());
            let gone = || members(inside).is_empty().then_some(());
            wait_until("the enclosure's processes to be gone", SOON, gone).expect("all gone");
            let gone = || cgroups(outer.id()).is_empty().then_some(());
            let left = wait_until("its cgroups to be gone", SOON, gone);
            left.unwrap_or_else(|e| panic!("{signal} after {after_ms} ms: {e}: {:?}", cgroups(outer.id())));
        }
    }
    assert_eq!(surroundings(), before);
    assert_green(&flatpod(&["demo"]).output().expect("flatpod runs"));
}

/// The PID namespace of the enclosure's PID 1, once there is one.
fn enclosure(outer: u32) -> Option<u64> {
    let namespace =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|meta| meta.ino());
    let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
    let own = namespace("self");
    children.split_whitespace().map(namespace).find(|inside| *inside != own).flatten()
}

/// The cgroups of a demonstration, in all hierarchies.
fn cgroups(outer: u32) -> Vec<PathBuf> {
    let name =
        format!("flatpod-{:08x}", flatpod::letters::hash(format!("/run/flatpod-demo-{outer}").as_bytes()));
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
    let all = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
    all.map(|hierarchy| hierarchy.join(&name)).filter(|dir| dir.exists()).collect()
}

/// The processes in a PID namespace, but for zombies: an orphan's is the machine's init's to reap.
fn members(namespace: u64) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let is_in = |process: &PathBuf| {
        fs::metadata(process.join("ns/pid")).is_ok_and(|meta| meta.ino() == namespace)
            && fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty())
    };
    processes.filter(is_in).collect()
}

/// A directory with the real plugin and an agent that does `first` before it becomes the real one.
fn wrapped_agent(first: &str) -> tempfile::TempDir {
    let real = Path::new(env!("CARGO_BIN_EXE_flatpod")).parent().expect("a directory");
    let dir = tempfile::tempdir().expect("a temporary directory");
    symlink(real.join("flatnet"), dir.path().join("flatnet")).expect("a link");
    let script = format!("#!/bin/sh\n{first}\nexec {}/flatnetd \"$@\"\n", real.display());
    let agent = dir.path().join("flatnetd");
    fs::write(&agent, script).expect("a script");
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("an executable script");
    dir
}
