//! Routes to pods as the kernel tells of them.

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// `RTNLGRP_IPV4_ROUTE`, include/uapi/linux/rtnetlink.h.
const IPV4_ROUTES: u32 = 7;
/// A route that is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many /24 of the pods' network this thread's namespace reaches through `device`, asked of iproute2.
///
/// # Errors
/// `ip` cannot be run.
pub(crate) fn count(device: &str) -> Result<usize> {
    #[expect(clippy::disallowed_methods, reason = "iproute2 is the witness")]
    let output = Command::new("ip").args(["-4", "route", "show"]).output().context("run ip")?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    let device = format!(" dev {device} ");
    let text = String::from_utf8_lossy(&output.stdout);
    let leads_to_pods = |line: &&str| {
        let dst = line.split(' ').next().unwrap_or_default();
        dst.starts_with("10.") && dst.ends_with("/24") && format!("{line} ").contains(&device)
    };
    Ok(text.lines().filter(leads_to_pods).count())
}

/// Hears of every IPv4 route that is put.
pub(crate) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Of this thread's namespace, from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("open netlink")?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(IPV4_ROUTES).context("subscribe to routes")?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Self { socket, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Waits for the route to the /24 at `dst` and answers with the moment it was heard of.
    ///
    /// # Errors
    /// It does not come, or events were lost.
    pub(crate) fn wait_for(&mut self, dst: Ipv4Addr) -> Result<Instant> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    continue;
                }
                Err(e) => return Err(e).context("hear of routes"),
            }
            let now = Instant::now();
            if puts(&self.buffer, dst)? {
                return Ok(now);
            }
        }
        bail!("no route to {dst}/24 after {} s", PATIENCE.as_secs())
    }
}

fn puts(mut datagram: &[u8], dst: Ipv4Addr) -> Result<bool> {
    let wanted = RouteAttribute::Destination(RouteAddress::Inet(dst));
    while !datagram.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)?;
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = &message.payload
            && route.header.destination_prefix_length == 24
            && route.attributes.contains(&wanted)
        {
            return Ok(true);
        }
        let length = usize::try_from(message.header.length)?.next_multiple_of(4).max(16);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(false)
}
