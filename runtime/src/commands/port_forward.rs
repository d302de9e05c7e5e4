//! `port-forward`: ports of here that lead to ports of a pod, as kubectl's does. Connections are made inside the pod's
//! network, to its loopback, so that servers that listen nowhere else are reached.

use std::{
    fmt,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use flatpod::workload;
use netns_fixtures::NetNs;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{Found, NamespaceArg, find, node::say};
use crate::{carry::join, state::Root, supervisor};

/// Between two looks whether the pod is still there, in milliseconds.
const PERIOD: u16 = 200;
/// For a server of the pod to take a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// What leads where.
#[derive(Debug, Args)]
pub(crate) struct PortForwardArgs {
    /// The pod, or the first one of a workload as KIND/NAME
    pod: String,
    /// Ports: the same here and there, LOCAL:REMOTE, or :REMOTE for any that is free here; REMOTE may be a port's name
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    ports: Vec<Wanted>,
    /// Where to listen; localhost is 127.0.0.1 and ::1, as far as they are there
    #[arg(long, default_value = "localhost", value_delimiter = ',')]
    address: Vec<Place>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

/// A port here and a port there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// Nothing for one of the kernel's choice, or for the same as there.
    local: Option<u16>,
    remote: String,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, remote) =
            text.split_once(':').map_or((None, text), |(local, remote)| (Some(local), remote));
        if remote.is_empty() || remote.contains(':') || remote == "0" {
            return Err("expected LOCAL:REMOTE, REMOTE or :REMOTE".to_owned());
        }
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no port"));
        let local = match local {
            Some("") => Some(0),
            Some(local) => Some(number(local)?),
            None => None,
        };
        Ok(Self { local, remote: remote.to_owned() })
    }
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Localhost,
    At(IpAddr),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "localhost" => Ok(Self::Localhost),
            _ => text.parse().map(Self::At).map_err(|_| "expected an IP address or localhost".to_owned()),
        }
    }
}

/// A port of a pod.
#[derive(Debug)]
struct Target {
    pod: String,
    port: u16,
    /// The pod's network namespace, which may be another one later; nothing for that of the machine.
    net: Option<PathBuf>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} of pod {}", self.port, self.pod)
    }
}

/// Forwards until it is asked to end, or the pod is gone.
pub(crate) fn run(root: &Root, args: &PortForwardArgs) -> Result<ExitCode> {
    let found = find(root, &args.namespace.namespace, &args.pod)?;
    let name = found.pod.metadata.name.clone().unwrap_or_default();
    let phase = found.dir.status()?.and_then(|status| status.phase);
    let phase = phase.as_deref().unwrap_or("Pending");
    if phase != "Running" {
        bail!("pod {name} is not running, so nothing can be forwarded to it: it is {phase}");
    }
    // Before there are threads, so that in none of them.
    let asked: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    asked.thread_block().context("block signals")?;
    let asked = SignalFd::with_flags(&asked, SfdFlags::SFD_CLOEXEC).context("watch signals")?;
    let net = network(root, &found)?;
    for wanted in &args.ports {
        let port = number(&found, &wanted.remote)?;
        let target = Arc::new(Target { pod: name.clone(), port, net: net.clone() });
        for listener in listeners(&args.address, wanted.local.unwrap_or(target.port), &target)? {
            let here = listener.local_addr().context("see where it listens")?;
            say(&format!("Forwarding from {here} -> {}", target.port))?;
            let target = Arc::clone(&target);
            thread::spawn(move || accept(&listener, here.port(), &target));
        }
    }
    while is_on(&asked)? {
        if !found.dir.path().exists() || supervisor::is_over(&found.dir)? {
            bail!("pod {name} is gone");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The network that the pod's containers are in.
fn network(root: &Root, found: &Found) -> Result<Option<PathBuf>> {
    let is_the_nodes = found.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    if is_the_nodes {
        return Ok(supervisor::node_of(root, workload::node(&found.pod))?.netns);
    }
    Ok(Some(found.dir.file("net")))
}

/// The number of a port of the pod, which its containers may have given a name.
fn number(found: &Found, remote: &str) -> Result<u16> {
    if let Ok(number) = remote.parse() {
        return Ok(number);
    }
    let containers = found.pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|one| one.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(remote));
    let number = named.and_then(|port| u16::try_from(port.container_port).ok());
    let pod = found.pod.metadata.name.as_deref().unwrap_or_default();
    number.with_context(|| format!("{remote:?} is neither a port nor the name of one in pod {pod}"))
}

/// Listens at one port everywhere; a port that the kernel chooses is the same everywhere.
fn listeners(places: &[Place], port: u16, target: &Target) -> Result<Vec<TcpListener>> {
    let mut port = port;
    let mut all = vec![];
    for place in places {
        let addresses: &[IpAddr] = match place {
            Place::Localhost => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            Place::At(address) => &[*address],
        };
        let mut wrong = None;
        let before = all.len();
        for address in addresses {
            let at = SocketAddr::new(*address, port);
            match TcpListener::bind(at) {
                Ok(listener) => {
                    port = listener.local_addr().context("see where it listens")?.port();
                    all.push(listener);
                }
                Err(error) => wrong = wrong.or(Some((at, error))),
            }
        }
        if let Some((at, error)) = wrong.filter(|_| all.len() == before) {
            return Err(anyhow!(error)).with_context(|| format!("listen on {at} for {target}"));
        }
    }
    Ok(all)
}

fn accept(listener: &TcpListener, port: u16, target: &Arc<Target>) {
    for client in listener.incoming().flatten() {
        let target = Arc::clone(target);
        thread::spawn(move || {
            // Whoever reads this may have stopped; connections go on.
            let _ = say(&format!("Handling connection for {port}"));
            match target.connect() {
                // However a connection ends is its own affair.
                Ok(server) => drop(join(&client, &server)),
                Err(error) => drop(writeln!(io::stderr(), "flatpod: {target}: {error:#}")),
            }
        });
    }
}

impl Target {
    /// Connects inside the pod: IPv4 first, as kubectl's other end does.
    fn connect(&self) -> Result<TcpStream> {
        let connect = |ip: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(ip, self.port), PATIENCE);
        let either = || {
            connect(Ipv4Addr::LOCALHOST.into())
                .or_else(|refused| connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| refused))
        };
        let connected = match &self.net {
            Some(net) => NetNs::open(net).context("the pod is gone")?.run(either),
            None => Ok(either()),
        };
        connected.context("enter the pod's network")?.context("connect to it on the pod's loopback")
    }
}

/// Waits a little; answers whether to go on.
fn is_on(asked: &SignalFd) -> Result<bool> {
    let mut fds = [PollFd::new(asked.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(PERIOD)) {
        Ok(ready) => Ok(ready == 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno).context("wait to be asked to end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_kubectl_takes_them() {
        let wanted = |local, remote: &str| Ok(Wanted { local, remote: remote.to_owned() });
        assert_eq!("80".parse(), wanted(None, "80"));
        assert_eq!("8080:80".parse(), wanted(Some(8080), "80"));
        assert_eq!("8080:http".parse(), wanted(Some(8080), "http"));
        assert_eq!(":80".parse(), wanted(Some(0), "80"));
        assert_eq!("0:80".parse(), wanted(Some(0), "80"));
        for wrong in ["", ":", "80:", "x:80", "1:2:3", "0", "70000:80"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
        assert_eq!("localhost".parse(), Ok(Place::Localhost));
        assert_eq!("::".parse(), Ok(Place::At(Ipv6Addr::UNSPECIFIED.into())));
        assert!("example".parse::<Place>().is_err());
    }
}
