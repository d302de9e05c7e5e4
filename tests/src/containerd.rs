//! containerd with everything of its own: network, mount and PID namespace, files, socket, images. When
//! the test ends, however it ends, the kernel takes its processes, mounts and links away.

pub mod cri;
pub mod image;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netns_fixtures::{KillOnDrop, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::plugin::PluginNode;
use crate::{oracle, program, tool};
use cri::Cri;

const SOON: Duration = Duration::from_secs(60);

/// The first process of the PID namespace: it starts containerd once per line, reaps what containerd
/// leaves, and ends with the test. What programs keep at fixed places (`/run`, `/var/lib/cni`) is fresh.
const INIT: &str = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib \
                    && while read -r _; do containerd --config \"$0\"; done";

/// A running containerd on a node of its own.
#[derive(Debug)]
pub struct Containerd {
    /// The node: its namespace, and Flatnet's state.
    pub node: PluginNode,
    /// The connection to it.
    pub cri: Cri,
    init: KillOnDrop,
    cgroup_parent: String,
    dir: tempfile::TempDir,
}

impl Containerd {
    /// Starts it with the plugin and `subnets`, and waits until it would run pods.
    ///
    /// # Panics
    /// It does not start, or the programs under test are not built.
    #[must_use]
    pub fn start(subnets: &[&str]) -> Self {
        let flatnet = program("flatnet");
        let dir = tempfile::tempdir().expect("make a folder");
        let mut containerd = Self::prepare(dir, &[("flatnet", &flatnet), ("loopback", &flatnet)]);
        containerd.write_list(subnets);
        containerd.begin();
        containerd.load_images();
        containerd
    }

    /// Everything but a network configuration and the daemon itself: write one with [`Self::write_conf`], then
    /// [`Self::begin`] and [`Self::load_images`]. All files are below `dir`; `plugins` are names and programs.
    ///
    /// # Panics
    /// Namespaces cannot be made (root is needed), or a plugin is not there.
    #[must_use]
    pub fn prepare(dir: tempfile::TempDir, plugins: &[(&str, &Path)]) -> Self {
        let node = PluginNode::new();
        let cgroup_parent = format!(
            "/{}",
            dir.path().file_name().expect("a name").to_string_lossy().replace('.', "flatnet-")
        );
        let cri = Cri::at(&dir.path().join("containerd.sock"), &cgroup_parent);
        install(dir.path(), plugins);
        let init = launch(&node, dir.path());
        Self { node, cri, init, cgroup_parent, dir }
    }

    /// Gives the running containerd the images of all sandboxes and containers.
    ///
    /// # Panics
    /// It does not take them.
    pub fn load_images(&self) {
        let archive = image::archive(self.dir.path());
        let socket = self.path("containerd.sock");
        let import = ["--address", &socket, "--namespace", "k8s.io", "images", "import"];
        let import: Vec<&str> = import.into_iter().chain(["--snapshotter", "native"]).collect();
        tool("ctr", &[import.as_slice(), &[archive.to_str().expect("text")]].concat());
        self.wait("the images", || {
            [image::PAUSE, image::BUSYBOX].iter().all(|image| self.cri.has_image(image).is_ok_and(|has| has))
        });
    }

    /// Has containerd started, and waits until it is ready.
    ///
    /// # Panics
    /// It does not become ready.
    pub fn begin(&mut self) {
        let stdin = self.init.child().stdin.as_mut().expect("piped");
        stdin.write_all(b"\n").expect("have containerd started");
        self.wait("containerd", || self.network_is_ready());
    }

    /// Kills containerd, not its shims: its containers go on.
    ///
    /// # Panics
    /// It is not running, or does not end.
    pub fn kill(&self) {
        let running = || self.processes().into_iter().find(|(_, name)| name == "containerd");
        let (pid, _) = running().expect("containerd runs");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill containerd");
        self.wait("the end of containerd", || running().is_none());
    }

    /// Writes the network configuration list, whole, into its place. The temporary file is in the same
    /// folder: containerd 1.6 does not look again when a file comes in from elsewhere.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_list(&self, subnets: &[&str]) {
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
    ///
    /// # Panics
    /// There is none.
    pub fn remove_list(&self) {
        fs::remove_file(self.list()).expect("remove the list");
    }

    /// Where containerd finds the plugin `name`.
    #[must_use]
    pub fn plugin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// What containerd tells kubelet.
    #[must_use]
    pub fn network_is_ready(&self) -> bool {
        self.cri.condition("NetworkReady").is_ok_and(|(ready, _)| ready)
    }

    /// Waits for something, and shows containerd's log where it does not come.
    ///
    /// # Panics
    /// It does not come within a minute.
    pub fn wait(&self, what: &str, mut look: impl FnMut() -> bool) {
        let seen = wait_until(what, SOON, || look().then_some(()));
        assert!(seen.is_ok(), "{what}: {}", self.log());
    }

    /// What containerd has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs `flatnetd VERB` for this containerd's directories; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn flatnetd(&self, verb: &str, more: &[&str]) -> String {
        let (bin, conf) = (self.path("bin"), self.path("net.d"));
        let state = self.node.state_dir().to_str().expect("text");
        let places = [verb, "--bin-dir", &bin, "--conf-dir", &conf, "--state-dir", state];
        tool(program("flatnetd"), &[&places[..], more].concat())
    }

    /// Runs `ctr` where containerd runs; what it printed.
    ///
    /// # Errors
    /// It failed: what it complained of.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn ctr(&self, args: &[&str]) -> Result<String, String> {
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
    #[must_use]
    pub fn cgroup(&self, name: &str) -> String {
        format!("{}/{name}", self.cgroup_parent)
    }

    /// A new folder that containerd sees too.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).expect("make a folder");
        folder
    }

    /// Writes any network configuration, whole, into its place.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_conf(&self, name: &str, content: &str) {
        let written = self.dir.path().join("net.d/.written.tmp");
        fs::write(&written, content).expect("write the configuration");
        fs::rename(written, self.dir.path().join("net.d").join(name)).expect("put it into its place");
    }

    /// What `flatnet list` prints.
    ///
    /// # Panics
    /// It fails.
    #[must_use]
    pub fn flatnet_list(&self) -> String {
        tool(
            self.path("bin/flatnet"),
            &["list", "--state-dir", self.node.state_dir().to_str().expect("text")],
        )
    }

    /// Everything that pods could leave behind, a line each, once runc has nothing more to do.
    ///
    /// # Panics
    /// Something of it cannot be read.
    #[must_use]
    pub fn census(&self) -> BTreeMap<&'static str, Vec<String>> {
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
    ///
    /// # Panics
    /// It is not so within a minute.
    pub fn nothing_left(&self, before: &BTreeMap<&'static str, Vec<String>>) {
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

/// The plugins, and containerd's configuration.
fn install(dir: &Path, plugins: &[(&str, &Path)]) {
    for folder in ["bin", "net.d"] {
        fs::create_dir(dir.join(folder)).expect("make a folder");
    }
    for (name, program) in plugins {
        let copied = fs::copy(program, dir.join("bin").join(name));
        copied.unwrap_or_else(|e| panic!("install the plugin {}: {e}", program.display()));
    }
    let text = include_str!("containerd/config.toml").replace("@DIR@", &dir.display().to_string());
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
