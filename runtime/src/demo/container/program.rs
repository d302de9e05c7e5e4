//! The program that runs in a container: it serves, it probes, it says what it sees.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, BufRead, Write},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    time::Duration,
};

use anyhow::Result;
use netns_fixtures::{
    FixtureError, NetNs,
    probe::{IcmpWitness, Seen, TcpServer, UdpServer, ping, tcp_probe, udp_probe},
};

use super::{Answer, Identity, Refusal, Request};

/// The namespaces of a container that the demonstration compares.
const NAMESPACES: [&str; 5] = ["net", "ipc", "uts", "pid", "mnt"];
/// An answered ping was seen before its answer was sent; this is for the witness's thread to notice.
const WITNESS_LAG: Duration = Duration::from_secs(1);

/// Answers requests from `input` on `output` until `input` ends.
pub(super) fn run(input: impl BufRead, mut output: impl Write) -> Result<()> {
    let ns = NetNs::current()?;
    let mut program = Program { witness: IcmpWitness::start(&ns)?, ns, servers: vec![] };
    for line in input.lines() {
        let answer = program.answer(serde_json::from_str(&line?)?).map_err(refusal);
        writeln!(output, "{}", serde_json::to_string(&answer)?)?;
        output.flush()?;
    }
    Ok(())
}

struct Program {
    ns: NetNs,
    witness: IcmpWitness,
    servers: Vec<(TcpServer, UdpServer)>,
}

impl Program {
    fn answer(&mut self, request: Request) -> Result<Answer, FixtureError> {
        let millis = Duration::from_millis;
        Ok(match request {
            Request::Identify => Answer::Identity(identity(&self.ns)?),
            Request::Serve { address } => self.serve(address)?,
            Request::Tcp { to, within_ms } => seen(tcp_probe(&self.ns, None, to, millis(within_ms))?),
            Request::Udp { to, within_ms } => seen(udp_probe(&self.ns, None, to, millis(within_ms))?),
            Request::Ping { to, within_ms } => {
                let pong = ping(&self.ns, to, millis(within_ms))?;
                let rtt_us = u64::try_from(pong.rtt.as_micros()).unwrap_or(u64::MAX);
                Answer::Pong { token: pong.token, local: pong.local, rtt_us }
            }
            Request::PingedBy { token } => Answer::Source(self.witness.source_of(token, WITNESS_LAG)?),
        })
    }

    fn serve(&mut self, address: SocketAddr) -> Result<Answer, FixtureError> {
        let tcp = TcpServer::start(&self.ns, address)?;
        let udp = UdpServer::start(&self.ns, address)?;
        self.servers.push((tcp, udp));
        Ok(Answer::Serving)
    }
}

fn seen(seen: Seen) -> Answer {
    Answer::Seen { local: seen.local, by_peer: seen.seen_by_peer }
}

fn identity(ns: &NetNs) -> Result<Identity, FixtureError> {
    let os = |what: String| move |source| FixtureError::Os { what, source };
    let mut namespaces = BTreeMap::from([("net".to_owned(), ns.inode()?)]);
    for kind in NAMESPACES {
        let path = format!("/proc/self/ns/{kind}");
        let meta = fs::metadata(&path).map_err(os(format!("stat {path}")))?;
        namespaces.insert(kind.to_owned(), meta.ino());
    }
    let entries = fs::read_dir("/proc").map_err(os("list /proc".to_owned()))?.flatten();
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let hostname =
        nix::unistd::gethostname().map_err(|errno| os("get the host name".to_owned())(errno.into()))?;
    Ok(Identity {
        hostname: hostname.to_string_lossy().into_owned(),
        pid: std::process::id(),
        processes: entries.filter(is_process).count(),
        namespaces,
    })
}

fn refusal(error: FixtureError) -> Refusal {
    let errno = match &error {
        FixtureError::Os { source, .. } => source.raw_os_error(),
        FixtureError::Timeout { .. } => Some(libc::ETIMEDOUT),
        FixtureError::Netlink { .. } | FixtureError::Plan(_) => None,
    };
    let cause = error.source().map(|source| match source.downcast_ref::<io::Error>() {
        Some(e) if error.is_timeout() || e.kind() == io::ErrorKind::WouldBlock => {
            ": no answer in time".to_owned()
        }
        _ => format!(": {source}"),
    });
    Refusal { message: format!("{error}{}", cause.unwrap_or_default()), errno }
}
