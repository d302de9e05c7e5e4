//! What the service manager is told (sd_notify(3)): ready, alive, how it goes, stopping. Without one,
//! nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A way to the service manager, where there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// The last status line, so that each is said once.
    said: Option<String>,
    ready: bool,
}

impl Notifier {
    /// Finds the service manager in the environment that it made.
    pub(crate) fn from_env() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(socket) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let manager = address(&socket).and_then(|at| Ok((UnixDatagram::unbound()?, at)));
        let manager =
            manager.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used")).ok();
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| for_us && *usec > 0).map(Duration::from_micros);
        Self { manager, watchdog, ..Self::default() }
    }

    /// How often [`Self::alive`] has to be called: half the time after which silence is death
    /// (sd_watchdog_enabled(3)).
    pub(crate) fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The loop comes round.
    pub(crate) fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// The agent works, and this is how it goes.
    pub(crate) fn works(&mut self, status: String) {
        if self.said.as_ref() == Some(&status) {
            return;
        }
        let line = status.lines().next().unwrap_or_default();
        let ready = if self.ready { "" } else { "READY=1\n" };
        self.send(&format!("{ready}STATUS={line}"));
        self.ready = true;
        self.said = Some(status);
    }

    /// The agent was told to stop.
    pub(crate) fn stopping() {
        Self::from_env().send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), manager) {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

/// A path, or with `@` in front a name in the abstract namespace (unix(7)).
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
    }
}
