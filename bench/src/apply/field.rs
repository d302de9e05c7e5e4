//! Who is asked for pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::{sync::PoisonError, thread};

use anyhow::{Context, Result, ensure};
use flatnet_tests::containerd::Containerd;
use flatnet_tests::containerd::cri::PodNetwork;
use serde_json::json;

/// The pods' network: the same for everybody.
pub(super) const SUBNETS: [&str; 2] = ["10.22.0.0/23", "fd00:22::/64"];

/// Somebody who runs pods of one container that waits.
pub(super) trait Pods {
    /// As whom it is listed.
    fn name(&self) -> &'static str;

    /// Runs pods of these names, and returns when all are running.
    fn run(&self, names: &[String]) -> Result<()>;

    /// Removes them, and returns when they are gone.
    fn remove(&self, names: &[String]) -> Result<()>;
}

/// containerd with runc, asked for each pod as kubelet asks it, all at once.
pub(super) struct ByContainerd {
    containerd: Containerd,
    ids: Mutex<BTreeMap<String, String>>,
}

impl ByContainerd {
    /// Starts one whose files are in memory, so that no disk is measured.
    pub(super) fn start(bin_dir: &Path) -> Result<Self> {
        let flatnet = bin_dir.join("flatnet");
        ensure!(flatnet.exists(), "there is no {}", flatnet.display());
        let dir = tempfile::tempdir_in("/dev/shm").context("make a folder for containerd")?;
        let programs = [("flatnet", flatnet.as_path()), ("loopback", flatnet.as_path())];
        let mut containerd = Containerd::prepare(dir, &programs);
        let plugins = json!([{ "type": "flatnet", "stateDir": "/run/flatnet", "subnets": SUBNETS, "mtu": 1500,
            "masquerade": false }]);
        let list = json!({ "cniVersion": "1.0.0", "name": "bench", "plugins": plugins });
        containerd.write_conf("10-bench.conflist", &list.to_string());
        containerd.begin();
        containerd.load_images();
        Ok(Self { containerd, ids: Mutex::default() })
    }

    fn run_one(&self, name: &str) -> Result<()> {
        let cri = &self.containerd.cri;
        let id = cri.run_pod_on(name, PodNetwork::Own)?;
        cri.run_container(&id, name, "main", &["sleep", "3600"])?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), id);
        Ok(())
    }

    fn remove_one(&self, name: &str) -> Result<()> {
        let id = self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let id = id.with_context(|| format!("no pod {name} was run"))?;
        let cri = &self.containerd.cri;
        cri.stop_pod(&id)?;
        Ok(cri.remove_pod(&id)?)
    }
}

impl Pods for ByContainerd {
    fn name(&self) -> &'static str {
        "containerd, runc"
    }

    fn run(&self, names: &[String]) -> Result<()> {
        at_once(names, |name| self.run_one(name))
    }

    fn remove(&self, names: &[String]) -> Result<()> {
        at_once(names, |name| self.remove_one(name))
    }
}

/// Does it for all names at the same time.
fn at_once(names: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let started: Vec<_> = names.iter().map(|name| scope.spawn(|| work(name))).collect();
        let ended = started
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect()
    })
}
