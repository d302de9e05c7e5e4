//! A TCP connection whose every byte is compared.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netns_fixtures::NetNs;

use super::{End, meet};
use crate::oracle;

/// Bytes that are sent at once, and how often: a few megabytes a second, so that nothing but the network
/// under test is in their way.
const CHUNK: usize = 16 << 10;
const EVERY: Duration = Duration::from_millis(5);
/// Bytes that are read at once.
const ROOM: usize = 64 << 10;
/// A connection that stands for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that carries bytes one way.
#[derive(Debug)]
pub struct Bytes {
    ns: NetNs,
    port: u16,
    stop: Arc<AtomicBool>,
    stream: TcpStream,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

/// What a connection carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Bytes that arrived, each what it should be.
    pub bytes: u64,
    /// Segments that were sent again, as the kernel counts them (`tcpi_total_retrans`).
    pub again: u64,
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes as sent, {} segments sent again", self.bytes, self.again)
    }
}

/// The bytes of the stream come round after so many. A prime, so that no shift by a packet goes unnoticed.
const PERIOD: u8 = 251;

/// The stream from any place in its first period on, for as long as is sent or read at once.
fn pattern() -> Vec<u8> {
    (0..PERIOD).cycle().take(usize::from(PERIOD) + ROOM).collect()
}

/// Where in [`pattern`] this place of the stream is.
fn place(at: u64) -> usize {
    usize::try_from(at % u64::from(PERIOD)).unwrap_or_default()
}

impl Bytes {
    /// Connects one end to the other and starts sending.
    ///
    /// # Panics
    /// They cannot connect.
    #[must_use]
    pub fn start(from: End<'_>, to: End<'_>) -> Self {
        meet(from, to);
        let listener = to.0.run(|| TcpListener::bind((to.1, 0))).expect("enter the namespace");
        let listener = listener.expect("listen");
        let address = listener.local_addr().expect("an address");
        let stream = from.0.run(|| TcpStream::connect(address)).expect("enter the namespace");
        let stream = stream.expect("connect");
        stream.set_nodelay(true).expect("no delay");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        let (far, _) = listener.accept().expect("accept");
        far.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let stop = Arc::<AtomicBool>::default();
        let (stopped, near) = (Arc::clone(&stop), stream.try_clone().expect("a second handle"));
        Self {
            ns: from.0.clone(),
            port: address.port(),
            stop,
            stream,
            sender: std::thread::spawn(move || send(near, &stopped)),
            receiver: std::thread::spawn(move || receive(far)),
        }
    }

    /// Ends the connection in good order, and tells what it carried.
    ///
    /// # Panics
    /// It broke, a byte is not what it should be, or some are missing.
    #[must_use]
    pub fn stop(self) -> Carried {
        self.stop.store(true, Ordering::Release);
        self.sender.thread().unpark();
        let sent = self.sender.join().expect("the sender ends");
        let again = retransmitted(&self.ns, self.port);
        self.stream.shutdown(Shutdown::Write).expect("end the stream");
        let bytes = self.receiver.join().expect("the receiver ends");
        assert_eq!(bytes, sent, "bytes that arrived, and were sent");
        Carried { bytes, again }
    }
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> u64 {
    let (pattern, mut sent) = (pattern(), 0);
    while !stop.load(Ordering::Acquire) {
        stream.write_all(&pattern[place(sent)..][..CHUNK]).expect("the connection takes bytes");
        sent += u64::try_from(CHUNK).expect("a length");
        std::thread::park_timeout(EVERY);
    }
    sent
}

fn receive(mut stream: TcpStream) -> u64 {
    let (pattern, mut seen, mut buffer) = (pattern(), 0, vec![0; ROOM]);
    loop {
        let length = stream.read(&mut buffer).expect("the connection brings bytes");
        if length == 0 {
            return seen;
        }
        assert!(buffer[..length] == pattern[place(seen)..][..length], "wrong bytes after {seen}");
        seen += u64::try_from(length).expect("a length");
    }
}

/// The kernel's count for the connection to this port; `ss` leaves out a count of zero.
fn retransmitted(ns: &NetNs, port: u16) -> u64 {
    let shown = oracle::command(ns, &format!("ss -tinH dport = :{port}"));
    assert!(shown.contains("bytes_sent:"), "no connection to port {port}: {shown}");
    let total = shown.split_once(" retrans:").and_then(|(_, rest)| rest.split(' ').next()?.split_once('/'));
    total.map_or(0, |(_, total)| total.trim().parse().expect("a count"))
}
