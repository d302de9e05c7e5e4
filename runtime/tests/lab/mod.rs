//! A laboratory for pods: a root directory and nodes of its own, everything gone at the end, and a look whether
//! that is so.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use netns_fixtures::{NetNs, gate, wait_until};
use serde_json::Value;

/// Programs of the test image that need a shell.
const APPLETS: [&str; 24] = [
    "sh", "cat", "ls", "sleep", "echo", "hostname", "ps", "ip", "nc", "touch", "id", "env", "mount",
    "umount", "true", "false", "kill", "date", "test", "wc", "ping", "mkdir", "stat", "readlink",
];
/// The network of most tests: our own plugin, alone.
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) const FLATNET: &str = r#"{"cniVersion":"1.1.0","name":"flatnet","plugins":[{"type":"flatnet","stateDir":"STATE",
    "subnets":["10.22.0.0/24","fd00:22::/64"],"clusterNetworks":["10.22.0.0/16"],"masquerade":false,
    "capabilities":{"portMappings":true}}]}"#;
/// The same made by the reference plugins, as Debian has them.
const REFERENCE: &str = r#"{"cniVersion":"1.0.0","name":"reference","plugins":[{"type":"bridge","bridge":"br0",
    "isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.22.0.0/24"}],
    [{"subnet":"fd00:22::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
    {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#;
/// For whatever is a matter of a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The laboratory. Everything in it goes when it is dropped.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
    /// Where flatpod is started, when that is not where we are.
    net: Option<NetNs>,
}

#[allow(dead_code, reason = "each test file uses some")]
impl Lab {
    /// With one node, `n1`, and the image `busybox:v1`. The node's network is our own plugin's, or with
    /// `FLATPOD_LAB_NETWORK=reference` that of the reference plugins: nothing but the list differs.
    pub(crate) fn new() -> Self {
        let lab = Self::bare();
        let list = match std::env::var("FLATPOD_LAB_NETWORK").as_deref() {
            Err(_) | Ok("flatnet") => FLATNET,
            Ok("reference") => REFERENCE,
            Ok(other) => panic!("FLATPOD_LAB_NETWORK is flatnet or reference, not {other}"),
        };
        lab.node("n1", list);
        lab
    }

    /// Without nodes.
    pub(crate) fn bare() -> Self {
        Self::started_in(None)
    }

    /// With one node, and flatpod started in a network namespace of its own, which has nothing but its loopback: what
    /// it listens on and whom it asks is in there.
    pub(crate) fn apart(net: &NetNs) -> Self {
        let lab = Self::started_in(Some(net.clone()));
        lab.node("n1", FLATNET);
        lab
    }

    fn started_in(net: Option<NetNs>) -> Self {
        gate::require();
        let dir = tempfile::Builder::new().prefix("pods-").tempdir().expect("a temporary directory");
        let lab = Self { dir, net };
        lab.import_busybox();
        lab
    }

    /// A node whose network is `conflist`, in which STATE is a directory of the node's own.
    pub(crate) fn node(&self, name: &str, conflist: &str) -> PathBuf {
        self.node_with(name, conflist, &[])
    }

    /// The same, with more said to `node create`.
    pub(crate) fn node_with(&self, name: &str, conflist: &str, more: &[&str]) -> PathBuf {
        let own = bin_dir();
        let dirs = [own.to_str().expect("a path"), "/usr/lib/cni"];
        let line = ["node", "create", name, "--max-container-restart-period", "1"];
        self.ok(&[&line[..], &["--cni-bin-dir", dirs[0], "--cni-bin-dir", dirs[1]], more].concat());
        let conf = self.root().join("nodes").join(name).join("cni/net.d");
        let state = self.root().join("nodes").join(name).join("flatnet");
        let text = conflist.replace("STATE", state.to_str().expect("a path"));
        fs::write(conf.join("10-net.conflist"), text).expect("a network");
        conf
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs flatpod.
    pub(crate) fn flatpod(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("flatpod runs")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flatpod"));
        command.env("FLATPOD_ROOT", self.root()).args(args).stdin(Stdio::null());
        if let Some(net) = &self.net {
            // Nor does it ask a proxy, or use a password of ours.
            for name in ["http_proxy", "https_proxy", "all_proxy"] {
                command.env_remove(name).env_remove(name.to_uppercase());
            }
            command.env("DOCKER_CONFIG", self.dir.path());
            net.enter_for_child(&mut command).expect("enter the namespace");
        }
        command
    }

    /// Runs flatpod, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.flatpod(args);
        let told = text(&output.stderr);
        assert!(output.status.success(), "flatpod {args:?}: {}\n{told}", output.status);
        text(&output.stdout)
    }

    /// Runs a command in a container, which must succeed, and returns what it printed.
    pub(crate) fn exec(&self, pod: &str, container: &str, command: &[&str]) -> String {
        let line = [&["exec", pod, "-c", container, "--"], command].concat();
        self.ok(&line)
    }

    /// Runs a command in a container and returns its exit code.
    pub(crate) fn exec_code(&self, pod: &str, container: &str, command: &[&str]) -> Option<i32> {
        self.flatpod(&[&["exec", pod, "-c", container, "--"], command].concat()).status.code()
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) -> String {
        let output = self.try_apply(manifest);
        assert!(output.status.success(), "apply: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn try_apply(&self, manifest: &str) -> Output {
        let mut child = self.command(&["apply", "-f", "-"]);
        let mut child = child
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flatpod runs");
        child.stdin.take().expect("stdin").write_all(manifest.as_bytes()).expect("a manifest is read");
        child.wait_with_output().expect("flatpod ends")
    }

    /// A pod as `get -o json` shows it.
    pub(crate) fn get(&self, pod: &str) -> Value {
        serde_json::from_str(&self.ok(&["get", "pod", pod, "-o", "json"])).expect("JSON")
    }

    /// Waits until a pod is as `is` wants it, and returns it.
    pub(crate) fn wait(&self, pod: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = wait_until(&format!("pod {pod}: {what}"), SOON, || {
            last = self.get(pod);
            is(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|timeout| panic!("{timeout}\n{last:#}\n{}", self.events(pod)))
    }

    pub(crate) fn wait_ready(&self, pod: &str) -> Value {
        self.wait(pod, "Ready", |pod| condition(pod, "Ready"))
    }

    pub(crate) fn wait_phase(&self, pod: &str, phase: &str) -> Value {
        self.wait(pod, phase, |pod| pod["status"]["phase"] == phase)
    }

    pub(crate) fn events(&self, pod: &str) -> String {
        let dir = self.root().join("pods");
        let logs = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| fs::read_to_string(entry.path().join("supervisor.log")).unwrap_or_default());
        format!("{}{}", self.ok(&["get", "events", pod]), logs.collect::<String>())
    }

    pub(crate) fn logs(&self, pod: &str, container: &str) -> String {
        self.ok(&["logs", pod, "-c", container])
    }

    /// The directory of a pod's files.
    pub(crate) fn pod_dir(&self, pod: &str) -> PathBuf {
        let uid = self.get(pod)["metadata"]["uid"].as_str().expect("a uid").to_owned();
        self.root().join("pods").join(uid)
    }

    /// A container's first process, as seen from here.
    pub(crate) fn pid(&self, pod: &str, container: &str) -> i32 {
        let dir = self.pod_dir(pod).join("ctr").join(container);
        let record: Value = json_file(&dir.join("record.json"));
        let started: Value = json_file(&dir.join(record["attempt"].to_string()).join("started.json"));
        i32::try_from(started["init"]["pid"].as_i64().expect("a pid")).expect("a pid")
    }

    /// The process of this lab whose command line contains all of `words`.
    pub(crate) fn process(&self, words: &[&str]) -> Option<i32> {
        self.processes()
            .into_iter()
            .find(|(_, line)| words.iter().all(|word| line.contains(word)))
            .map(|(pid, _)| pid)
    }

    /// Every process that was started with this lab's directory on its command line.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let own = self.dir.path().to_str().expect("a path").to_owned();
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let lines = all.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, text(&line).replace('\0', " ")))
        });
        lines.filter(|(_, line)| line.contains(&own)).collect()
    }

    /// What is left of pods: processes, mounts, cgroups, files.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let own = self.dir.path().to_str().expect("a path").to_owned();
        let mut found: BTreeSet<String> =
            self.processes().into_iter().map(|(pid, line)| format!("{pid} {line}")).collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        found.extend(mounts.lines().filter(|line| line.contains(&own)).map(str::to_owned));
        for below in ["pods", "names", "workloads"] {
            let entries = fs::read_dir(self.root().join(below)).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        found
    }

    fn import_busybox(&self) {
        let rootfs = self.dir.path().join("busybox");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "data"] {
            fs::create_dir_all(rootfs.join(dir)).expect("a directory");
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static is installed");
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nbird:x:1234:1235::/:/bin/sh\n")
            .expect("a file");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("a link");
        }
        self.ok(&["image", "import", "busybox:v1", rootfs.to_str().expect("a path"), "--cmd", "sh"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.flatpod(&["down"]);
        // A supervisor that found nothing to do may still be on its way out.
        let gone = wait_until("down to leave nothing", SOON, || self.traces().is_empty().then_some(()));
        if !std::thread::panicking() {
            assert!(output.status.success(), "down: {}", text(&output.stderr));
            assert!(gone.is_ok(), "down leaves {:#?}", self.traces());
        }
    }
}

/// Where the programs under test are.
pub(crate) fn bin_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_flatpod")).parent().expect("a directory").to_owned()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn json_file(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

#[allow(dead_code, reason = "each test file uses some")]
pub(crate) fn condition(pod: &Value, kind: &str) -> bool {
    let all = pod["status"]["conditions"].as_array();
    all.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
}

/// The status of a container.
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
        .map(|list| &pod["status"][list]);
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    all.into_iter().find(|one| one["name"] == container).unwrap_or(&Value::Null)
}

/// The inode of a namespace of a process.
#[allow(dead_code, reason = "each test file uses some")]
pub(crate) fn ns(pid: i32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    link.unwrap_or_else(|e| panic!("{kind} of {pid}: {e}")).display().to_string()
}
