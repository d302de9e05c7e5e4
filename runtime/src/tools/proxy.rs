//! What stands before a server that does not want to be reached.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result};
use clap::Args;

use super::{netexec::end_when_asked, small::say};
use crate::carry::join;

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
