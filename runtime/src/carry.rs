//! Two connections made one: what comes from one side goes to the other.

use std::{
    io,
    net::{Shutdown, TcpStream},
    thread,
};

/// Carries both ways, until both are at their end. One side may end before the other.
pub(crate) fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || carry(&from, &to));
    carry(client, server)?;
    back.join().unwrap_or(Ok(()))
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let carried = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Write)?;
    carried.map(|_| ())
}
