//! What the runtime asks of a container, and what it answers.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// Something for a container to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Say who and where you are.
    Identify,
    /// Serve TCP and UDP at this address until the end.
    Serve { address: SocketAddr },
    /// Connect, and let the server say which source it saw.
    Tcp { to: SocketAddr, within_ms: u64 },
    /// Send a datagram, and let the server say which source it saw.
    Udp { to: SocketAddr, within_ms: u64 },
    /// Ping.
    Ping { to: IpAddr, within_ms: u64 },
    /// Say where the echo request with this token came from.
    PingedBy { token: u64 },
}

/// A container's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Identity(Identity),
    Serving,
    /// The client's own address, and the one that the server saw.
    Seen {
        local: SocketAddr,
        by_peer: SocketAddr,
    },
    Pong {
        token: u64,
        local: IpAddr,
        rtt_us: u64,
    },
    Source(IpAddr),
}

/// A container as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) hostname: String,
    /// Its process id in its own PID namespace.
    pub(crate) pid: u32,
    /// How many processes it can see.
    pub(crate) processes: usize,
    /// Namespace inode by kind: net, ipc, uts, pid, mnt.
    pub(crate) namespaces: BTreeMap<String, u64>,
}

/// Why a container could not do it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The whole chain of causes.
    pub(crate) message: String,
    /// The kernel's error number, when it was the kernel.
    pub(crate) errno: Option<i32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
