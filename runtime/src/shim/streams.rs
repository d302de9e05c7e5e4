//! The shim's ends of a container's input and output: pipes, or the outer end of a terminal.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags},
};

use super::Order;
use crate::{
    attach::{Size, Stream},
    terminal::never_wait,
};

/// As much input is taken in bytes before the container has read it.
const PENDING: usize = 64 * 1024;
/// What ends the input of who reads a terminal by lines (termios(3), VEOF).
const END_OF_INPUT: u8 = 0x04;
/// The most that is read at once.
const PIECE: usize = 64 * 1024;

/// The container's ends.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Our ends.
#[derive(Debug)]
pub(super) struct Streams {
    outputs: Vec<Output>,
    input: Option<Input>,
    /// The outer end of the container's terminal, if it has one.
    terminal: Option<OwnedFd>,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    fd: OwnedFd,
}

/// Its reader sees no end as long as this is here.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    /// Given, but not read by the container yet.
    pending: Vec<u8>,
    /// It ends when who writes first has no more.
    once: bool,
    ending: bool,
}

impl Input {
    fn new(fd: OwnedFd, order: &Order) -> Result<Self> {
        never_wait(&fd)?;
        Ok(Self { fd, pending: vec![], once: order.stdin_once, ending: false })
    }
}

impl Streams {
    /// Pipes, and the container's ends of them.
    pub(super) fn pipes(order: &Order) -> Result<(Self, Inner)> {
        let pipe = || io::pipe().context("make a pipe");
        let ((stdout, inner_out), (stderr, inner_err)) = (pipe()?, pipe()?);
        let (stdin, input) = if order.stdin {
            let (stdin, ours) = pipe()?;
            (stdin.into(), Some(Input::new(ours.into(), order)?))
        } else {
            (File::open("/dev/null").context("open /dev/null")?.into(), None)
        };
        let output = |stream, fd| Output { stream, fd };
        let outputs = vec![output(Stream::Stdout, stdout.into()), output(Stream::Stderr, stderr.into())];
        let inner = Inner { stdin, stdout: inner_out.into(), stderr: inner_err.into() };
        Ok((Self { outputs, input, terminal: None }, inner))
    }

    /// A terminal by its outer end, which never waits.
    pub(super) fn terminal(outer: OwnedFd, order: &Order) -> Result<Self> {
        let copy = || outer.try_clone().context("duplicate the terminal");
        let input = if order.stdin { Some(Input::new(copy()?, order)?) } else { None };
        let outputs = vec![Output { stream: Stream::Stdout, fd: copy()? }];
        Ok(Self { outputs, input, terminal: Some(outer) })
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = PollFd<'_>> {
        let outputs = self.outputs.iter().map(|output| PollFd::new(output.fd.as_fd(), PollFlags::POLLIN));
        let waiting = self.input.iter().filter(|input| !input.pending.is_empty());
        outputs.chain(waiting.map(|input| PollFd::new(input.fd.as_fd(), PollFlags::POLLOUT)))
    }

    /// What the container wrote, of the outputs that are ready in the order of [`Self::interests`].
    pub(super) fn read(&mut self, ready: &[PollFlags]) -> Vec<(Stream, Vec<u8>)> {
        let mut found = vec![];
        let mut flags = ready.iter();
        self.outputs.retain_mut(|output| {
            if flags.next().is_none_or(|flags| flags.is_empty()) {
                return true;
            }
            let read = read_some(&output.fd);
            let open = read.is_some();
            found.extend(read.filter(|bytes| !bytes.is_empty()).map(|bytes| (output.stream, bytes)));
            open
        });
        self.flush();
        found
    }

    /// Whether all output has ended.
    pub(super) fn are_silent(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Whether more input may be given.
    pub(super) fn take_input(&self) -> bool {
        self.input.as_ref().is_none_or(|input| input.pending.len() < PENDING)
    }

    /// Gives the container something to read.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if let Some(input) = self.input.as_mut().filter(|input| !input.ending) {
            input.pending.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// Who wrote will write no more: the end of the input, for who reads one writer only.
    pub(super) fn end_input(&mut self) {
        let on_terminal = self.terminal.is_some();
        if let Some(input) = self.input.as_mut().filter(|input| input.once && !input.ending) {
            input.ending = true;
            if on_terminal {
                input.pending.push(END_OF_INPUT);
            }
            self.flush();
        }
    }

    /// Gives the container's terminal another size.
    pub(super) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            size.put(terminal);
        }
    }

    fn flush(&mut self) {
        let Some(input) = &mut self.input else { return };
        while !input.pending.is_empty() {
            match nix::unistd::write(&input.fd, &input.pending) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(Errno::EAGAIN) => return,
                Ok(taken) => drop(input.pending.drain(..taken)),
                // Nobody will ever read it.
                Err(_) => {
                    self.input = None;
                    return;
                }
            }
        }
        if input.ending {
            self.input = None;
        }
    }
}

/// Reads what is there; nothing when it has ended.
fn read_some(fd: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; PIECE];
    loop {
        return match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => None,
            Ok(bytes) => {
                buffer.truncate(bytes);
                Some(buffer)
            }
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Some(vec![]),
            // EIO of a terminal: nobody has its inner end open any more.
            Err(_) => None,
        };
    }
}
