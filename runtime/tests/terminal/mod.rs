//! A terminal with a program in it, and somebody who types and looks.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    process::{Child, Command},
};

use netns_fixtures::wait_until;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc::winsize,
    pty::openpty,
};

use crate::lab::{Lab, SOON};

nix::ioctl_write_ptr_bad!(
    /// Says how large a terminal is.
    set_size,
    nix::libc::TIOCSWINSZ,
    winsize
);

/// The terminal. Its program is killed with it.
pub(crate) struct Terminal {
    outer: File,
    child: Child,
    seen: String,
}

impl Terminal {
    /// Runs flatpod in a terminal of this many rows and columns.
    pub(crate) fn start(lab: &Lab, args: &[&str], rows: u16, columns: u16) -> Self {
        let pair = openpty(None, None).expect("a terminal");
        let outer = File::from(pair.master);
        fcntl(&outer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("flags");
        let inner = || pair.slave.try_clone().expect("a descriptor");
        // It makes the terminal its program's controlling one, which is told of changes.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_flatpod")]).args(args);
        command.env("FLATPOD_ROOT", lab.root()).stdin(inner()).stdout(inner()).stderr(inner());
        let terminal = Self { outer, child: command.spawn().expect("setsid runs"), seen: String::new() };
        terminal.resize(rows, columns);
        terminal
    }

    #[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the call reads one `winsize`, which `size` is, and the descriptor is open.
        unsafe { set_size(self.outer.as_raw_fd(), &raw const size) }.expect("a size");
    }

    pub(crate) fn enter(&mut self, keys: &str) {
        self.outer.write_all(keys.as_bytes()).expect("somebody reads the keys");
    }

    /// Types a command again and again until the answer is on the screen; what is on it already does not count.
    pub(crate) fn ask(&mut self, command: &str, answer: &str) {
        self.seen.clear();
        let mut looks = 0_u32;
        let found = wait_until(&format!("{answer:?} after {command:?}"), SOON, || {
            if looks.is_multiple_of(200) {
                self.enter(&format!("{command}\r"));
            }
            looks += 1;
            self.look(answer)
        });
        found.unwrap_or_else(|timeout| panic!("{timeout}; seen: {:?}", self.seen));
    }

    /// Waits until it is on the screen.
    pub(crate) fn until(&mut self, wanted: &str) {
        let found = wait_until(&format!("{wanted:?}"), SOON, || self.look(wanted));
        found.unwrap_or_else(|timeout| panic!("{timeout}; seen: {:?}", self.seen));
    }

    fn look(&mut self, wanted: &str) -> Option<()> {
        let mut buffer = [0; 4096];
        // Nothing there, or nobody any more.
        let bytes = self.outer.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
        self.seen.contains(wanted).then_some(())
    }

    /// Waits for the end of the program, and returns its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        let mut ended = None;
        let end = wait_until("the end of the program", SOON, || {
            // Somebody has to read, so that it can write.
            self.look("no such thing");
            ended = self.child.try_wait().expect("a child");
            ended.map(drop)
        });
        end.unwrap_or_else(|timeout| panic!("{timeout}; seen: {:?}", self.seen));
        ended.expect("it has ended").code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
