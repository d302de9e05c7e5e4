//! The side of who attaches.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use anyhow::{Context, Result};

use super::{
    SOCKET, Size,
    message::{Message, PIECE},
};
use crate::{
    socket,
    terminal::{self, End, Far, Heard, Near},
};

/// How to attach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// Write to the container.
    pub(crate) input: bool,
    /// It has a terminal: ours is led through, if we have one.
    pub(crate) terminal: bool,
    /// Also what it wrote before anybody was attached.
    pub(crate) early: bool,
}

/// Attaches to the run in `dir` until it ends, or until the user leaves it. Nothing when it has no keeper any more.
pub(crate) fn attach(dir: &Path, session: Session) -> Result<Option<End>> {
    let Some(mut socket) = socket::connect_for_messages(dir, SOCKET)? else {
        return Ok(None);
    };
    let hello = Message::Hello { input: session.input, early: session.early };
    socket.write_all(&hello.encode()).context("attach to the container")?;
    socket.set_nonblocking(true).context("attach to the container")?;
    let terminal = session.terminal && terminal::is_here();
    let near = Near { input: session.input, terminal, leaves: true };
    let mut connection = Connection { socket, resized: false };
    terminal::pump(&mut connection, near).map(Some)
}

/// A connection to a shim.
struct Connection {
    socket: UnixStream,
    resized: bool,
}

impl Connection {
    /// Answers whether the shim took it.
    fn tell(&mut self, message: &Message) -> Result<bool> {
        match self.socket.write(&message.encode()) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // What it said before it left can still be read, and then the end.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(true),
            Err(e) => Err(e).context("write to the container"),
        }
    }
}

impl Far for Connection {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn receive(&mut self) -> Result<Heard> {
        let mut buffer = vec![0; PIECE + 1];
        let message = match self.socket.read(&mut buffer) {
            Ok(bytes) => buffer.get(..bytes).and_then(Message::decode),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(Heard::Nothing);
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => None,
            Err(e) => return Err(e).context("read from the container"),
        };
        Ok(match message {
            Some(Message::Output(stream, bytes)) => Heard::Output(stream, bytes),
            Some(Message::Missed(bytes)) => Heard::Missed(bytes),
            Some(Message::Exit(code)) => Heard::End(Some(code)),
            _ => Heard::End(None),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        Ok(if self.tell(&Message::Input(piece.to_vec()))? { piece.len() } else { 0 })
    }

    fn end_input(&mut self) -> Result<()> {
        self.tell(&Message::InputEnd).map(drop)
    }

    fn resize(&mut self, size: Size) -> Result<()> {
        if !self.resized {
            // Another size first: programs draw their screen anew for who has just come.
            let other = Size { rows: size.rows.saturating_add(1), columns: size.columns.saturating_add(1) };
            self.tell(&Message::Resize(other))?;
            self.resized = true;
        }
        self.tell(&Message::Resize(size)).map(drop)
    }
}
