//! Where `flatnetd install` works: the directories of a runtime, and a reader of them that is not ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::{program, tool};

/// A node snapshot as the agent writes it.
pub const SNAPSHOT: &str = r#"{"version":1,"node":"n1","subnets":["10.244.1.0/24"],"clusterNetworks":["10.244.0.0/16"],"mtu":1450,"segmentSize":65536,"masquerade":true}"#;

/// A plugin directory, a configuration directory, a state directory, and a plugin to install.
#[derive(Debug)]
pub struct Site {
    dir: tempfile::TempDir,
}

/// The network that a runtime uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The configuration's file name.
    pub file: String,
    /// The types of its plugins.
    pub plugins: Vec<String>,
    /// Which file that is: device, inode, time of the last change of the inode.
    pub identity: (u64, u64, i64, i64),
}

impl Site {
    /// Empty directories, and the built plugin without its symbols.
    ///
    /// # Panics
    /// They cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let site = Self::small();
        let plugin = site.plugin();
        fs::copy(program("flatnet"), &plugin).expect("copy the plugin");
        tool("strip", &[plugin.to_str().expect("text")]);
        site
    }

    /// The same with a plugin that is only a few bytes: for tests that install, and run nothing.
    ///
    /// # Panics
    /// They cannot be made.
    #[must_use]
    pub fn small() -> Self {
        let site = Self { dir: tempfile::tempdir().expect("make a directory") };
        for folder in ["bin", "net.d", "state", "shipped"] {
            fs::create_dir(site.dir.path().join(folder)).expect("make a directory");
        }
        fs::write(site.plugin(), "one version").expect("write the plugin");
        site
    }

    /// All of it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The plugin that is installed.
    #[must_use]
    pub fn plugin(&self) -> PathBuf {
        self.dir.path().join("shipped/flatnet")
    }

    /// A file of the plugin directory.
    #[must_use]
    pub fn bin(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    /// A file of the configuration directory.
    #[must_use]
    pub fn conf(&self, name: &str) -> PathBuf {
        self.dir.path().join("net.d").join(name)
    }

    /// The agent's state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Does what an agent does once it works.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_snapshot(&self) {
        fs::write(self.state().join("node.json"), SNAPSHOT).expect("write the snapshot");
    }

    /// Another network with a plugin of its own, `bridge`.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_other(&self, file: &str) {
        let list = json!({ "cniVersion": "1.0.0", "name": "other", "plugins": [{ "type": "bridge" }] });
        fs::write(self.conf(file), list.to_string()).expect("write the other configuration");
        if !self.bin("bridge").exists() {
            fs::copy("/bin/true", self.bin("bridge")).expect("copy the other plugin");
        }
    }

    /// The words of `flatnetd VERB` for these directories.
    #[must_use]
    pub fn words(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let mut words = vec![verb.to_owned()];
        let places =
            [("--bin-dir", self.bin("")), ("--conf-dir", self.conf("")), ("--state-dir", self.state())];
        words.extend(places.into_iter().flat_map(|(flag, path)| [flag.to_owned(), text(path)]));
        if verb == "install" {
            words.extend(["--plugin".to_owned(), text(self.plugin())]);
        }
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    }

    /// A verb of flatnetd for these directories, perhaps through another program.
    #[must_use]
    pub fn command(&self, through: &[&str], verb: &str, more: &[&str]) -> Command {
        let flatnetd = program("flatnetd").display().to_string();
        let words: Vec<&str> = through.iter().copied().chain([flatnetd.as_str()]).collect();
        #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(self.words(verb, more)).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn run(&self, verb: &str, more: &[&str]) -> Output {
        self.command(&[], verb, more).output().expect("run flatnetd")
    }

    /// Runs a verb that must succeed; what it printed.
    ///
    /// # Panics
    /// It fails.
    pub fn good(&self, verb: &str, more: &[&str]) -> String {
        let output = self.run(verb, more);
        assert!(output.status.success(), "{verb} {more:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a verb that must fail with exit status 1; what it complained of.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn bad(&self, verb: &str, more: &[&str]) -> String {
        let output = self.run(verb, more);
        assert_eq!(output.status.code(), Some(1), "{verb} {more:?}: {}", said(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The network that containerd would use: the first file by name, as go-cni loads it. `None`: there is
    /// no configuration.
    ///
    /// # Errors
    /// The first file cannot be loaded, so that containerd has no network though there are files.
    pub fn used(&self) -> Result<Option<Used>, String> {
        let folder = fs::read_dir(self.conf("")).map_err(|e| e.to_string())?;
        let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ends = |name: &String| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
        let Some(file) = names.filter(ends).min() else { return Ok(None) };
        let wrong = |what: &str| format!("{file}: {what}");
        let path = self.conf(&file);
        let meta = fs::metadata(&path).map_err(|e| wrong(&e.to_string()))?;
        let bytes = fs::read(&path).map_err(|e| wrong(&e.to_string()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(&e.to_string()))?;
        let list = value["plugins"].as_array().cloned().unwrap_or_default();
        let plugins: Vec<String> =
            list.iter().filter_map(|plugin| plugin["type"].as_str().map(str::to_owned)).collect();
        if plugins.is_empty() {
            return Err(wrong("no plugins"));
        }
        Ok(Some(Used { file, plugins, identity: (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()) }))
    }

    /// Every plugin of the network that is used can be executed and is one of `whole`.
    ///
    /// # Panics
    /// It is not.
    pub fn plugins_are_whole(&self, used: &Used, whole: &[&[u8]], when: &str) {
        for plugin in &used.plugins {
            let path = self.bin(plugin);
            let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{when}: {used:?}: {e}"));
            assert!(whole.contains(&bytes.as_slice()), "{when}: {plugin} is not whole");
            let mode = fs::metadata(&path).expect("look at the plugin").permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{when}: {plugin} cannot be executed");
        }
    }

    /// Everything in both directories: names and contents.
    ///
    /// # Panics
    /// A directory cannot be read.
    #[must_use]
    pub fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let folders = ["bin", "net.d"].map(|folder| self.dir.path().join(folder));
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("list the directory"));
        let read = |entry: fs::DirEntry| {
            let path = entry.path();
            let name = path.strip_prefix(self.dir.path()).expect("below").display().to_string();
            (name, fs::read(&path).expect("read a file"))
        };
        entries.map(|entry| read(entry.expect("an entry"))).collect()
    }

    /// Empties both directories.
    ///
    /// # Panics
    /// A file cannot be removed.
    pub fn clear(&self) {
        for name in self.everything().keys() {
            fs::remove_file(self.dir.path().join(name)).expect("remove a file");
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// What a program wrote, to both outputs.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a plugin's VERSION, as a runtime does before anything else; whether it answered.
///
/// # Errors
/// It cannot be executed, fails, or does not answer.
pub fn version(plugin: &Path) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "a runtime executes plugins")]
    let mut command = Command::new(plugin);
    command.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    // One that does not read is no failure of the test.
    let _ = child.stdin.take().expect("piped").write_all(br#"{"cniVersion":"1.0.0"}"#);
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("{}: {}", output.status, said(&output))) }
}
