//! One look from a node at a port of a pod: a connection, or a request by HTTP or HTTPS.

mod tls;

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;

/// Where to look.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// The address
    to: SocketAddr,
    /// Ask for this by HTTP
    #[arg(long)]
    path: Option<String>,
    /// By HTTPS, whatever the certificate says
    #[arg(long, requires = "path")]
    tls: bool,
    /// And say this with it, as NAME: VALUE
    #[arg(long, allow_hyphen_values = true)]
    header: Vec<String>,
}

/// Looks; whoever waits for the end of this process has the patience.
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode> {
    let stream = TcpStream::connect(args.to).with_context(|| format!("connect to {}", args.to))?;
    let Some(path) = &args.path else {
        return Ok(ExitCode::SUCCESS);
    };
    let request = request(args, path);
    let status = if args.tls { ask(tls::over(stream, args.to)?, &request)? } else { ask(stream, &request)? };
    if !(200..400).contains(&status) {
        bail!("HTTP status {status}");
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &ProbeArgs, path: &str) -> String {
    let agent = concat!("kube-probe/flatpod-", env!("CARGO_PKG_VERSION"));
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = format!("GET {slash}{path} HTTP/1.1\r\n");
    let defaults = [
        format!("Host: {}", args.to),
        format!("User-Agent: {agent}"),
        "Accept: */*".to_owned(),
        "Connection: close".to_owned(),
    ];
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    // What the manifest says goes before what is said anyway.
    let is_own = |line: &&String| args.header.iter().any(|own| name(own) == name(line));
    for line in args.header.iter().chain(defaults.iter().filter(|line| !is_own(line))) {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

/// The status of the answer.
fn ask(mut stream: impl Read + Write, request: &str) -> Result<u16> {
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("read the answer")?;
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP answer")
}
