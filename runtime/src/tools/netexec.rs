//! A server that says who asked: enough HTTP for probes, browsers and curl, and the same by UDP.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use super::http;

/// Where to serve.
#[derive(Debug, Clone, Args)]
pub(super) struct NetexecArgs {
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    #[arg(long, default_value_t = 8081)]
    udp_port: u16,
    /// The address to serve at
    #[arg(long, default_value = "::")]
    address: std::net::IpAddr,
    /// /healthz fails after so many seconds; never when 0
    #[arg(long, default_value_t = 0.0)]
    unhealthy_after: f64,
}

/// What an answer is made from.
struct Asked {
    peer: SocketAddr,
    begun: Instant,
    unhealthy_after: f64,
}

pub(super) fn run(args: &NetexecArgs) -> Result<ExitCode> {
    let begun = Instant::now();
    let at = SocketAddr::new(args.address, args.http_port);
    let listener = TcpListener::bind(at).with_context(|| format!("serve {at}"))?;
    let at = SocketAddr::new(args.address, args.udp_port);
    let udp = UdpSocket::bind(at).with_context(|| format!("serve {at}"))?;
    end_when_asked()?;
    writeln!(io::stdout(), "serving HTTP on {} and UDP on {}", args.http_port, args.udp_port)
        .context("say so")?;
    thread::spawn(move || serve_udp(&udp));
    for stream in listener.incoming().flatten() {
        let unhealthy_after = args.unhealthy_after;
        thread::spawn(move || {
            // A client that goes away is no reason to end.
            let _ = serve(&stream, begun, unhealthy_after);
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// The first process of a container has no default for signals: it ends by a handler or by force.
pub(super) fn end_when_asked() -> Result<()> {
    let watched: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    watched.thread_block().context("block signals")?;
    thread::spawn(move || {
        if watched.wait().is_ok() {
            exit(0);
        }
    });
    Ok(())
}

fn serve(stream: &TcpStream, begun: Instant, unhealthy_after: f64) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let path = http::asked(stream)?;
    let context = Asked { peer, begun, unhealthy_after };
    let (status, body) = context.answer(&path);
    http::answer(stream, status, body.as_bytes())?;
    if let Some(code) = exit_code(&path) {
        exit(code);
    }
    Ok(())
}

impl Asked {
    fn answer(&self, path: &str) -> (&'static str, String) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let value = |key: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let ok = "200 OK";
        match path {
            "/" | "/hostname" => (ok, hostname()),
            "/clientip" => (ok, plain(self.peer)),
            "/echo" => (ok, value("msg").unwrap_or_default()),
            "/healthz"
                if self.unhealthy_after > 0.0
                    && self.begun.elapsed().as_secs_f64() > self.unhealthy_after =>
            {
                ("500 Internal Server Error", "unhealthy".to_owned())
            }
            "/healthz" | "/exit" => (ok, "ok".to_owned()),
            _ => ("404 Not Found", String::new()),
        }
    }
}

fn exit_code(path: &str) -> Option<i32> {
    let query = path.strip_prefix("/exit")?;
    let code = query.split(['?', '&']).find_map(|pair| pair.strip_prefix("code="));
    Some(code.and_then(|code| code.parse().ok()).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "it is asked for from other threads than main's")]
fn exit(code: i32) {
    std::process::exit(code);
}

fn serve_udp(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..bytes).unwrap_or_default()).into_owned();
        let answer = match text.trim() {
            "hostname" => hostname(),
            "clientip" => plain(peer),
            other => other.strip_prefix("echo ").unwrap_or_default().to_owned(),
        };
        // As with every datagram, nobody may be there to get it.
        let _ = socket.send_to(answer.as_bytes(), peer);
    }
}

/// The address as the client knows it: IPv4 ones arrive mapped into IPv6.
fn plain(peer: SocketAddr) -> String {
    SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string()
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
