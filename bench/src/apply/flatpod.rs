//! flatpod, asked as a user asks it: with a manifest.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::field::{Pods, SUBNETS};

/// All pods run long before.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the pods' states: what is measured is a multiple of it longer.
const LOOK: Duration = Duration::from_millis(1);

/// flatpod with one node on flatnet.
pub(super) struct ByFlatpod {
    flatpod: PathBuf,
    dir: tempfile::TempDir,
}

impl ByFlatpod {
    /// Makes a node whose files are in memory, so that no disk is measured.
    pub(super) fn start(bin_dir: &Path) -> Result<Self> {
        let flatpod = bin_dir.join("flatpod");
        ensure!(flatpod.exists(), "there is no {}", flatpod.display());
        let dir = tempfile::tempdir_in("/dev/shm").context("make a folder for flatpod")?;
        let ours = Self { flatpod, dir };
        let bin_dir = bin_dir.canonicalize().context("find the programs")?;
        ours.ask(&["node", "create", "n1", "--cni-bin-dir", &bin_dir.display().to_string()], "")?;
        let node = ours.dir.path().join("nodes/n1");
        let plugin = json!({ "type": "flatnet", "stateDir": node.join("flatnet"), "subnets": SUBNETS, "mtu": 1500,
            "masquerade": false });
        let list = json!({ "cniVersion": "1.0.0", "name": "bench", "plugins": [plugin] });
        fs::write(node.join("cni/net.d/10-bench.conflist"), list.to_string()).context("write the network")?;
        Ok(ours)
    }

    /// Proportional set sizes in MiB (proc(5), `smaps_rollup`) of the processes that keep pods.
    pub(super) fn memory_of_pods(&self) -> Result<Vec<f64>> {
        let root = self.dir.path().display().to_string();
        let mut all = Vec::new();
        for process in fs::read_dir("/proc").context("list processes")?.flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if !String::from_utf8_lossy(&line).contains(&root) {
                continue;
            }
            let sizes =
                fs::read_to_string(process.path().join("smaps_rollup")).context("read a process' memory")?;
            let field = sizes.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kib = field.and_then(|field| field.split_whitespace().next()?.parse::<f64>().ok());
            all.push(kib.context("a process has a proportional set size")? / 1024.0);
        }
        Ok(all)
    }

    #[expect(clippy::disallowed_methods, reason = "flatpod is measured as a whole process")]
    fn ask(&self, args: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(&self.flatpod);
        command.env("FLATPOD_ROOT", self.dir.path()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start flatpod")?;
        child.stdin.take().context("stdin")?.write_all(input.as_bytes()).context("write the manifest")?;
        let output = child.wait_with_output().context("wait for flatpod")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "flatpod {}: {}", args.join(" "), told.trim());
        Ok(())
    }

    /// How many pods are running, as their supervisors have written it down.
    fn running(&self) -> usize {
        let pods = fs::read_dir(self.dir.path().join("pods")).into_iter().flatten().flatten();
        let is_running = |status: Vec<u8>| {
            serde_json::from_slice::<Value>(&status).is_ok_and(|status| status["phase"] == "Running")
        };
        pods.filter(|pod| fs::read(pod.path().join("status.json")).is_ok_and(is_running)).count()
    }
}

impl Pods for ByFlatpod {
    fn name(&self) -> &'static str {
        "flatpod"
    }

    fn run(&self, names: &[String]) -> Result<()> {
        let container = json!({ "name": "main", "image": "builtin/tools:v1", "args": ["pause"] });
        let pod = |name: &String| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
                "spec": { "containers": [&container] } })
        };
        let items: Vec<_> = names.iter().map(pod).collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
        self.ask(&["apply", "-f", "-"], &list)?;
        let start = Instant::now();
        while self.running() < names.len() {
            if start.elapsed() > PATIENCE {
                bail!("{} of {} pods run", self.running(), names.len());
            }
            #[expect(clippy::disallowed_methods, reason = "the one place that waits for running pods")]
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn remove(&self, names: &[String]) -> Result<()> {
        let args: Vec<_> = ["delete", "pod"].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.ask(&args, "")
    }
}

impl Drop for ByFlatpod {
    fn drop(&mut self) {
        // What is left of it then, the error before this says why.
        let _ = self.ask(&["down"], "");
    }
}
