//! Sockets at paths of any length: the kernel takes 107 bytes of a path, so they are reached through the descriptor of
//! their directory.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket},
        stat::Mode,
    },
};

/// Listens for byte streams at `name` in `dir`. What an earlier listener left there is removed.
pub(crate) fn listen_for_streams(dir: &Path, name: &str) -> Result<UnixListener> {
    let short = Short::of(dir, name)?;
    short.clear()?;
    UnixListener::bind(&short.path).with_context(|| format!("listen at {}", dir.join(name).display()))
}

/// Listens for connections that keep messages apart at `name` in `dir`. What an earlier listener left is removed.
pub(crate) fn listen_for_messages(dir: &Path, name: &str) -> Result<UnixListener> {
    let told = || format!("listen at {}", dir.join(name).display());
    let short = Short::of(dir, name)?;
    short.clear()?;
    let socket = messages().with_context(told)?;
    let address = UnixAddr::new(&short.path).with_context(told)?;
    bind(socket.as_raw_fd(), &address).with_context(told)?;
    listen(&socket, Backlog::MAXCONN).with_context(told)?;
    Ok(UnixListener::from(socket))
}

/// Connects to [`listen_for_messages`]; nothing when nobody listens there.
pub(crate) fn connect_for_messages(dir: &Path, name: &str) -> Result<Option<UnixStream>> {
    let told = || format!("connect to {}", dir.join(name).display());
    let short = Short::of(dir, name)?;
    let socket = messages().with_context(told)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(&short.path).with_context(told)?) {
        Ok(()) => Ok(Some(UnixStream::from(socket))),
        Err(Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
        Err(errno) => Err(errno).with_context(told),
    }
}

fn messages() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// A short path to a file in a directory, good as long as this value lives.
struct Short {
    path: PathBuf,
    _dir: OwnedFd,
}

impl Short {
    fn of(dir: &Path, name: &str) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))?;
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd())), _dir: fd })
    }

    fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).context("remove an old socket"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn paths_may_be_long_and_messages_stay_apart() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(200));
        fs::create_dir(&deep).unwrap();
        assert!(connect_for_messages(&deep, "s").unwrap().is_none());
        let listener = listen_for_messages(&deep, "s").unwrap();
        let mut ours = connect_for_messages(&deep, "s").unwrap().unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.write_all(b"one").unwrap();
        ours.write_all(b"two").unwrap();
        let mut buffer = [0; 9];
        assert_eq!(theirs.read(&mut buffer).unwrap(), 3);
        drop(listener);
        assert!(connect_for_messages(&deep, "s").unwrap().is_none());
        listen_for_messages(&deep, "s").unwrap();
    }
}
