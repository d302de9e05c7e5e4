//! UDP at a steady rate.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns_fixtures::wait_until;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::{End, meet};
use crate::agent::{Loss, SOON};

/// Room at the receiver for as long as its thread may not be scheduled.
const RECEIVE_BUFFER: usize = 16 << 20;
/// So many datagrams may follow each other at once after the sender was not scheduled; the rest is not sent.
const BURST: u32 = 20;
/// How long the last datagrams may be on their way.
const LAST: Duration = Duration::from_secs(2);
/// How often the receiver looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A datagram: its number, and when it was sent, counted from the stream's start.
type Mark = (u32, Duration);

/// A stream of numbered datagrams.
#[derive(Debug)]
pub struct Datagrams {
    start: Instant,
    stop: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    arrived: Arc<Mutex<Vec<Mark>>>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<()>,
}

impl Datagrams {
    /// Starts sending a datagram from one end to the other `every` so often, and returns once they arrive.
    ///
    /// # Panics
    /// They never do.
    #[must_use]
    pub fn start(from: End<'_>, to: End<'_>, every: Duration) -> Self {
        meet(from, to);
        let bind = |(ns, ip): End<'_>| {
            let socket = ns.run(|| UdpSocket::bind((ip, 0))).expect("enter the namespace");
            socket.expect("bind a UDP socket")
        };
        let (near, far) = (bind(from), bind(to));
        setsockopt(&far, RcvBufForce, &RECEIVE_BUFFER).expect("room for datagrams");
        far.set_read_timeout(Some(LOOK)).expect("a read timeout");
        near.connect(far.local_addr().expect("an address")).expect("connect a UDP socket");
        let (stop, deaf) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let arrived = Arc::<Mutex<Vec<Mark>>>::default();
        let start = Instant::now();
        let (stopped, deafened, sink) = (Arc::clone(&stop), Arc::clone(&deaf), Arc::clone(&arrived));
        let stream = Self {
            start,
            stop,
            deaf,
            arrived,
            receiver: std::thread::spawn(move || receive(&far, &deafened, &sink)),
            sender: std::thread::spawn(move || send(&near, &stopped, (start, every))),
        };
        stream.flows("datagrams");
        stream
    }

    fn count(&self) -> usize {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for twenty more.
    ///
    /// # Panics
    /// They do not come soon; `what` says after what.
    pub fn flows(&self, what: &str) {
        let enough = self.count() + 20;
        let seen = wait_until(what, SOON, || (self.count() >= enough).then_some(()));
        assert!(seen.is_ok(), "{seen:?}");
    }

    /// Stops, waits for what is on its way, and tells what was lost. The gap is the time between the sending
    /// of the last datagram that arrived and of the next that did.
    ///
    /// # Panics
    /// Never, unless a thread did.
    #[must_use]
    pub fn stop(self) -> Loss {
        self.stop.store(true, Ordering::Release);
        self.sender.thread().unpark();
        let sent = self.sender.join().expect("the sender ends");
        let end = (sent, self.start.elapsed());
        let all_there = || {
            (self.arrived.lock().unwrap_or_else(PoisonError::into_inner).len())
                .ge(&usize::try_from(sent).unwrap_or(usize::MAX))
                .then_some(())
        };
        // Where some are lost this ends by its deadline, and the loss is told below.
        drop(wait_until("the last datagrams", LAST, all_there));
        self.deaf.store(true, Ordering::Release);
        self.receiver.join().expect("the receiver ends");
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone();
        arrived.sort_unstable();
        arrived.dedup();
        let received = u32::try_from(arrived.len()).expect("a count");
        arrived.push(end);
        let holes = arrived.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1);
        let gap = holes.map(|pair| pair[1].1.saturating_sub(pair[0].1)).max().unwrap_or_default();
        Loss { sent, lost: sent - received, gap_ms: u32::try_from(gap.as_millis()).unwrap_or(u32::MAX) }
    }
}

/// Answers with how many were sent.
fn send(socket: &UdpSocket, stop: &AtomicBool, (start, every): (Instant, Duration)) -> u32 {
    let (mut number, mut due) = (0u32, Duration::ZERO);
    while !stop.load(Ordering::Acquire) {
        let now = start.elapsed();
        if due > now {
            std::thread::park_timeout(due - now);
            continue;
        }
        let mut datagram = number.to_be_bytes().to_vec();
        datagram.extend(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).to_be_bytes());
        // One that the kernel refuses is one that does not arrive.
        drop(socket.send(&datagram));
        number += 1;
        due = (due + every).max(now.saturating_sub(every * BURST));
    }
    number
}

fn receive(socket: &UdpSocket, deaf: &AtomicBool, sink: &Mutex<Vec<Mark>>) {
    let mut datagram = [0; 12];
    while !deaf.load(Ordering::Acquire) {
        let Ok(12) = socket.recv(&mut datagram) else { continue };
        let [a, b, c, d, time @ ..] = datagram;
        let mark = (u32::from_be_bytes([a, b, c, d]), Duration::from_nanos(u64::from_be_bytes(time)));
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }
}
