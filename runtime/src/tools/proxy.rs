//! What stands before a server that does not want to be reached.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result};
use clap::Args;

use super::{netexec::end_when_asked, small::say};

/// From where to where.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Where clients connect
    listen: SocketAddr,
    /// Where their connections are carried to
    target: SocketAddr,
}

pub(super) fn run(args: &ProxyArgs) -> Result<ExitCode> {
    let target = args.target;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("listen on {}", args.listen))?;
    end_when_asked()?;
    say(&format!("from {} to {target}", args.listen))?;
    for client in listener.incoming().flatten() {
        thread::spawn(move || {
            // The end of a connection, however it comes, is no reason to end.
            let _ = TcpStream::connect(target).and_then(|server| join(&client, &server));
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries both ways, until both are at their end.
fn join(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
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
