//! Machines with other cgroups than this one: version 2 alone, version 1 alone, none that may be written, none at all. Each
//! is a mount namespace of this machine, in which a shell does what a user would.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use netns_fixtures::gate;

/// Two pods on one node: one without limits, which also tries a device that is not its own, and one with limits.
const STORY: &str = r#"
trap 'flatpod down' EXIT
flatpod up --nodes 1 >&2 || exit 1
flatpod apply -f "$POD" >&2 || exit 1
flatpod wait --for=condition=Ready free --timeout "$PATIENCE" >&2 && echo "free is ready"
for look in $(seq "${PATIENCE%s}"); do
    flatpod wait --for=condition=Ready limited --timeout 1s >&2 && echo "limited is ready" && break
    flatpod get events | grep -q 'limits.cpu' && break
done
for container in usual privileged; do
    flatpod exec free -c $container -- sh -c 'mknod /tty c 4 64 && : < /tty' 2>&1
    echo "$container: $?"
done
unified=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
controllers=$(cat "$unified/cgroup.controllers" 2>/dev/null)
case " $controllers " in *" memory "*)
    cat $unified/flatpod-*/n1/pod*/memory.max | tr '\n' ' '
esac
flatpod get events
flatpod delete pods --all --now >&2
flatpod down >&2
find $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts) -maxdepth 1 -name "$CGROUP" | sed 's/^/left: /'
"#;

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: free}, spec: {terminationGracePeriodSeconds: 1, containers: [
    {name: usual, image: 'builtin/host:v1', command: [sleep, '1000']},
    {name: privileged, image: 'builtin/host:v1', command: [sleep, '1000'], securityContext: {privileged: true}}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: limited}, spec: {terminationGracePeriodSeconds: 1, containers: [
    {name: c, image: 'builtin/host:v1', command: [sleep, '1000'],
     resources: {limits: {memory: 64Mi, cpu: 500m}}}]}}
";

/// What is told where `prepare` has made the cgroups what they are, and pods are waited for so many seconds.
fn told(prepare: &str, patience: &str) -> String {
    gate::require();
    let dir = tempfile::Builder::new().prefix("cgroups-").tempdir().expect("a temporary directory");
    let pods = dir.path().join("pods.yaml");
    fs::write(&pods, PODS).expect("a manifest");
    let root = dir.path().join("root");
    let own = Path::new(env!("CARGO_BIN_EXE_flatpod")).parent().expect("a directory");
    let path = format!("{}:{}", own.display(), std::env::var("PATH").expect("a PATH"));
    let hash = flatpod::letters::hash(root.as_os_str().as_encoded_bytes());
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "sh", "-c", &format!("{prepare}\n{STORY}")]).stdin(Stdio::null());
    shell.env("PATH", path).env("FLATPOD_ROOT", &root).env("POD", &pods).env("PATIENCE", patience);
    let output = shell.env("CGROUP", format!("flatpod-{hash:08x}")).output().expect("a shell runs");
    let [told, complained] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert!(!told.contains("left: "), "{told}\n{complained}");
    format!("{told}\n{complained}")
}

fn assert_held_to_its_devices(told: &str) {
    assert!(told.contains("/tty: Operation not permitted") && told.contains("usual: 2"), "{told}");
    assert!(told.contains("privileged: 0"), "{told}");
}

#[test]
fn version_2_alone_holds_containers_to_their_devices() {
    let told = told("umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup", "30s");
    assert!(told.contains("free is ready"), "{told}");
    assert_held_to_its_devices(&told);
    // Where version 1 holds the controllers, version 2 has none, and a limit would be kept by nobody.
    if told.contains("limited is ready") {
        assert!(told.contains("67108864 max") || told.contains("max 67108864"), "the pod's limit: {told}");
    } else {
        let why = "limits.cpu: the cgroups of this machine have no cpu controller here; leave the limit out";
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn version_1_alone_is_enough() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    if !mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup")) {
        // What version 2 has, version 1 cannot have: on such a machine there is no such thing.
        return;
    }
    let prepare = "umount -R /sys/fs/cgroup && mount -t tmpfs tmpfs /sys/fs/cgroup && cd /sys/fs/cgroup && \
        for one in cpu cpuacct memory devices pids freezer blkio cpuset; do \
        mkdir $one && mount -t cgroup -o $one cgroup $one || rmdir $one; done; cd /";
    let told = told(prepare, "30s");
    assert!(told.contains("free is ready") && told.contains("limited is ready"), "{told}");
    assert_held_to_its_devices(&told);
}

#[test]
fn cgroups_that_may_not_be_written_are_named() {
    let prepare =
        "for at in $(awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts); do mount -o bind,remount,ro $at; done";
    let told = told(prepare, "3s");
    assert!(!told.contains("is ready"), "{told}");
    assert!(
        told.contains("create cgroup /sys/fs/cgroup/") && told.contains("Read-only file system"),
        "{told}"
    );
}

#[test]
fn a_machine_without_cgroups_is_told_what_to_mount() {
    let told = told("umount -R /sys/fs/cgroup", "3s");
    assert!(!told.contains("is ready"), "{told}");
    assert!(told.contains("mount -t cgroup2 cgroup2 /sys/fs/cgroup"), "{told}");
}
