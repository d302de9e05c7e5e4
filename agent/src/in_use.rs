//! Which cluster the node works with: what the store lists, and whoever the guard keeps. Remembered in
//! `STATEDIR/cluster.json`, so that neither a restart nor a store that is away makes the node forget.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flatnet_core::link::Mac;
use flatnet_core::names::NodeName;
use flatnet_core::overlay::cluster::{Cluster, Member};
use flatnet_core::overlay::guard::{Guard, Health, Held};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::status;
use crate::store::StoreState;

/// Version of the file that this build writes and reads.
const VERSION: u32 = 1;
/// How many peers are kept is not said again for so long.
const SAID: Duration = Duration::from_secs(10);

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("cluster.json")
}

/// The guard with a clock, a memory and a voice.
#[derive(Debug)]
pub(crate) struct InUse {
    guard: Guard,
    start: Instant,
    /// What an earlier run worked with, until the store has said something.
    remembered: Option<Arc<Cluster>>,
    held: Option<Held>,
    said: Said,
}

/// How many peers were said to be kept, and when.
#[derive(Debug, Default)]
struct Said(Option<(usize, Instant)>);

impl Said {
    /// Whether it is worth saying that so many are kept: at first, where they are twice as many, and now and
    /// then. Nodes that come back one by one are not a line each.
    fn is_news(&mut self, kept: usize, now: Instant) -> bool {
        let known = |(count, at): (usize, Instant)| kept < count * 2 && now.duration_since(at) < SAID;
        let news = !self.0.is_some_and(known);
        if news {
            self.0 = Some((kept, now));
        }
        news
    }
}

/// A cluster to work with.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    pub(crate) cluster: Arc<Cluster>,
    /// What deserves attention about it.
    pub(crate) remark: Option<String>,
    /// Peers that are kept though the store does not list them.
    pub(crate) kept: usize,
}

impl InUse {
    /// Recalls what an earlier run worked with. A damaged memory is reported and forgotten.
    pub(crate) fn recall(config: &Config) -> Self {
        let remembered = remembered(&config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(error, "the last cluster is forgotten");
            None
        });
        let remembered = remembered.map(Arc::new);
        Self {
            guard: Guard::new(config.guard, config.settings.node.clone(), remembered.clone()),
            start: Instant::now(),
            remembered,
            held: None,
            said: Said::default(),
        }
    }

    /// What to work with now; `None` while nothing is known at all.
    pub(crate) fn admit(&mut self, state: &StoreState) -> Option<Admitted> {
        let Some(listed) = &state.cluster else {
            // Before its first word a store may just need a moment.
            let cluster = self.remembered.clone().filter(|_| state.error.is_some())?;
            let remark = Some("working with the cluster of the run before".to_owned());
            return Some(Admitted { cluster, remark, kept: 0 });
        };
        let health = if state.error.is_none() { Health::Good } else { Health::Bad };
        let verdict = self.guard.admit(listed, health, self.start.elapsed());
        self.say(verdict.held);
        self.held = verdict.held;
        let remark = verdict.held.map(|held| self.remark(held));
        let kept = verdict.held.map_or(0, |held| held.kept);
        Some(Admitted { cluster: verdict.cluster, remark, kept })
    }

    /// When the guard has something to decide again.
    pub(crate) fn next(&self) -> Option<Duration> {
        let held = self.held?;
        // A store that is not well confirms nothing: its recovery wakes us, this is for the rest.
        Some(held.until.saturating_sub(self.start.elapsed()).max(Duration::from_millis(100)))
    }

    fn remark(&self, held: Held) -> String {
        let left = held.until.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return format!("{held} until the store can be read again");
        }
        format!("{held} until {}", time_of_day(SystemTime::now() + left))
    }

    fn say(&mut self, held: Option<Held>) {
        if let Some(held) = held.filter(|held| self.held != Some(*held))
            && self.said.is_news(held.kept, Instant::now())
        {
            tracing::warn!("{}", self.remark(held));
        }
        if let (Some(before), None) = (self.held, held) {
            self.said = Said::default();
            tracing::info!(kept = before.kept, "no peer is kept any more: all are listed again, or gone");
        }
    }
}

/// `12:00:30 UTC`.
fn time_of_day(at: SystemTime) -> String {
    let seconds = (status::seconds(at) + u64::from(status::rounds_up(at))) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    version: u32,
    networks: Vec<IpNetwork>,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Node {
    name: NodeName,
    address: IpAddr,
    subnets: Vec<IpNetwork>,
    vtep: Mac,
}

/// What an earlier run worked with.
///
/// # Errors
/// The file is damaged.
pub(crate) fn remembered(state_dir: &Path) -> Result<Option<Cluster>, String> {
    read(&path(state_dir))
}

fn read(path: &Path) -> Result<Option<Cluster>, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at(&e)),
    };
    let remembered: Remembered = serde_json::from_slice(&bytes).map_err(|e| at(&e))?;
    if remembered.version != VERSION {
        return Err(at(&format!("version {}; this build knows {VERSION}", remembered.version)));
    }
    let member = |node: Node| Member {
        name: node.name,
        address: node.address,
        subnets: node.subnets,
        vtep: node.vtep,
    };
    let nodes = remembered.nodes.into_iter().map(member).collect();
    Ok(Some(Cluster { networks: remembered.networks, nodes }))
}

/// Writes down what the node works with, whole or not at all.
///
/// # Errors
/// It cannot be written.
pub(crate) fn remember(state_dir: &Path, cluster: &Cluster) -> io::Result<()> {
    let node = |node: &Member| Node {
        name: node.name.clone(),
        address: node.address,
        subnets: node.subnets.clone(),
        vtep: node.vtep,
    };
    let nodes = cluster.nodes.iter().map(node).collect();
    let remembered = Remembered { version: VERSION, networks: cluster.networks.clone(), nodes };
    let path = path(state_dir);
    let beside = path.with_extension("json.new");
    let mut file = io::BufWriter::new(std::fs::File::create(&beside)?);
    serde_json::to_writer(&mut file, &remembered)?;
    file.flush()?;
    std::fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_recalled_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let name: NodeName = "n2".parse().unwrap();
        let member = Member {
            vtep: Mac::of_vtep(&name),
            name,
            address: "192.0.2.2".parse().unwrap(),
            subnets: vec!["10.244.2.0/24".parse().unwrap()],
        };
        let cluster = Cluster { networks: vec!["10.244.0.0/16".parse().unwrap()], nodes: vec![member] };
        assert_eq!(read(&path(dir.path())), Ok(None));
        remember(dir.path(), &cluster).unwrap();
        assert_eq!(read(&path(dir.path())), Ok(Some(cluster)));
        for bad in ["", "{}", r#"{"version":9,"networks":[],"nodes":[]}"#] {
            std::fs::write(path(dir.path()), bad).unwrap();
            let e = read(&path(dir.path())).unwrap_err();
            assert!(e.contains("cluster.json"), "{e}");
        }
    }

    #[test]
    fn a_thousand_that_go_and_come_back_are_a_few_lines() {
        let (start, mut said) = (Instant::now(), Said::default());
        let mut count = |kept: usize, i: u64| said.is_news(kept, start + Duration::from_millis(20 * i));
        let going = (0..1_000).filter(|i| count(4 + usize::try_from(*i).unwrap(), *i)).count();
        assert_eq!(going, 8, "4, 8, 16 and so on up to 512");
        let coming = (1_000..2_000).filter(|i| count(2_000 - usize::try_from(*i).unwrap(), *i)).count();
        assert_eq!(coming, 2, "one in ten seconds");
        let flapping = (2_000..2_400).filter(|i| count(7 + usize::try_from(*i % 2).unwrap(), *i)).count();
        assert_eq!(flapping, 1);
    }

    #[test]
    fn times_of_day_are_of_utc() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 9 + 43_230);
        assert_eq!(time_of_day(noon), "12:00:30 UTC");
        assert_eq!(time_of_day(noon + Duration::from_millis(1)), "12:00:31 UTC");
    }
}
