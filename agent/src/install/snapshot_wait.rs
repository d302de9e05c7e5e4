//! Waits for the agent's first node snapshot: the sign that pods can be attached.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use flatnet_node_state::StateDir;
use inotify::{Inotify, WatchMask};
use tokio::io::unix::AsyncFd;

use crate::readable::{happened, readable};

/// Waits until there is a readable snapshot, at most for `limit`; whether there is.
///
/// # Errors
/// inotify is not to be had.
pub(crate) fn wait(state: &StateDir, limit: Duration) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the async runtime")?;
    runtime.block_on(async {
        match tokio::time::timeout(limit, appears(state)).await {
            Ok(done) => done.map(|()| true).context("watch the state directory"),
            Err(_) => Ok(false),
        }
    })
}

async fn appears(state: &StateDir) -> io::Result<()> {
    let mut inotify = readable(Inotify::init()?)?;
    loop {
        // Watched first, looked after: what comes in between wakes.
        watch(&inotify, state.path())?;
        if state.snapshot().is_ok_and(|snapshot| snapshot.is_some()) {
            return Ok(());
        }
        happened(&mut inotify).await?;
    }
}

/// Watches the directory, and those above it where it may be made. Watching twice is watching once.
fn watch(inotify: &AsyncFd<Inotify>, folder: &Path) -> io::Result<()> {
    let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::ONLYDIR;
    let mut above: Vec<&Path> = folder.ancestors().collect();
    above.reverse();
    for folder in above {
        match inotify.get_ref().watches().add(folder, mask) {
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"version":1,"node":"n1","subnets":["10.244.1.0/24"],"clusterNetworks":["10.244.0.0/16"],"mtu":1450,"segmentSize":65536,"masquerade":true}"#;

    #[test]
    fn it_comes_into_a_directory_that_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("run/flatnet");
        let state = StateDir::new(&below);
        assert!(!wait(&state, Duration::from_millis(50)).unwrap());
        let writer = std::thread::spawn(move || {
            std::fs::create_dir_all(&below).unwrap();
            std::fs::write(below.join("node.json"), "half").unwrap();
            std::fs::write(below.join(".tmp"), SNAPSHOT).unwrap();
            std::fs::rename(below.join(".tmp"), below.join("node.json")).unwrap();
        });
        assert!(wait(&state, Duration::from_secs(60)).unwrap());
        writer.join().unwrap();
    }
}
