//! The file store: a YAML list of nodes, read again whenever its folder says that something happened, and
//! now and then without being told.

mod listing;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flatnet_core::names::NodeName;
use flatnet_core::overlay::cluster::{Cluster, RawCluster};
use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use listing::Listing;

use super::StoreState;
use crate::readable::readable;
use crate::shutdown::Shutdown;
use crate::yaml;

/// A new file is often several events. Where the last one does not say that it is whole, it is read so long
/// after the first.
const GATHER: Duration = Duration::from_millis(20);
/// Reading again unasked catches what inotify cannot see: network file systems, targets of symlinks that
/// moved, folders that did not exist.
const RESCAN: Duration = Duration::from_secs(30);
/// Unasked while there is no folder to watch.
const RESCAN_BLIND: Duration = Duration::from_secs(1);

/// Reads and checks the cluster file of `node`.
///
/// # Errors
/// It cannot be read, is not a cluster, or does not list `node`.
pub(crate) fn load(path: &Path, node: &NodeName) -> Result<Cluster, String> {
    parse(path, node, &read(path)?)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn parse(path: &Path, node: &NodeName, text: &str) -> Result<Cluster, String> {
    let at = |e: String| format!("{}: {e}", path.display());
    let raw: RawCluster = yaml::read(text).map_err(at)?;
    let cluster = Cluster::check(&raw).map_err(|e| at(e.to_string()))?;
    match cluster.member(node) {
        Some(_) => Ok(cluster),
        None => Err(at(format!(
            "node {node} is not among its {} nodes; add it, or set `node` to the name it has there",
            cluster.nodes.len()
        ))),
    }
}

/// Follows the file until told to stop.
///
/// # Errors
/// inotify is not to be had.
pub(crate) async fn follow(
    path: PathBuf,
    node: NodeName,
    state: watch::Sender<StoreState>,
    mut stop: Shutdown,
) -> io::Result<()> {
    let mut folders = Folders::new(&path)?;
    let (mut last, mut known) = (None, None);
    loop {
        // Watched first, read afterwards: a change in between is an event, not a loss.
        let watching = folders.watch();
        let content = read(&path);
        let seen = Some(fingerprint(&content));
        if last != seen {
            last = seen;
            known = update(&state, (&path, &node), known, content).await;
        }
        let pause = if watching { RESCAN } else { RESCAN_BLIND };
        let heard = tokio::select! {
            // Cancel safe: what was read is gone, but so is the reason to have waited for it.
            heard = folders.changed() => heard?,
            // Cancel safe: a timer.
            () = tokio::time::sleep(pause) => Heard::Begun,
            // Cancel safe: a flag.
            () = stop.requested() => return Ok(()),
        };
        if heard == Heard::Begun {
            tokio::time::sleep(GATHER).await;
        }
    }
}

fn fingerprint(content: &Result<String, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Reads `text`: what is new in it where it follows `known`, else all of it. Answers also with what it is to
/// follow next.
fn parse_after(
    known: Option<Listing>,
    path: &Path,
    node: &NodeName,
    text: String,
) -> (Result<Arc<Cluster>, String>, Option<Listing>) {
    let followed = known.as_ref().and_then(|known| known.follow(&text));
    if let Some(listing) = followed.filter(|listing| listing.cluster().member(node).is_some()) {
        return (Ok(Arc::clone(listing.cluster())), Some(listing));
    }
    match parse(path, node, &text).map(Arc::new) {
        Ok(cluster) => (Ok(Arc::clone(&cluster)), Listing::of(text, cluster)),
        Err(error) => (Err(error), known),
    }
}

/// Parsing a large cluster takes a while, so it happens off the loop. Answers with what the next text is to
/// follow.
async fn update(
    state: &watch::Sender<StoreState>,
    (path, node): (&Path, &NodeName),
    known: Option<Listing>,
    content: Result<String, String>,
) -> Option<Listing> {
    let (file, node) = (path.to_owned(), node.clone());
    let parse = move || match content {
        Ok(text) => parse_after(known, &file, &node, text),
        Err(error) => (Err(error), known),
    };
    let parsed = tokio::task::spawn_blocking(parse).await;
    let (parsed, known) = parsed.unwrap_or_else(|e| (Err(e.to_string()), None));
    match parsed {
        Ok(cluster) => {
            tracing::info!(store = "file", path = %path.display(), nodes = cluster.nodes.len(), "cluster read");
            state.send_replace(StoreState {
                cluster: Some(cluster),
                loaded: Some(SystemTime::now()),
                ..StoreState::default()
            });
        }
        Err(error) => {
            // The rest is the place in the file, drawn: good on a terminal, not in a log line.
            let error = error.lines().next().unwrap_or_default().to_owned();
            let kept = state.borrow().cluster.is_some();
            let meanwhile = if kept { "keeping the last good cluster" } else { "waiting for a good one" };
            tracing::error!(store = "file", error, "cluster file not used; {meanwhile}");
            state.send_modify(|state| state.error = Some(error));
        }
    }
    known
}

/// What the last of several events says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// A file was closed by its writer, or moved into place: nothing more is to be waited for.
    Whole,
    /// There may be more to come.
    Begun,
}

impl Heard {
    fn of(event: EventMask) -> Self {
        if event.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) { Self::Whole } else { Self::Begun }
    }
}

/// The folders whose changes may change the file: its own, and its target's where it is a symbolic link.
struct Folders {
    path: PathBuf,
    inotify: AsyncFd<Inotify>,
}

impl Folders {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = readable(Inotify::init()?)?;
        Ok(Self { path: path.to_owned(), inotify })
    }

    /// Whether the file's own folder is there to be watched. Watching twice is watching once.
    fn watch(&mut self) -> bool {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::MOVE_SELF
            | WatchMask::DELETE_SELF
            | WatchMask::ONLYDIR;
        let mut watches = self.inotify.get_ref().watches();
        let own = self.path.parent().is_some_and(|folder| watches.add(folder, mask).is_ok());
        if let Ok(target) = self.path.canonicalize()
            && let Some(folder) = target.parent()
        {
            // A target that vanishes meanwhile is an event in the file's own folder, or found by rescan.
            let _ = watches.add(folder, mask);
        }
        own
    }

    async fn changed(&mut self) -> io::Result<Heard> {
        let mut buffer = [0; 4096];
        let mut heard = Heard::Begun;
        let mut guard = self.inotify.readable_mut().await?;
        loop {
            match guard.get_inner_mut().read_events(&mut buffer) {
                Ok(events) => heard = events.last().map_or(heard, |event| Heard::of(event.mask)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    return Ok(heard);
                }
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "network: { ipv4: 10.244.0.0/16, ipv6: \"fd00:10:244::/56\" }\n\
        nodes:\n\
        \x20 - { name: n1, address: 192.0.2.1, subnets: [10.244.1.0/24, \"fd00:10:244:1::/64\"] }\n\
        \x20 - { name: n2, address: 192.0.2.2, subnets: [10.244.2.0/24, \"fd00:10:244:2::/64\"] }\n";

    fn load_text(text: &str) -> Result<Cluster, String> {
        parse(Path::new("cluster.yaml"), &"n1".parse().unwrap(), text)
    }

    #[test]
    fn the_documented_form_is_read() {
        assert_eq!(load_text(GOOD).unwrap().nodes.len(), 2);
    }

    /// A file cut anywhere is an error or a smaller cluster that still has this node: never nothing.
    #[test]
    fn a_cut_file_is_never_an_empty_cluster() {
        for end in 0..GOOD.len() {
            if let Ok(cluster) = load_text(&GOOD[..end]) {
                assert!(!cluster.nodes.is_empty(), "cut at {end}");
            }
        }
    }

    #[test]
    fn errors_name_file_and_place() {
        let e = load_text(&GOOD.replace("address: 192.0.2.2", "adress: 192.0.2.2")).unwrap_err();
        assert!(e.contains("cluster.yaml") && e.contains("adress") && e.contains("line 4"), "{e}");
        let e = load_text(&GOOD.replace("n1", "n9")).unwrap_err();
        assert!(e.contains("node n1 is not among its 2 nodes"), "{e}");
        assert!(load_text("").unwrap_err().contains("is empty"));
    }

    #[test]
    fn only_a_file_that_is_complete_is_read_at_once() {
        assert_eq!(Heard::of(EventMask::CLOSE_WRITE), Heard::Whole);
        assert_eq!(Heard::of(EventMask::MOVED_TO), Heard::Whole);
        assert_eq!(Heard::of(EventMask::CREATE), Heard::Begun);
        assert_eq!(Heard::of(EventMask::DELETE | EventMask::ISDIR), Heard::Begun);
    }

    #[test]
    fn a_large_cluster_is_read() {
        let nodes: String = (0..20_000)
            .map(|i| {
                let (a, b) = (i / 256, i % 256);
                format!("  - {{ name: n{i}, address: 192.1.{a}.{b}, subnets: [10.{}.{}.0/24] }}\n", a, b)
            })
            .collect();
        let text = format!("network: {{ ipv4: 10.0.0.0/8 }}\nnodes:\n{nodes}");
        assert_eq!(load_text(&text).unwrap().nodes.len(), 20_000);
    }
}
