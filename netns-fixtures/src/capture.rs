//! What goes over a wire: an AF_PACKET socket and a thread that reads it.

use std::{
    io::{self, Write},
    net::Shutdown,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
    },
};

use crate::{FixtureError, NetNs, Packet, decode, wait_until};

/// The VXLAN port that Flatnet and flannel use on Linux.
const VXLAN_PORT: u16 = 8472;
/// Room for a burst while the reader thread is not scheduled.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The largest frame: a 64 KiB segmentation-offload packet and its headers, or IPv6 jumbo ones.
const LARGEST_FRAME: usize = 256 << 10;

type Seen = Arc<Mutex<Vec<Packet>>>;

/// A running capture. Stops when dropped.
///
/// A frame that a host sends through several of its interfaces is seen on each of them; a capture of
/// a single cable sees it once.
#[derive(Debug)]
pub struct Capture {
    seen: Seen,
    reader: Option<(UnixStream, JoinHandle<()>)>,
}

impl Capture {
    /// Captures on `interface` of `ns`, or on all of them. UDP port 8472 is decoded as VXLAN.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn start(ns: &NetNs, interface: Option<&str>) -> Result<Self, FixtureError> {
        Self::start_with_vxlan_port(ns, interface, VXLAN_PORT)
    }

    /// Like [`Capture::start`], with another VXLAN port.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses.
    pub fn start_with_vxlan_port(
        ns: &NetNs,
        interface: Option<&str>,
        vxlan_port: u16,
    ) -> Result<Self, FixtureError> {
        let socket = ns.run(|| open(interface))??;
        let (stop, stopped) = UnixStream::pair().map_err(FixtureError::os("make a socket pair"))?;
        let seen = Seen::default();
        let sink = Arc::clone(&seen);
        let reader = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || read(&socket, &stopped, &sink, vxlan_port))
            .map_err(FixtureError::os("start the capture thread"))?;
        Ok(Self { seen, reader: Some((stop, reader)) })
    }

    /// The packets seen until now.
    pub fn packets(&self) -> Vec<Packet> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a packet that `wanted` says yes to; looks at the ones already seen first.
    ///
    /// # Errors
    /// [`FixtureError::Timeout`] when there is none in time.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Packet) -> bool,
    ) -> Result<Packet, FixtureError> {
        wait_until(what, within, || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.iter().find(|packet| wanted(packet)).cloned()
        })
    }

    /// Forgets what was seen until now.
    pub fn clear(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Stops, and returns everything that arrived before.
    pub fn stop(mut self) -> Vec<Packet> {
        self.join();
        self.packets()
    }

    fn join(&mut self) {
        if let Some((mut stop, reader)) = self.reader.take() {
            // The other end is held by the thread; when it is gone already, there is nobody to wake.
            let _ = stop.write_all(b"x").and_then(|()| stop.shutdown(Shutdown::Both));
            // A panic of the reader has printed itself; what it saw until then is still there.
            let _ = reader.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.join();
    }
}

fn open(interface: Option<&str>) -> Result<OwnedFd, FixtureError> {
    let what = || format!("capture on {}", interface.unwrap_or("all interfaces"));
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        .map_err(FixtureError::errno(what()))?;
    setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).map_err(FixtureError::errno(what()))?;
    if let Some(name) = interface {
        let index = nix::net::if_::if_nametoindex(name).map_err(FixtureError::errno(what()))?;
        bind(&fd, index).map_err(FixtureError::os(what()))?;
        // Frames of other interfaces may have arrived between socket() and bind().
        let mut scrap = [0; 64];
        while recv(fd.as_raw_fd(), &mut scrap, MsgFlags::empty()).is_ok() {}
    }
    Ok(fd)
}

#[expect(unsafe_code, reason = "nix has no constructor for a link-layer address")]
fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data, and all zeroes is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are of one live sockaddr_ll.
    let done = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads until told to stop, then what is still queued.
fn read(socket: &OwnedFd, stopped: &UnixStream, sink: &Seen, vxlan_port: u16) {
    let mut buffer = vec![0; LARGEST_FRAME];
    loop {
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err_and(|e| e != Errno::EINTR) {
            return;
        }
        let stop = fds[1].any().unwrap_or(true);
        while let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            if let Some(packet) = buffer.get(..len).and_then(|frame| decode(frame, vxlan_port)) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(packet);
            }
        }
        if stop {
            return;
        }
    }
}
