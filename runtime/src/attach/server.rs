//! The shim's side: who is attached, and what they ask for.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    SOCKET, Size, Stream,
    message::{Message, PIECE},
};
use crate::socket;

/// As much output is kept in bytes for who is attached and does not read.
const QUEUE: usize = 1 << 20;
/// As much of the output before anybody was attached is kept in bytes for who starts a container to attach to it.
const EARLY: usize = 64 * 1024;
/// Those who are attached get this long to read the last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What somebody who is attached asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Input(Vec<u8>),
    /// Who wrote will write no more.
    InputEnd,
    Resize(Size),
}

/// Those who are attached to a container.
#[derive(Debug)]
pub(crate) struct Attachers {
    listener: UnixListener,
    all: Vec<Attacher>,
    /// What was written so far, until somebody attaches.
    early: Option<Early>,
}

/// The end of what was written before anybody was attached.
#[derive(Debug, Default)]
struct Early {
    pieces: VecDeque<(Stream, Vec<u8>)>,
    size: usize,
}

impl Early {
    fn add(&mut self, stream: Stream, piece: &[u8]) {
        self.size += piece.len();
        self.pieces.push_back((stream, piece.to_vec()));
        while self.size > EARLY {
            let Some((_, oldest)) = self.pieces.pop_front() else { return };
            self.size -= oldest.len();
        }
    }
}

#[derive(Debug)]
struct Attacher {
    socket: UnixStream,
    /// It has said what it wants.
    greeted: bool,
    writes: bool,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    missed: u64,
    gone: bool,
}

impl Attachers {
    /// Nobody yet.
    pub(crate) fn listen(dir: &Path) -> Result<Self> {
        let listener = socket::listen_for_messages(dir, SOCKET)?;
        listener.set_nonblocking(true).context("listen for who attaches")?;
        Ok(Self { listener, all: vec![], early: Some(Early::default()) })
    }

    /// What to wait for. Input is left where it is while the container `takes_input` not.
    pub(crate) fn interests(&self, takes_input: bool) -> impl Iterator<Item = PollFd<'_>> {
        let one = move |attacher: &'_ Attacher| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, takes_input || !attacher.greeted);
            flags.set(PollFlags::POLLOUT, !attacher.queue.is_empty());
            flags
        };
        let listener = PollFd::new(self.listener.as_fd(), PollFlags::POLLIN);
        let all = self.all.iter().map(move |attacher| PollFd::new(attacher.socket.as_fd(), one(attacher)));
        std::iter::once(listener).chain(all)
    }

    /// Serves those who are `ready`, in the order of [`Self::interests`].
    pub(crate) fn serve(&mut self, ready: &[PollFlags]) -> Vec<Asked> {
        let Some((listener, rest)) = ready.split_first() else { return vec![] };
        let mut asked = vec![];
        for (attacher, flags) in self.all.iter_mut().zip(rest) {
            if flags.contains(PollFlags::POLLIN) {
                attacher.listen(&mut asked, &mut self.early);
            } else if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                attacher.gone = true;
            }
            if flags.contains(PollFlags::POLLOUT) {
                attacher.flush();
            }
        }
        if listener.contains(PollFlags::POLLIN) {
            self.accept();
        }
        let left = self.all.iter().filter(|attacher| attacher.gone && attacher.writes).count();
        asked.extend((0..left).map(|_| Asked::InputEnd));
        self.all.retain(|attacher| !attacher.gone);
        asked
    }

    /// Passes output on.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if let Some(early) = &mut self.early {
                early.add(stream, piece);
            }
            for attacher in self.all.iter_mut().filter(|attacher| attacher.greeted) {
                attacher.put(stream, piece);
            }
        }
    }

    /// Says that the container has ended, also to those who have just come, and lets them go when they have read it.
    pub(crate) fn finish(mut self, code: i32) {
        let until = Instant::now() + LAST_WORDS;
        self.accept();
        for attacher in self.all.iter_mut().filter(|attacher| !attacher.greeted) {
            attacher.listen(&mut vec![], &mut self.early);
        }
        for attacher in &mut self.all {
            attacher.say_what_was_missed();
            attacher.push(Message::Exit(code).encode());
        }
        loop {
            self.all.iter_mut().for_each(Attacher::flush);
            self.all.retain(|attacher| !attacher.gone && !attacher.queue.is_empty());
            let left = until.saturating_duration_since(Instant::now());
            if self.all.is_empty() || left.is_zero() {
                return;
            }
            let one = |attacher| PollFd::new(UnixStream::as_fd(attacher), PollFlags::POLLOUT);
            let mut fds: Vec<_> = self.all.iter().map(|attacher| one(&attacher.socket)).collect();
            // Whatever it says, there is another look, and an end to looking.
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let gone = socket.set_nonblocking(true).is_err();
            let (queue, queued, missed) = (VecDeque::new(), 0, 0);
            self.all.push(Attacher { socket, greeted: false, writes: false, queue, queued, missed, gone });
        }
    }
}

impl Attacher {
    /// Takes one message.
    fn listen(&mut self, asked: &mut Vec<Asked>, early: &mut Option<Early>) {
        let mut buffer = vec![0; PIECE + 1];
        let message = match self.socket.read(&mut buffer) {
            Ok(0) => None,
            Ok(bytes) => buffer.get(..bytes).and_then(Message::decode),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => None,
        };
        match message {
            Some(Message::Hello { input, early: wanted }) if !self.greeted => {
                (self.greeted, self.writes) = (true, input);
                let so_far = early.take().unwrap_or_default();
                for (stream, piece) in so_far.pieces.iter().filter(|_| wanted) {
                    self.put(*stream, piece);
                }
            }
            Some(Message::Input(bytes)) if self.writes => asked.push(Asked::Input(bytes)),
            Some(Message::InputEnd) if self.writes => {
                self.writes = false;
                asked.push(Asked::InputEnd);
            }
            Some(Message::Resize(size)) if self.greeted => asked.push(Asked::Resize(size)),
            // It has left, or it does not speak our language.
            _ => self.gone = true,
        }
    }

    fn put(&mut self, stream: Stream, piece: &[u8]) {
        // Once something is missing, there is a gap and not a hole in every other line.
        let limit = if self.missed > 0 { QUEUE / 2 } else { QUEUE };
        if self.queued + piece.len() > limit {
            self.missed += u64::try_from(piece.len()).unwrap_or(0);
            return;
        }
        self.say_what_was_missed();
        self.push(Message::Output(stream, piece.to_vec()).encode());
        self.flush();
    }

    fn say_what_was_missed(&mut self) {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            self.push(Message::Missed(missed).encode());
        }
    }

    fn push(&mut self, message: Vec<u8>) {
        self.queued += message.len();
        self.queue.push_back(message);
    }

    fn flush(&mut self) {
        while let Some(message) = self.queue.front() {
            match self.socket.write(message) {
                Ok(_) => {
                    self.queued -= message.len();
                    self.queue.pop_front();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(all: &mut Attachers) -> Vec<Asked> {
        let mut fds: Vec<_> = all.interests(true).collect();
        poll(&mut fds, PollTimeout::ZERO).unwrap();
        let ready: Vec<_> = fds.iter().map(|fd| fd.revents().unwrap()).collect();
        all.serve(&ready)
    }

    fn attach(dir: &Path, all: &mut Attachers, hello: &Message) -> UnixStream {
        let mut one = socket::connect_for_messages(dir, SOCKET).unwrap().unwrap();
        one.write_all(&hello.encode()).unwrap();
        assert!(serve(all).is_empty() && serve(all).is_empty());
        one
    }

    fn next(one: &mut UnixStream) -> Option<Message> {
        let mut buffer = vec![0; PIECE + 1];
        let bytes = one.read(&mut buffer).unwrap();
        Message::decode(&buffer[..bytes])
    }

    #[test]
    fn who_does_not_read_misses_something_and_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Attachers::listen(dir.path()).unwrap();
        all.output(Stream::Stderr, b"early");
        let hello = Message::Hello { input: false, early: true };
        let mut stalled = attach(dir.path(), &mut all, &hello);
        let mut reader = attach(dir.path(), &mut all, &hello);
        let line = vec![b'x'; 1000];
        let count = 4 * QUEUE / line.len();
        for _ in 0..count {
            all.output(Stream::Stdout, &line);
            serve(&mut all);
            assert_eq!(next(&mut reader), Some(Message::Output(Stream::Stdout, line.clone())));
        }
        all.finish(7);
        assert_eq!(next(&mut reader), Some(Message::Exit(7)));
        assert_eq!(next(&mut reader), None);
        assert_eq!(next(&mut stalled), Some(Message::Output(Stream::Stderr, b"early".to_vec())));
        let mut got = 0;
        while let Some(Message::Output(_, bytes)) = next(&mut stalled) {
            got += bytes.len();
        }
        assert!(got < count * line.len(), "{got}");
    }

    #[test]
    fn what_is_asked_for_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = Attachers::listen(dir.path()).unwrap();
        let mut one = attach(dir.path(), &mut all, &Message::Hello { input: true, early: false });
        let size = Size { rows: 1, columns: 2 };
        for message in [Message::Input(b"a".to_vec()), Message::Resize(size)] {
            one.write_all(&message.encode()).unwrap();
        }
        assert_eq!(serve(&mut all), [Asked::Input(b"a".to_vec())]);
        assert_eq!(serve(&mut all), [Asked::Resize(size)]);
        drop(one);
        assert_eq!(serve(&mut all), [Asked::InputEnd]);
        // Who only reads has no say.
        let mut other = attach(dir.path(), &mut all, &Message::Hello { input: false, early: false });
        other.write_all(&Message::Input(b"a".to_vec()).encode()).unwrap();
        assert_eq!(serve(&mut all), []);
        assert_eq!(other.read(&mut [0; 9]).unwrap(), 0, "it is let go");
    }
}
