//! As much HTTP as the tools need: one request, one answer, and that is all of a connection.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to ask for.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// http://ADDRESS[:PORT][/PATH]; an IPv6 address in brackets
    url: String,
    /// In seconds
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
}

/// Prints an answer's body, and its status where that is not a success.
pub(super) fn get(args: &GetArgs) -> Result<ExitCode> {
    let (to, host, path) = parts(&args.url)?;
    let patience = Duration::from_secs_f64(args.timeout);
    let mut stream = TcpStream::connect_timeout(&to, patience).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(patience)).context("limit the wait for the answer")?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").context("ask")?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer).with_context(|| format!("read the answer of {to}"))?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no HTTP answer")?;
    let (head, body) = answer.split_at(end);
    show(body.get(4..).unwrap_or_default()).context("write to stdout")?;
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().and_then(|line| line.split_once(' ')).unwrap_or_default().1;
    ensure!(status.starts_with('2'), "{}: {status}", args.url);
    Ok(ExitCode::SUCCESS)
}

/// The next prompt is to have a line of its own.
fn show(body: &[u8]) -> io::Result<()> {
    io::stdout().write_all(body)?;
    if body.last().is_some_and(|&last| last != b'\n') {
        io::stdout().write_all(b"\n")?;
    }
    Ok(())
}

/// Where to connect, the host as it was written, and the path.
fn parts(url: &str) -> Result<(SocketAddr, &str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} does not begin with http://"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let port_80 = || {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80))
    };
    let to = host.parse().ok().or_else(port_80);
    Ok((to.with_context(|| format!("{host} is no address; names are not looked up"))?, host, path))
}

/// Reads a request, and returns the path that it asks for.
pub(super) fn asked(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    Ok(first.split(' ').nth(1).unwrap_or("/").to_owned())
}

/// Answers a request, for good.
pub(super) fn answer(mut stream: &TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(body)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn urls_have_an_address_and_perhaps_a_port_and_a_path() {
        let known = |url| parts(url).map(|(to, _, path)| (to.to_string(), path)).ok();
        assert_eq!(known("http://10.0.0.1:8080/a/b?c"), Some(("10.0.0.1:8080".to_owned(), "/a/b?c")));
        assert_eq!(known("http://10.0.0.1"), Some(("10.0.0.1:80".to_owned(), "/")));
        assert_eq!(known("http://[fd00::1]/"), Some(("[fd00::1]:80".to_owned(), "/")));
        assert_eq!(known("http://[fd00::1]:81"), Some(("[fd00::1]:81".to_owned(), "/")));
        for bad in ["10.0.0.1", "https://10.0.0.1/", "http://web/", "http://10.0.0.1:x/"] {
            assert_eq!(known(bad), None, "{bad}");
        }
    }
}
