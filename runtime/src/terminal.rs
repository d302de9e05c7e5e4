//! Terminals: our own one is led through to a process in a container.

use std::{
    fs::File,
    io::{self, IoSliceMut, IsTerminal as _, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};

use crate::{
    attach::{Size, Stream},
    socket,
};

/// The keys that leave a container as it is: Ctrl-P, then Ctrl-Q, as everywhere.
const LEAVE: [u8; 2] = [0x10, 0x11];
/// The longest piece of input that is read at once.
const PIECE: usize = 4096;

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
    /// Listens at `name` in `dir`.
    pub(crate) fn listen(dir: &Path, name: &str) -> Result<Self> {
        Ok(Self { listener: socket::listen_for_streams(dir, name)?, path: dir.join(name) })
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The terminal's outer end, which never waits.
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
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        never_wait(&fd)?;
        Ok(fd)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // It goes with the run at the latest.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes reading and writing answer instead of waiting.
pub(crate) fn never_wait(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).context("read the flags of a descriptor")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).context("set the flags of a descriptor")
}

impl Size {
    /// That of our own terminal, if we have one.
    #[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
    fn own() -> Option<Self> {
        let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call writes one `winsize`, which `size` is, and the descriptor is open.
        unsafe { size::get(io::stdin().as_raw_fd(), &raw mut size) }.ok()?;
        Some(Self { rows: size.ws_row, columns: size.ws_col })
    }

    /// Gives the terminal behind `outer` this size; its processes are told.
    #[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
    pub(crate) fn put(self, outer: &OwnedFd) {
        let size = nix::libc::winsize { ws_row: self.rows, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call reads one `winsize`, which `size` is, and the descriptor is open. It fails when nobody
        // has the inner end open any more, and then it does not matter.
        let _ = unsafe { size::set(outer.as_raw_fd(), &raw const size) };
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

/// Whether our input is a terminal.
pub(crate) fn is_here() -> bool {
    io::stdin().is_terminal()
}

/// What is at the other end of our input and output.
pub(crate) trait Far {
    /// What to wait for.
    fn fd(&self) -> BorrowedFd<'_>;
    /// What it says now.
    fn receive(&mut self) -> Result<Heard>;
    /// Writes what it takes now; answers how much that was.
    fn send(&mut self, bytes: &[u8]) -> Result<usize>;
    /// There is no more to write.
    fn end_input(&mut self) -> Result<()>;
    /// Our terminal has this size.
    fn resize(&mut self, size: Size) -> Result<()>;
}

/// What the other end said.
#[derive(Debug)]
pub(crate) enum Heard {
    Nothing,
    Output(Stream, Vec<u8>),
    /// So many bytes were left out.
    Missed(u64),
    /// It is over; with the exit code, if that is known.
    End(Option<i32>),
}

/// How it came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Over(Option<i32>),
    /// The user has left.
    Left,
    /// This signal asked us to end.
    Asked(i32),
}

/// What we give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Near {
    /// Our input is passed on.
    pub(crate) input: bool,
    /// It is a terminal, and so is the other end: every key is passed on, and changes of size.
    pub(crate) terminal: bool,
    /// The user can leave, with a terminal by keys, and the other end goes on.
    pub(crate) leaves: bool,
}

/// Leads bytes between our input and output and the other end, until that is over or the user leaves.
pub(crate) fn pump(far: &mut impl Far, near: Near) -> Result<End> {
    let signals = signals(near)?;
    if let Some(size) = Size::own().filter(|_| near.terminal) {
        far.resize(size)?;
    }
    let _raw = (near.terminal && near.input).then(Raw::begin).transpose()?;
    let mut input = Input {
        open: near.input,
        held: vec![],
        keys: (near.leaves && near.terminal).then(LeaveKeys::default),
    };
    loop {
        let ready = wait(far, &input, &signals)?;
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if number != Signal::SIGWINCH as i32 {
                return Ok(End::Asked(number));
            }
            if let Some(size) = Size::own() {
                far.resize(size)?;
            }
        }
        if ready.output {
            match far.receive()? {
                Heard::Nothing => {}
                Heard::Output(stream, bytes) => show(stream, &bytes)?,
                Heard::Missed(bytes) => {
                    let told =
                        format!("flatpod: {bytes} bytes are not shown here; flatpod logs has them\r\n");
                    show(Stream::Stderr, told.as_bytes())?;
                }
                Heard::End(code) => return Ok(End::Over(code)),
            }
        }
        if ready.input && input.read(far)? {
            return Ok(End::Left);
        }
        input.flush(far)?;
    }
}

/// Tells of changes of our terminal's size, and of being asked to end: the terminal is to be as it was.
fn signals(near: Near) -> Result<SignalFd> {
    let sizes = [Signal::SIGWINCH].into_iter().filter(|_| near.terminal);
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().filter(|_| near.leaves);
    let watched: SigSet = sizes.chain(ends).collect();
    watched.thread_block().context("block signals")?;
    SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("watch signals")
}

fn show(stream: Stream, bytes: &[u8]) -> Result<()> {
    let shown = match stream {
        Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    };
    shown.with_context(|| format!("write to {}", stream.as_str()))
}

/// What there is to do.
struct Ready {
    output: bool,
    input: bool,
}

fn wait(far: &impl Far, input: &Input, signals: &SignalFd) -> Result<Ready> {
    let stdin = io::stdin();
    let mut wanted = PollFlags::POLLIN;
    wanted.set(PollFlags::POLLOUT, !input.held.is_empty());
    let mut fds = vec![PollFd::new(far.fd(), wanted)];
    let reads = input.open && input.held.is_empty();
    if reads {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno).context("wait for the terminal"),
    }
    let mut flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let more = |flags: Option<PollFlags>| flags.is_some_and(|f| f.intersects(!PollFlags::POLLOUT));
    let output = more(flags.next());
    let input = reads && more(flags.next());
    Ok(Ready { output, input })
}

/// Our input.
struct Input {
    open: bool,
    /// Read already, but not taken by the other end yet.
    held: Vec<u8>,
    keys: Option<LeaveKeys>,
}

impl Input {
    /// Reads what is there; answers whether the user leaves.
    fn read(&mut self, far: &mut impl Far) -> Result<bool> {
        let mut buffer = [0; PIECE];
        let bytes = nix::unistd::read(io::stdin().as_fd(), &mut buffer).unwrap_or(0);
        if bytes == 0 {
            self.open = false;
            far.end_input()?;
            return Ok(false);
        }
        let typed = buffer.get(..bytes).unwrap_or_default();
        let Some(keys) = &mut self.keys else {
            self.held.extend_from_slice(typed);
            return Ok(false);
        };
        let (passed, leaves) = keys.filter(typed);
        self.held.extend(passed);
        Ok(leaves)
    }

    fn flush(&mut self, far: &mut impl Far) -> Result<()> {
        if !self.held.is_empty() {
            let taken = far.send(&self.held)?;
            self.held.drain(..taken);
        }
        Ok(())
    }
}

/// Looks for the keys that leave.
#[derive(Debug, Default)]
struct LeaveKeys {
    half: bool,
}

impl LeaveKeys {
    /// What is to be passed on, and whether the user leaves.
    fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = vec![];
        for byte in typed {
            if std::mem::take(&mut self.half) {
                if *byte == LEAVE[1] {
                    return (passed, true);
                }
                passed.push(LEAVE[0]);
            }
            if *byte == LEAVE[0] {
                self.half = true;
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

/// The outer end of a terminal whose inner end a process of ours has.
#[derive(Debug)]
pub(crate) struct Outer(pub(crate) OwnedFd);

impl Far for Outer {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn receive(&mut self) -> Result<Heard> {
        let mut buffer = [0; PIECE];
        let mut outer = File::from(self.0.try_clone().context("duplicate the terminal")?);
        Ok(match outer.read(&mut buffer) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Heard::Nothing
            }
            // EIO: nobody has the inner end open any more.
            Ok(0) | Err(_) => Heard::End(None),
            Ok(bytes) => Heard::Output(Stream::Stdout, buffer.get(..bytes).unwrap_or_default().to_vec()),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        match nix::unistd::write(&self.0, bytes) {
            Ok(taken) => Ok(taken),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno).context("write to the terminal"),
        }
    }

    fn end_input(&mut self) -> Result<()> {
        Ok(())
    }

    fn resize(&mut self, size: Size) -> Result<()> {
        size.put(&self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_in_a_row_leave() {
        let mut keys = LeaveKeys::default();
        assert_eq!(keys.filter(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(keys.filter(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (vec![], true));
    }
}
