//! Who takes part: the node's own network, flatnet, and the plugins it is compared with, each in a containerd
//! of its own on a node of its own, so that nobody meets the rules of another.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flatnet_tests::containerd::Containerd;
use flatnet_tests::containerd::cri::PodNetwork;
use netns_fixtures::wait_until;
use serde_json::{Value, json};

/// The node's port in front of the pods that have one; each pod is alone on its node.
const HOST_PORT: PodNetwork = PodNetwork::HostPort(31_080);

/// One way of connecting a pod, and the runtime that does it.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) network: PodNetwork,
    pub(crate) containerd: Containerd,
}

/// Every contender, the one without a network of its own first.
///
/// # Errors
/// A plugin is not there.
pub(crate) fn all(bin_dir: &Path, reference_dir: &Path) -> Result<Vec<Contender>> {
    let flatnet = bin_dir.join("flatnet");
    let ours = [("flatnet", flatnet.as_path()), ("loopback", flatnet.as_path())];
    let names = ["bridge", "host-local", "portmap", "loopback"];
    let paths = names.map(|name| reference_dir.join(name));
    let theirs: Vec<(&str, &Path)> = names.into_iter().zip(paths.iter().map(|path| path.as_path())).collect();
    for (name, path) in ours.iter().chain(&theirs) {
        ensure!(path.exists(), "there is no plugin {name} at {}", path.display());
    }
    let v4 = || plain(&["10.22.0.0/24"]);
    let dual = plain(&["10.22.0.0/24", "fd00:22::/64"]);
    Ok(vec![
        contender("host network", PodNetwork::Node, &ours, v4())?,
        contender("flatnet", PodNetwork::Own, &ours, v4())?,
        contender("flatnet + host port", HOST_PORT, &ours, v4())?,
        contender("flatnet dual stack + host port", HOST_PORT, &ours, dual)?,
        contender("bridge+host-local masquerade + portmap", HOST_PORT, &theirs, bridge())?,
    ])
}

/// flatnet as it is by default, with its state where it is on a node: containerd's `/run` is a fresh tmpfs.
fn plain(subnets: &[&str]) -> Value {
    json!([{
        "type": "flatnet", "stateDir": "/run/flatnet", "capabilities": { "portMappings": true },
        "subnets": subnets, "mtu": 1500, "masquerade": true,
    }])
}

/// The list of the reference plugins that does the same for IPv4.
fn bridge() -> Value {
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/24" }]] });
    json!([
        {
            "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "mtu": 1500,
            "ipam": ipam,
        },
        { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
    ])
}

/// Starts a containerd whose files are in memory, so that no disk is measured.
fn contender(
    name: &'static str,
    network: PodNetwork,
    programs: &[(&str, &Path)],
    plugins: Value,
) -> Result<Contender> {
    let dir = tempfile::tempdir_in("/dev/shm").context("make a folder for containerd")?;
    let mut containerd = Containerd::prepare(dir, programs);
    let list = json!({ "cniVersion": "1.0.0", "name": "bench", "plugins": plugins });
    containerd.write_conf("10-bench.conflist", &list.to_string());
    containerd.begin();
    containerd.load_images();
    Ok(Contender { name, network, containerd })
}

impl Contender {
    /// Runs a pod with a server, and looks whether it has what it is to have. This also makes what a node has
    /// from its first pod on: nobody's first pod is measured.
    ///
    /// # Errors
    /// A call fails, there is no address, or the server does not answer on the node's port.
    pub(crate) fn prove(&self) -> Result<()> {
        const SERVER: [&str; 6] = ["httpd", "-f", "-p", "8080", "-h", "/www"];
        let cri = &self.containerd.cri;
        let id = cri.run_pod_on("first", self.network)?;
        let addresses = cri.addresses(&id)?;
        let has_one = addresses.iter().any(|ip| !ip.is_empty());
        let wants_one = self.network != PodNetwork::Node;
        ensure!(has_one == wants_one, "the pod's addresses are {addresses:?}");
        if let PodNetwork::HostPort(port) = self.network {
            cri.run_container(&id, "first", "server", &SERVER)?;
            let node = SocketAddr::from(([192, 0, 2, 1], port));
            let answers = || TcpStream::connect_timeout(&node, Duration::from_secs(1)).ok();
            let asked = || wait_until("the server", Duration::from_secs(30), answers);
            self.containerd.node.ns.run(asked)?.with_context(|| format!("connect to {node}"))?;
        }
        cri.stop_pod(&id)?;
        Ok(cri.remove_pod(&id)?)
    }
}
