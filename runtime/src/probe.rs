//! One look from a node at a port of a pod: a connection, or a request by HTTP.

use std::{
    io::{BufRead as _, BufReader, Write as _},
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
    /// And say this with it, as NAME: VALUE
    #[arg(long, allow_hyphen_values = true)]
    header: Vec<String>,
}

/// Looks; whoever waits for the end of this process has the patience.
pub(crate) fn run(args: &ProbeArgs) -> Result<ExitCode> {
    let mut stream = TcpStream::connect(args.to).with_context(|| format!("connect to {}", args.to))?;
    let Some(path) = &args.path else {
        return Ok(ExitCode::SUCCESS);
    };
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
    stream.write_all(request.as_bytes()).context("send the request")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("read the answer")?;
    let status: u16 =
        line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP answer")?;
    if !(200..400).contains(&status) {
        bail!("HTTP status {status}");
    }
    Ok(ExitCode::SUCCESS)
}
