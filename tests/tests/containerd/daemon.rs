//! containerd with everything of its own: network, mount and PID namespace, files, socket, images. When
//! the test ends, however it ends, the kernel takes its processes, mounts and links away.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flatnet_tests::plugin::PluginNode;
use flatnet_tests::{oracle, program, tool};
use netns_fixtures::{KillOnDrop, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cri::Cri;
use crate::image;

const SOON: Duration = Duration::from_secs(60);

/// The first process of the PID namespace: it starts containerd once per line, reaps what containerd
/// leaves, and ends with the test. What programs keep at fixed places (`/run`, `/var/lib/cni`) is fresh.
const INIT: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib \
                    && while read -r _; do containerd --config \"$0\"; done";

/// A running containerd on a node of its own.
pub(crate) struct Containerd {
    /// The node: its namespace, and Flatnet's state.
    pub(crate) node: PluginNode,
    /// The connection to it.
    pub(crate) cri: Cri,
    init: KillOnDrop,
    cgroup_parent: String,
    dir: tempfile::TempDir,
}

impl Containerd {
    /// Starts it with the plugin and `subnets`, and waits until it would run pods.
    pub(crate) fn start(subnets: &[&str]) -> Self {
        let (node, dir) = (PluginNode::new(), tempfile::tempdir().expect("make a folder"));
        let cgroup_parent = format!(
            "/{}",
            dir.path().file_name().expect("a name").to_string_lossy().replace('.', "flatnet-")
        );
        let cri = Cri::at(&dir.path().join("containerd.sock"), &cgroup_parent);
        install(dir.path());
        let init = launch(&node, dir.path());
        let mut containerd = Self { node, cri, init, cgroup_parent, dir };
        containerd.write_list(subnets);
        containerd.begin();
        let archive = image::archive(containerd.dir.path());
        let socket = containerd.path("containerd.sock");
        let import = ["--address", &socket, "--namespace", "k8s.io", "images", "import"];
        let import: Vec<&str> = import.into_iter().chain(["--snapshotter", "native"]).collect();
        tool("ctr", &[import.as_slice(), &[archive.to_str().expect("text")]].concat());
        containerd.wait("the images", || {
            [image::PAUSE, image::BUSYBOX]
                .iter()
                .all(|image| containerd.cri.has_image(image).is_ok_and(|has| has))
        });
        containerd
    }

    /// Has containerd started, and waits until it is ready.
    pub(crate) fn begin(&mut self) {
        let stdin = self.init.child().stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("have containerd started");
        self.wait("containerd", || self.network_is_ready());
    }

    /// Kills containerd, not its shims: its containers go on.
    pub(crate) fn kill(&self) {
        let running = || self.processes().into_iter().find(|(_, name)| name == "containerd");
        let (pid, _) = running().expect("containerd runs");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill containerd");
        self.wait("the end of containerd", || running().is_none());
    }

    /// Writes the network configuration list, whole, into its place. The temporary file is in the same
    /// folder: containerd 1.6 does not look again when a file comes in from elsewhere.
    pub(crate) fn write_list(&self, subnets: &[&str]) {
        let list = json!({
            "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "flatnet",
            "plugins": [{
                "type": "flatnet", "stateDir": self.node.state_dir(),
                "capabilities": { "portMappings": true, "bandwidth": true, "ips": true, "mac": true },
                "subnets": subnets, "clusterNetworks": ["10.22.0.0/16"], "mtu": 1500, "masquerade": true,
            }],
        });
        self.write_conf("10-flatnet.conflist", &list.to_string());
    }

    /// Takes the network configuration list away.
    pub(crate) fn remove_list(&self) {
        fs::remove_file(self.list()).expect("remove the list");
    }

    /// Where containerd finds the plugin `name`.
    pub(crate) fn plugin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// What containerd tells kubelet.
    pub(crate) fn network_is_ready(&self) -> bool {
        self.cri.condition("NetworkReady").is_ok_and(|(ready, _)| ready)
    }

    /// Waits for something, and shows containerd's log where it does not come.
    pub(crate) fn wait(&self, what: &str, mut look: impl FnMut() -> bool) {
        let seen = wait_until(what, SOON, || look().then_some(()));
        assert!(seen.is_ok(), "{what}: {}", self.log());
    }

    /// What containerd has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs `flatnetd VERB` for this containerd's directories; what it printed.
    pub(crate) fn flatnetd(&self, verb: &str, more: &[&str]) -> String {
        let (bin, conf) = (self.path("bin"), self.path("net.d"));
        let state = self.node.state_dir().to_str().expect("text");
        let places = [verb, "--bin-dir", &bin, "--conf-dir", &conf, "--state-dir", state];
        tool(program("flatnetd"), &[&places[..], more].concat())
    }

    /// Runs `ctr` where containerd runs; what it printed, or complained of.
    pub(crate) fn ctr(&self, args: &[&str]) -> Result<String, String> {
        let below = format!("/proc/{0}/task/{0}/children", self.init.id());
        let init = fs::read_to_string(below).expect("read the children");
        #[expect(clippy::disallowed_methods, reason = "a test calls containerd")]
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", init.trim(), "ctr", "--address"]);
        command.arg(self.dir.path().join("containerd.sock")).args(args).stdin(Stdio::null());
        let output = command.output().expect("run ctr");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A cgroup that goes with the test.
    pub(crate) fn cgroup(&self, name: &str) -> String {
        format!("{}/{name}", self.cgroup_parent)
    }

    /// A new folder that containerd sees too.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).expect("make a folder");
        folder
    }

    /// Writes any network configuration, whole, into its place.
    pub(crate) fn write_conf(&self, name: &str, content: &str) {
        let written = self.dir.path().join("net.d/.written.tmp");
        fs::write(&written, content).expect("write the configuration");
        fs::rename(written, self.dir.path().join("net.d").join(name)).expect("put it into its place");
    }

    /// What `flatnet list` prints.
    pub(crate) fn flatnet_list(&self) -> String {
        tool(
            self.path("bin/flatnet"),
            &["list", "--state-dir", self.node.state_dir().to_str().expect("text")],
        )
    }

    /// Everything that pods could leave behind, a line each, once runc has nothing more to do.
    pub(crate) fn census(&self) -> BTreeMap<&'static str, Vec<String>> {
        self.wait("runc's end", || !self.processes().values().any(|name| name.starts_with("runc")));
        let root = self.root();
        let mut mounts: Vec<String> = fs::read_to_string(root.join("proc/1/mountinfo"))
            .expect("read the mounts")
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
            .collect();
        mounts.sort();
        let mut processes: Vec<String> = self.processes().into_values().collect();
        processes.sort();
        BTreeMap::from([
            ("processes", processes),
            ("mounts", mounts),
            ("kernel", oracle::everything(&self.node.ns).into_iter().collect()),
            ("namespaces", entries(&root.join("run/netns"))),
            ("cached results", entries(&root.join("var/lib/cni/results"))),
            ("cgroups", self.cgroups()),
            ("records", entries(&self.node.state_dir().join("attachments"))),
            ("addresses", vec![self.node.used_addresses().to_string()]),
            ("sandboxes", self.cri.pods().expect("list the sandboxes")),
        ])
    }

    /// Waits until the census is `before` again.
    pub(crate) fn nothing_left(&self, before: &BTreeMap<&'static str, Vec<String>>) {
        let seen = wait_until("nothing is left", SOON, || (self.census() == *before).then_some(()));
        if seen.is_err() {
            let now = self.census();
            let changed = now.iter().filter(|(what, lines)| before.get(*what) != Some(*lines));
            let changed: Vec<_> = changed.map(|(what, lines)| (what, lines, &before[what])).collect();
            panic!("not as before: {changed:#?}\n{}", self.log());
        }
    }

    /// Process ids and names in containerd's PID namespace and those below.
    fn processes(&self) -> BTreeMap<i32, String> {
        let below = format!("/proc/{0}/task/{0}/children", self.init.id());
        let init = fs::read_to_string(below).expect("read the children");
        let mut found = BTreeMap::new();
        let mut open: Vec<i32> = init.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        while let Some(pid) = open.pop() {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let name = read("comm").trim().to_owned();
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                open.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            if !name.is_empty() {
                found.insert(pid, name);
            }
        }
        found
    }

    /// The root directory as containerd sees it.
    fn root(&self) -> PathBuf {
        let below = format!("/proc/{0}/task/{0}/children", self.init.id());
        let init = fs::read_to_string(below).expect("read the children");
        PathBuf::from(format!("/proc/{}/root", init.trim()))
    }

    /// The cgroups of pods, in every hierarchy.
    fn cgroups(&self) -> Vec<String> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("list the hierarchies").flatten();
        let parents = hierarchies.map(|h| h.path().join(&self.cgroup_parent[1..]));
        let single = Path::new("/sys/fs/cgroup").join(&self.cgroup_parent[1..]);
        let folders = parents.chain([single]).flat_map(|parent| {
            let below = fs::read_dir(parent).into_iter().flatten().flatten();
            below.filter(|e| e.path().is_dir()).map(|e| e.path().display().to_string()).collect::<Vec<_>>()
        });
        let mut all: Vec<String> = folders.collect();
        all.sort();
        all
    }

    fn list(&self) -> PathBuf {
        self.dir.path().join("net.d/10-flatnet.conflist")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let init = self.processes().into_keys();
        for pid in init {
            // Gone already is fine.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // The end of `unshare` is the end of the namespace's last process.
        let _ = wait_until("the end of all processes", SOON, || self.init.ended());
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let single = Path::new("/sys/fs/cgroup").join(&self.cgroup_parent[1..]);
        for parent in hierarchies.map(|h| h.path().join(&self.cgroup_parent[1..])).chain([single]) {
            remove_cgroups(&parent);
        }
    }
}

/// Removes a cgroup and those below it; a hierarchy that has none is fine.
fn remove_cgroups(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroups(&entry.path());
    }
    let _ = fs::remove_dir(cgroup);
}

fn entries(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = all.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The plugin under both of its names, and containerd's configuration.
fn install(dir: &Path) {
    for folder in ["bin", "net.d"] {
        fs::create_dir(dir.join(folder)).expect("make a folder");
    }
    for name in ["flatnet", "loopback"] {
        fs::copy(program("flatnet"), dir.join("bin").join(name)).expect("install the plugin");
    }
    let text = include_str!("config.toml").replace("@DIR@", &dir.display().to_string());
    fs::write(dir.join("config.toml"), text.replace("@PAUSE@", image::PAUSE)).expect("write config.toml");
}

/// Starts the namespaces' first process; containerd is not running yet.
fn launch(node: &PluginNode, dir: &Path) -> KillOnDrop {
    let log = File::create(dir.join("log")).expect("make the log");
    #[expect(clippy::disallowed_methods, reason = "a test starts containerd")]
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "--mount",
        "--propagation",
        "slave",
        "--mount-proc",
        "sh",
        "-c",
        INIT,
    ]);
    command.arg(dir.join("config.toml")).stdin(Stdio::piped());
    command.stdout(log.try_clone().expect("share the log")).stderr(log);
    node.ns.enter_for_child(&mut command).expect("enter the node");
    KillOnDrop::new(command.spawn().expect("start unshare"))
}
