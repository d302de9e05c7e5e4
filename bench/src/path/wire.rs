//! What a path between two addresses carries: a TCP stream and UDP round trips, both ends on one core.
//!
//! On one core nothing is hidden: whatever either end's kernel does for a packet delays the other. With two
//! cores the figures would also say where the scheduler put what.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use netns_fixtures::NetNs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::sample::nearest_rank;

/// Bytes handed to the kernel at a time; more than the largest segment.
const CHUNK: usize = 256 << 10;
/// Before a figure counts: windows open, caches fill.
const WARM_UP: Duration = Duration::from_millis(50);
/// So long without a byte, and the path is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// A datagram that says no more will come.
const LAST: u8 = 0;

/// One end of a path.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) ns: NetNs,
    pub(crate) address: Ipv4Addr,
    /// The link that has the address.
    pub(crate) link: &'static str,
}

/// What is measured: bytes go from one end to the other, and pings there and back.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) from: End,
    pub(crate) to: End,
}

/// A TCP stream's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    /// Gbit/s of payload, as received.
    pub(crate) rate: f64,
    /// Mean size in bytes of the packets that the sender's link sent, as the kernel counted them: the
    /// segments that were really made. On `lo` the receiver's acknowledgements are among them.
    pub(crate) packet: f64,
}

/// Round trips, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trips {
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

/// A processor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Core(usize);

impl Core {
    /// The one asked for, else the last that this process may run on: the first mostly serves the
    /// machine's interrupts.
    ///
    /// # Errors
    /// This process may not run there.
    pub(crate) fn choose(wanted: Option<usize>) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("read the processors of this process")?;
        let may = |core: &usize| allowed.is_set(*core).unwrap_or(false);
        let found = wanted.or_else(|| (0..CpuSet::count()).rfind(may)).filter(may);
        found.map(Self).with_context(|| format!("this process may not run on processor {wanted:?}"))
    }

    fn pin(self) -> Result<()> {
        let mut only = CpuSet::new();
        only.set(self.0)?;
        sched_setaffinity(Pid::from_raw(0), &only).with_context(|| format!("run on processor {}", self.0))
    }
}

impl Wire {
    /// Sends as fast as it goes for so long.
    ///
    /// # Errors
    /// There is no way, or it breaks.
    pub(crate) fn stream(&self, core: Core, lasting: Duration) -> Result<Stream> {
        let listener = self.to.ns.run(|| TcpListener::bind((self.to.address, 0)))??;
        let at = listener.local_addr()?;
        let sender = self.from.ns.run(|| TcpStream::connect_timeout(&at, PATIENCE))??;
        let (receiver, _) = listener.accept()?;
        let before = self.from.sent()?;
        let rate = both(core, || push(sender), || drain(receiver, lasting))?;
        let [bytes, packets] = self.from.sent()?.map(|now| now as f64);
        let packet = (bytes - before[0] as f64) / (packets - before[1] as f64);
        Ok(Stream { rate, packet })
    }

    /// One byte there and back, again and again, for so long.
    ///
    /// # Errors
    /// There is no way, or an answer does not come.
    pub(crate) fn trips(&self, core: Core, lasting: Duration) -> Result<Trips> {
        let open = |end: &End| -> Result<UdpSocket> {
            let socket = end.ns.run(|| UdpSocket::bind((end.address, 0)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let (client, server) = (open(&self.from)?, open(&self.to)?);
        client.connect(server.local_addr()?)?;
        server.connect(client.local_addr()?)?;
        let mut all = both(core, || echo(&server), || ask(&client, lasting))?;
        all.sort_by(f64::total_cmp);
        Ok(Trips { median: nearest_rank(&all, 50), p99: nearest_rank(&all, 99) })
    }
}

impl End {
    /// Bytes and packets that the link has sent: columns 9 and 10 of `/proc/net/dev`.
    fn sent(&self) -> Result<[u64; 2]> {
        let table = self.ns.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        let mut lines = table.lines().filter_map(|line| line.trim_start().split_once(':'));
        let (_, figures) = lines.find(|(name, _)| *name == self.link).context("the link is not counted")?;
        let mut figures = figures.split_whitespace().skip(8).map(str::parse);
        let mut next = || figures.next().context("/proc/net/dev has too few columns");
        Ok([next()??, next()??])
    }
}

/// Runs both on one core, and answers with what the second measured.
fn both<T: Send>(
    core: Core,
    helper: impl FnOnce() -> Result<()> + Send,
    measure: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let helper = scope.spawn(|| core.pin().and_then(|()| helper()));
        let measured = scope.spawn(|| core.pin().and_then(|()| measure()));
        let measured = measured.join().map_err(|_| anyhow!("a measuring thread panicked"))?;
        let helped = helper.join().map_err(|_| anyhow!("a measuring thread panicked"))?;
        measured.and_then(|figures| helped.map(|()| figures))
    })
}

/// Writes until the receiver has seen enough and closes.
fn push(mut stream: TcpStream) -> Result<()> {
    let chunk = vec![0x5a; CHUNK];
    stream.set_write_timeout(Some(PATIENCE))?;
    while stream.write(&chunk).is_ok() {}
    Ok(())
}

/// Gbit/s of what arrives.
fn drain(mut stream: TcpStream, lasting: Duration) -> Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut chunk = vec![0; CHUNK];
    let mut until = |end: Instant| -> Result<u64> {
        let mut bytes = 0;
        while Instant::now() < end {
            let n = stream.read(&mut chunk).context("receive")?;
            ensure!(n > 0, "the sender closed its stream");
            bytes += u64::try_from(n)?;
        }
        Ok(bytes)
    };
    until(Instant::now() + WARM_UP)?;
    let start = Instant::now();
    let bytes = until(start + lasting)?;
    Ok(bytes as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64())
}

/// Sends back whatever comes, until the last.
fn echo(socket: &UdpSocket) -> Result<()> {
    let mut byte = [0; 1];
    loop {
        socket.recv(&mut byte).context("wait for a ping")?;
        if byte[0] == LAST {
            return Ok(());
        }
        socket.send(&byte).context("answer a ping")?;
    }
}

/// Microseconds of every round trip.
fn ask(socket: &UdpSocket, lasting: Duration) -> Result<Vec<f64>> {
    let trip = || -> Result<f64> {
        let start = Instant::now();
        socket.send(&[1]).context("send a ping")?;
        socket.recv(&mut [0; 1]).context("wait for an answer")?;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    };
    let until = |end: Instant| -> Result<Vec<f64>> {
        let mut all = Vec::new();
        while Instant::now() < end {
            all.push(trip()?);
        }
        Ok(all)
    };
    until(Instant::now() + WARM_UP)?;
    let all = until(Instant::now() + lasting)?;
    socket.send(&[LAST]).context("send the last ping")?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_to_itself_carries_both() {
        netns_fixtures::gate::require();
        let end = End { ns: NetNs::new().unwrap(), address: Ipv4Addr::LOCALHOST, link: "lo" };
        let wire = Wire { from: end.clone(), to: end };
        let (core, moment) = (Core::choose(None).unwrap(), Duration::from_millis(20));
        let stream = wire.stream(core, moment).unwrap();
        assert!(stream.rate > 0.0 && stream.packet > 60.0, "{stream:?}");
        let trips = wire.trips(core, moment).unwrap();
        assert!(trips.median > 0.0 && trips.p99 >= trips.median, "{trips:?}");
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(Core::choose(Some(CpuSet::count() + 1)).is_err());
    }
}
