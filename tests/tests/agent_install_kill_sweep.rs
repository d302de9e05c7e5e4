//! SIGKILL at every system call of `flatnetd install` and `uninstall`: a runtime that had a network keeps one,
//! with whole plugins, and the same command again finishes.

use std::fs;
use std::process::Stdio;

use flatnet_tests::kill_sweep::{calls, kill_at_each};
use flatnet_tests::site::Site;

const ONE: &[u8] = b"one version";
const TWO: &[u8] = b"another version";
const SUBNETS: [&str; 2] = ["--subnets", "10.22.0.0/24"];
const OURS: &str = "10-flatnet.conflist";
const OTHER: &str = "05-other.conflist";

/// Runs a verb under strace; what strace said, and whether the verb ended by itself.
fn strace(site: &Site, options: &[String], verb: &str, more: &[&str]) -> (String, bool) {
    let through: Vec<&str> =
        ["strace", "-f", "-qq"].into_iter().chain(options.iter().map(String::as_str)).collect();
    let mut command = site.command(&through, verb, more);
    let output = command.stdout(Stdio::null()).output().expect("run strace");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
}

/// Sweeps one verb. `before` makes the start; after each kill `judge` looks, the verb is repeated, and both
/// directories are as after a run that nobody killed.
fn sweep(site: &Site, verb: &str, more: &[&str], before: impl Fn(), judge: impl Fn(&str)) -> usize {
    before();
    let (trace, whole) = strace(site, &[], verb, more);
    assert!(whole, "{trace}");
    let (all, end) = (calls(&trace), site.everything());
    for call in ["openat", "rename", "fsync"] {
        assert!(all.contains(call), "{call}: {all:?}");
    }
    kill_at_each(
        &all,
        before,
        |options| strace(site, options, verb, more).1,
        |when| {
            judge(when);
            site.good(verb, more);
            assert_eq!(names(&end), names(&site.everything()), "{when}, and repeated");
            assert!(end == site.everything(), "{when}, and repeated: contents");
            judge("repeated");
        },
    )
}

fn names(files: &std::collections::BTreeMap<String, Vec<u8>>) -> Vec<&String> {
    files.keys().collect()
}

/// The network is one of `files`, and its plugins are whole.
fn has_network(site: &Site, files: &[&str], when: &str) {
    let other = fs::read("/bin/true").expect("read the other plugin");
    let used = site.used().unwrap_or_else(|e| panic!("{when}: {e}"));
    let used = used.unwrap_or_else(|| panic!("{when}: no network is left"));
    assert!(files.contains(&used.file.as_str()), "{when}: {used:?}");
    site.plugins_are_whole(&used, &[ONE, TWO, &other], when);
}

#[test]
fn install_killed_at_every_system_call() {
    let site = Site::small();
    let before = || site.clear();
    let kills = sweep(&site, "install", &SUBNETS, before, |when| {
        if let Some(used) = site.used().unwrap() {
            site.plugins_are_whole(&used, &[ONE], when);
        }
    });
    println!("install killed at {kills} system calls");
    assert!(kills > 60, "{kills}");
}

#[test]
fn taking_over_killed_at_every_system_call() {
    let site = Site::small();
    let words = [SUBNETS[0], SUBNETS[1], "--take-over"];
    let before = || {
        site.clear();
        site.write_other(OTHER);
        site.write_other("07-more.conflist");
    };
    let kills = sweep(&site, "install", &words, before, |when| {
        has_network(&site, &[OTHER, "07-more.conflist", OURS], when);
    });
    assert_eq!(site.used().unwrap().unwrap().file, OURS);
    println!("install --take-over killed at {kills} system calls");
    assert!(kills > 60, "{kills}");
}

#[test]
fn an_upgrade_killed_at_every_system_call() {
    let site = Site::small();
    let before = || {
        site.clear();
        fs::write(site.plugin(), ONE).unwrap();
        site.good("install", &["--subnets", "10.21.0.0/24"]);
        fs::write(site.plugin(), TWO).unwrap();
    };
    let kills = sweep(&site, "install", &SUBNETS, before, |when| has_network(&site, &[OURS], when));
    assert_eq!(fs::read(site.bin("loopback")).unwrap(), TWO);
    println!("an upgrade killed at {kills} system calls");
    assert!(kills > 60, "{kills}");
    // Whatever was killed, what is there is known to be ours.
    site.good("uninstall", &[]);
    assert_eq!(site.everything().keys().collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn uninstall_killed_at_every_system_call() {
    let site = Site::small();
    site.write_other(OTHER);
    let start = site.everything();
    let before = || {
        site.clear();
        site.write_other(OTHER);
        site.good("install", &[SUBNETS[0], SUBNETS[1], "--take-over"]);
    };
    let kills = sweep(&site, "uninstall", &[], before, |when| has_network(&site, &[OTHER, OURS], when));
    assert_eq!(names(&start), names(&site.everything()));
    assert!(start == site.everything(), "as before the first install");
    println!("uninstall killed at {kills} system calls");
    assert!(kills > 60, "{kills}");
}
