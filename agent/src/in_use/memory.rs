//! The cluster in use as it is on disk: `STATEDIR/cluster.json`, written whole, and `STATEDIR/cluster.changes`,
//! to which few nodes that come, change or go are added, one line a change.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flatnet_core::link::Mac;
use flatnet_core::names::NodeName;
use flatnet_core::overlay::cluster::{Cluster, Member};
use flatnet_core::overlay::settled::Change;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::pacing::random;

/// Version of the files that this build writes and reads.
const VERSION: u32 = 1;
/// After so many changes the whole is written again, so that their file stays small.
const CHANGES: usize = 1_000;

pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("cluster.json")
}

pub(crate) fn changes_path(state_dir: &Path) -> PathBuf {
    state_dir.join("cluster.changes")
}

/// What is written down.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    known: Option<Arc<Cluster>>,
    /// Number of the whole that changes are added to, and how many were.
    base: Option<(u64, usize)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Whole {
    version: u32,
    /// Any number: which changes belong to it.
    #[serde(default)]
    id: u64,
    networks: Vec<IpNetwork>,
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// [`Whole::id`] of what it changes.
    of: u64,
    put: Vec<Node>,
    gone: Vec<NodeName>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Node {
    name: NodeName,
    address: IpAddr,
    subnets: Vec<IpNetwork>,
    vtep: Mac,
}

impl Node {
    fn of(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            address: member.address,
            subnets: member.subnets.clone(),
            vtep: member.vtep,
        }
    }

    fn member(self) -> Member {
        Member { name: self.name, address: self.address, subnets: self.subnets, vtep: self.vtep }
    }
}

impl Memory {
    /// Whether it is `cluster` that is written down.
    pub(crate) fn is_of(&self, cluster: &Arc<Cluster>) -> bool {
        self.known.as_ref().is_some_and(|known| Arc::ptr_eq(known, cluster))
    }

    /// Writes `cluster`, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&mut self, state_dir: &Path, cluster: &Arc<Cluster>) -> io::Result<()> {
        *self = Self::default();
        let nodes = cluster.nodes.iter().map(Node::of).collect();
        let whole = Whole { version: VERSION, id: random(), networks: cluster.networks.clone(), nodes };
        let path = path(state_dir);
        let beside = path.with_extension("json.new");
        let mut file = io::BufWriter::new(File::create(&beside)?);
        serde_json::to_writer(&mut file, &whole)?;
        file.flush()?;
        std::fs::rename(&beside, &path)?;
        // What is there belongs to another whole. Where this fails, no change is added.
        let emptied = File::create(changes_path(state_dir));
        self.known = Some(Arc::clone(cluster));
        self.base = emptied.is_ok().then_some((whole.id, 0));
        Ok(())
    }

    /// Adds `change`, which makes `cluster` of what is written down. Answers whether it did: now and then it
    /// is time to write the whole again.
    ///
    /// # Errors
    /// It cannot be written; nothing may be added any more.
    pub(crate) fn add(
        &mut self,
        state_dir: &Path,
        change: &Change,
        cluster: &Arc<Cluster>,
    ) -> io::Result<bool> {
        let Some((of, count)) = self.base.filter(|(_, count)| *count < CHANGES) else { return Ok(false) };
        *self = Self::default();
        let line = Line { of, put: change.put.iter().map(Node::of).collect(), gone: change.gone.clone() };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        // Not made where it is gone: then the rest is gone too.
        File::options().append(true).open(changes_path(state_dir))?.write_all(&text)?;
        *self = Self { known: Some(Arc::clone(cluster)), base: Some((of, count + 1)) };
        Ok(true)
    }
}

/// What an earlier run worked with.
///
/// # Errors
/// A file is damaged.
pub(crate) fn remembered(state_dir: &Path) -> Result<Option<Cluster>, String> {
    let path = path(state_dir);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let whole: Whole = serde_json::from_slice(&bytes).map_err(|e| at(&e))?;
    if whole.version != VERSION {
        return Err(at(&format!("version {}; this build knows {VERSION}", whole.version)));
    }
    let mut cluster =
        Cluster { networks: whole.networks, nodes: whole.nodes.into_iter().map(Node::member).collect() };
    for line in changes(&changes_path(state_dir))?.into_iter().filter(|line| line.of == whole.id) {
        line.apply(&mut cluster);
    }
    Ok(Some(cluster))
}

impl Line {
    fn apply(self, cluster: &mut Cluster) {
        let mut put: HashMap<NodeName, Member> =
            self.put.into_iter().map(|node| (node.name.clone(), node.member())).collect();
        cluster.nodes.retain(|node| !self.gone.contains(&node.name));
        for node in &mut cluster.nodes {
            if let Some(new) = put.remove(&node.name) {
                *node = new;
            }
        }
        let mut new: Vec<Member> = put.into_values().collect();
        new.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        cluster.nodes.append(&mut new);
    }
}

/// A last line without an end was never whole: nothing was done of what it says.
fn changes(path: &Path) -> Result<Vec<Line>, String> {
    let bytes = read(path)?.unwrap_or_default();
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let read = |line: &[u8]| serde_json::from_slice(line).map_err(|e| format!("{}: {e}", path.display()));
    lines.map(read).collect()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, address: &str) -> Member {
        let name: NodeName = name.parse().unwrap();
        Member {
            vtep: Mac::of_vtep(&name),
            name,
            address: address.parse().unwrap(),
            subnets: vec!["10.244.2.0/24".parse().unwrap()],
        }
    }

    fn cluster(nodes: &[Member]) -> Arc<Cluster> {
        Arc::new(Cluster { networks: vec!["10.244.0.0/16".parse().unwrap()], nodes: nodes.to_vec() })
    }

    fn change(put: &[Member], gone: &[&str]) -> Change {
        let gone = gone.iter().map(|name| name.parse().unwrap()).collect();
        Change { steps: Vec::new(), put: put.to_vec(), gone }
    }

    #[test]
    fn what_was_remembered_is_recalled_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(&[member("n2", "192.0.2.2")]);
        assert_eq!(remembered(dir.path()), Ok(None));
        Memory::default().write(dir.path(), &cluster).unwrap();
        assert_eq!(remembered(dir.path()).unwrap().as_ref(), Some(&*cluster));
        for bad in ["", "{}", r#"{"version":9,"networks":[],"nodes":[]}"#] {
            std::fs::write(path(dir.path()), bad).unwrap();
            let e = remembered(dir.path()).unwrap_err();
            assert!(e.contains("cluster.json"), "{e}");
        }
    }

    #[test]
    fn changes_are_recalled_but_for_one_that_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (member("a", "192.0.2.1"), member("b", "192.0.2.2"), member("c", "192.0.2.3"));
        let moved = member("a", "192.0.2.9");
        let mut memory = Memory::default();
        let now = cluster(&[moved.clone(), c.clone()]);
        let first = change(&[moved.clone(), c.clone()], &["b"]);
        assert!(!memory.add(dir.path(), &first, &now).unwrap(), "there is nothing yet to add to");
        memory.write(dir.path(), &cluster(&[a, b])).unwrap();
        assert!(memory.add(dir.path(), &first, &now).unwrap() && memory.is_of(&now));
        assert_eq!(remembered(dir.path()).unwrap().as_ref(), Some(&*now));
        let last = cluster(&[moved]);
        assert!(memory.add(dir.path(), &change(&[], &["c"]), &last).unwrap());
        assert_eq!(remembered(dir.path()).unwrap().as_ref(), Some(&*last));
        let file = changes_path(dir.path());
        let text = std::fs::read(&file).unwrap();
        std::fs::write(&file, &text[..text.len() - 1]).unwrap();
        assert_eq!(remembered(dir.path()).unwrap().as_ref(), Some(&*now));
        std::fs::write(&file, "what is this\n").unwrap();
        assert!(remembered(dir.path()).unwrap_err().contains("cluster.changes"));
    }

    /// Killed between the two files, or run by a build that knows one only: changes of another whole count
    /// for nothing.
    #[test]
    fn changes_belong_to_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (member("a", "192.0.2.1"), member("b", "192.0.2.2"));
        let mut memory = Memory::default();
        memory.write(dir.path(), &cluster(&[])).unwrap();
        memory.add(dir.path(), &change(&[a], &[]), &cluster(&[])).unwrap();
        let changes = std::fs::read(changes_path(dir.path())).unwrap();
        let later = cluster(&[b]);
        memory.write(dir.path(), &later).unwrap();
        std::fs::write(changes_path(dir.path()), changes).unwrap();
        assert_eq!(remembered(dir.path()).unwrap().as_ref(), Some(&*later));
    }

    #[test]
    fn what_cannot_be_added_to_is_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::default();
        let (a, b) = (cluster(&[]), cluster(&[member("b", "192.0.2.2")]));
        memory.write(dir.path(), &a).unwrap();
        std::fs::remove_file(changes_path(dir.path())).unwrap();
        assert!(memory.add(dir.path(), &change(&b.nodes, &[]), &b).is_err());
        assert!(!memory.is_of(&a) && !memory.is_of(&b));
        memory.write(dir.path(), &b).unwrap();
        for _ in 0..CHANGES {
            assert!(memory.add(dir.path(), &change(&[], &[]), &b).unwrap());
        }
        assert!(!memory.add(dir.path(), &change(&[], &[]), &b).unwrap(), "the file stays small");
    }
}
