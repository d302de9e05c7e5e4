//! A terminal for a process in a container: our own one is led through.

use std::{
    io::{self, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};

mod size {
    nix::ioctl_read_bad!(
        /// How large a terminal is.
        get,
        nix::libc::TIOCGWINSZ,
        nix::libc::winsize
    );
    nix::ioctl_write_ptr_bad!(
        /// Says how large it is.
        set,
        nix::libc::TIOCSWINSZ,
        nix::libc::winsize
    );
}

/// Where the launcher hands over the outer end of a new terminal.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens beside `file`.
    pub(crate) fn listen(file: &Path) -> Result<Self> {
        // Not in the pod's directory: a socket's path must be short.
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let path = std::env::temp_dir().join(format!("flatpod-{name}.sock"));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
        Ok(Self { listener, path })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The terminal's outer end.
    #[expect(unsafe_code, reason = "a received descriptor has no owner yet")]
    pub(crate) fn accept(self) -> Result<OwnedFd> {
        let (stream, _) = self.listener.accept().context("wait for the terminal")?;
        let mut text = [0; 256];
        let mut iov = [IoSliceMut::new(&mut text)];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
                .context("receive the terminal")?;
        let received = message.cmsgs().context("receive the terminal")?.find_map(|one| match one {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let fd = received.context("the launcher sent no terminal")?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Nothing but a file in a temporary directory is lost when this fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Our own terminal passes every key on; as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).context("set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Leads bytes between our terminal and `console` until the other side is closed.
pub(crate) fn pump(console: &OwnedFd) -> Result<()> {
    copy_size(console);
    let _raw = Raw::begin()?;
    let mut outer = std::fs::File::from(console.try_clone().context("duplicate the terminal")?);
    let mut buffer = [0; 4096];
    let mut reading = true;
    loop {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(console.as_fd(), PollFlags::POLLIN)];
        if reading {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for the terminal"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any() == Some(true)).collect();
        if ready.first() == Some(&true) {
            // EIO: nobody has the inner end open any more.
            match outer.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(bytes) => {
                    let mut out = io::stdout();
                    out.write_all(buffer.get(..bytes).unwrap_or_default()).context("write to stdout")?;
                    out.flush().context("write to stdout")?;
                }
            }
        }
        if ready.get(1) == Some(&true) {
            let bytes = nix::unistd::read(stdin.as_fd(), &mut buffer).unwrap_or(0);
            reading = bytes > 0;
            outer.write_all(buffer.get(..bytes).unwrap_or_default()).context("write to the terminal")?;
        }
    }
}

/// Makes the inner terminal as large as ours.
#[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
fn copy_size(console: &OwnedFd) {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both calls read or write one `winsize`, which `size` is, and the descriptors are open.
    let _ = unsafe {
        size::get(io::stdin().as_raw_fd(), &raw mut size)
            .and_then(|_| size::set(console.as_raw_fd(), &raw const size))
    };
}
