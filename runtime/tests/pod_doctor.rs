//! `doctor`: what is there is green, what is taken away is named and nothing else is, and nothing of it is left.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use lab::{FLATNET, Lab, bin_dir, text};
use netns_fixtures::NetNs;
use serde_json::Value;

/// What is wrong, apart from the network of the machine that the test happens to run on.
fn missing(output: &Output) -> Vec<(String, String)> {
    let all: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)));
    let all = all.as_array().expect("a list").iter().filter(|one| one["state"] == "missing");
    let word = |one: &Value, key: &str| one[key].as_str().expect("a text").to_owned();
    let found: Vec<_> = all.map(|one| (word(one, "subject"), word(one, "evidence"))).collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())), "{found:?}");
    found
}

/// What `doctor` finds on a machine that a shell has made another one: a mount namespace of its own.
fn elsewhere(prepare: &str, root: &Path) -> Vec<(String, String)> {
    let mut shell = Command::new("unshare");
    let line = format!("{prepare}\nexec \"$FLATPOD\" doctor -o json");
    shell.args(["--mount", "sh", "-ec", &line]).stdin(Stdio::null());
    shell.env("FLATPOD", env!("CARGO_BIN_EXE_flatpod")).env("FLATPOD_ROOT", root);
    missing(&shell.output().expect("a shell runs"))
}

fn entries(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).expect("a directory").flatten();
    let mut all: Vec<String> = all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn what_is_there_is_green_and_nothing_is_left() {
    let lab = Lab::bare();
    lab.node("n1", FLATNET);
    let scratch = lab.path().join("scratch");
    fs::create_dir(&scratch).expect("a directory");
    let before = entries(&lab.root());
    let net = NetNs::new().expect("a namespace");
    let mut command = lab.command(&["doctor", "-o", "json"]);
    net.enter_for_child(&mut command).expect("enter the namespace");
    let child = command.env("TMPDIR", &scratch).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("flatpod runs");
    let cgroup = format!("flatpod-doctor-{}", child.id());
    let output = child.wait_with_output().expect("flatpod ends");
    assert_eq!(missing(&output), []);
    let told = text(&output.stdout);
    for subject in
        ["kernel", "root", "namespaces", "cgroups", "directory", "overlayfs", "links", "flatnet", "node n1"]
    {
        assert!(told.contains(&format!("\"subject\": \"{subject}\"")), "{subject}: {told}");
    }
    assert_eq!((entries(&lab.root()), entries(&scratch)), (before, vec![]));
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(".doctor-"), "{mounts}");
    let cgroups = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    for at in cgroups.filter(|fields| fields[2].starts_with("cgroup")).map(|fields| fields[1].to_owned()) {
        assert!(!Path::new(&at).join(&cgroup).exists(), "{at}/{cgroup}");
    }
    assert_eq!(
        net.run(|| nix::net::if_::if_nameindex().expect("links").iter().count()).expect("a namespace"),
        1
    );
    // Who only asks makes no root directory.
    let unborn = lab.path().join("un/born");
    lab.flatpod(&["--root", unborn.to_str().expect("a path"), "doctor"]);
    assert!(!unborn.exists());
}

#[test]
fn cgroups_that_are_not_there_or_cannot_be_written_are_named() {
    let lab = Lab::bare();
    lab.node("n1", FLATNET);
    let without = elsewhere("umount -R /sys/fs/cgroup", &lab.root());
    let [(subject, evidence)] = without.as_slice() else { panic!("{without:?}") };
    assert_eq!(subject, "cgroups");
    assert!(evidence.contains("mount -t cgroup2 cgroup2 /sys/fs/cgroup"), "{evidence}");
    let prepare =
        "for at in $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts); do mount -o bind,remount,ro $at; done";
    let unwritable = elsewhere(prepare, &lab.root());
    let [(subject, evidence)] = unwritable.as_slice() else { panic!("{unwritable:?}") };
    assert_eq!(subject, "cgroups");
    assert!(evidence.contains("create cgroup /sys/fs/cgroup/"), "{evidence}");
    assert!(evidence.contains("Read-only file system"), "{evidence}");
    // Where they are of version 2 alone, the program that restricts devices is tried.
    let prepare = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup";
    assert_eq!(elsewhere(prepare, &lab.root()), []);
}

#[test]
fn a_root_directory_without_room_or_rights_is_named() {
    let lab = Lab::bare();
    let at = lab.path().join("disk");
    fs::create_dir(&at).expect("a directory");
    let cases = [
        ("size=1m", "MiB free"),
        ("size=64m,noexec", "mounted noexec"),
        ("size=64m,ro", "mounted read-only"),
    ];
    for (options, told) in cases {
        let found =
            elsewhere(&format!("mount -t tmpfs -o {options} tmpfs {}", at.display()), &at.join("root"));
        let found: Vec<_> = found.into_iter().filter(|(subject, _)| !subject.starts_with("node ")).collect();
        let [(subject, evidence)] = found.as_slice() else { panic!("{options}: {found:?}") };
        assert_eq!(subject, "directory");
        assert!(evidence.contains(told) && evidence.contains(at.to_str().expect("a path")), "{evidence}");
    }
}

#[test]
fn programs_that_are_not_there_and_missing_rights_are_named() {
    let lab = Lab::bare();
    lab.node("n1", &FLATNET.replace("\"type\":\"flatnet\"", "\"type\":\"nonesuch\""));
    let of = |output: Output| missing(&output);
    let found = of(lab.flatpod(&["doctor", "-o", "json"]));
    let [(subject, evidence)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(subject, "node n1");
    assert!(
        evidence.contains("no CNI plugin nonesuch in ") && evidence.contains("/usr/lib/cni"),
        "{evidence}"
    );
    fs::remove_file(lab.root().join("nodes/n1/cni/net.d/10-net.conflist")).expect("remove the network");
    let found = of(lab.flatpod(&["doctor", "-o", "json"]));
    assert!(found[0].1.contains("put a .conflist there"), "{found:?}");
    // Alone in its directory.
    let alone = tempfile::tempdir_in(bin_dir()).expect("a directory");
    let flatpod = alone.path().join("flatpod");
    fs::hard_link(env!("CARGO_BIN_EXE_flatpod"), &flatpod).expect("a link");
    let run = |command: &mut Command| of(command.env("FLATPOD_ROOT", lab.root()).output().expect("it runs"));
    let found = run(Command::new(&flatpod).args(["doctor", "-o", "json"]));
    assert!(found[0].0 == "programs" && found[0].1.contains("no flatnet in "), "{found:?}");
    let found = run(Command::new("setpriv")
        .args(["--bounding-set=-net_admin", env!("CARGO_BIN_EXE_flatpod")])
        .args(["doctor", "-o", "json"]));
    let named =
        |subject: &str, why: &str| found.iter().any(|(s, evidence)| s == subject && evidence.contains(why));
    assert!(named("root", "without CAP_NET_ADMIN") && named("links", ""), "{found:?}");
}
