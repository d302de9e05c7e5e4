//! The API server as a test handles it.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use netns_fixtures::NetNs;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::serve::{Shared, serve};
use super::world::{Asked, Faults};
use crate::etcd::Certificates;

/// An API server that has nodes and nothing else. It keeps what it holds while it is stopped, as etcd does
/// for the real one.
pub struct ApiServer {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// One at `ip` that does not run yet.
    ///
    /// # Panics
    /// The certificate cannot be used.
    #[must_use]
    pub fn prepare(ip: IpAddr, certificates: Option<&Certificates>) -> Self {
        let acceptor = |files: &Certificates| {
            let chain = CertificateDer::pem_file_iter(&files.server).expect("a file");
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
            let key = PrivateKeyDer::from_pem_file(&files.server_key).expect("a key");
            let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
            TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
        };
        Self {
            address: (ip, 6443).into(),
            tls: certificates.map(acceptor),
            shared: Arc::new(Shared::new()),
            running: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Starts it in `ns`.
    ///
    /// # Panics
    /// It cannot listen there.
    pub fn start(&mut self, ns: &NetNs) {
        let address = self.address;
        let listener = ns.run(|| TcpListener::bind(address)).expect("enter the namespace").expect("listen");
        let (stop, stopped) = watch::channel(false);
        let (tls, shared) = (self.tls.clone(), Arc::clone(&self.shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, tls, shared, stopped));
        });
        self.running = Some((stop, thread));
    }

    /// Stops it: whoever is connected is cut off, whoever connects is refused.
    ///
    /// # Panics
    /// It did already.
    pub fn stop(&mut self) {
        let (stop, thread) = self.running.take().expect("it runs");
        stop.send_replace(true);
        thread.join().expect("the server ends");
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Orders faults.
    pub fn fail(&self, order: impl FnOnce(&mut Faults)) {
        self.shared.change(|world| order(&mut world.faults));
    }

    /// From now on only this token is good.
    pub fn set_token(&self, token: &str) {
        self.shared.change(|world| world.token = Some(token.to_owned()));
    }

    /// JSON, without braces, that every node carries in its status.
    pub fn set_ballast(&self, ballast: String) {
        self.shared.change(|world| world.ballast = ballast);
    }

    /// Forgets what changed: no watch can go on from before.
    pub fn compact(&self) {
        self.shared.change(super::world::World::compact);
    }

    /// A node as kubelet registers it; empty `subnets` where none is assigned yet.
    pub fn add_node(&self, name: &str, address: &str, subnets: &[&str]) {
        let mut spec = json!({});
        if let Some(first) = subnets.first() {
            spec = json!({ "podCIDR": first, "podCIDRs": subnets });
        }
        let node = json!({
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "spec": spec,
            "status": {
                "addresses": [
                    { "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name },
                ],
                "conditions": [{ "type": "Ready", "status": "False", "lastHeartbeatTime": "2026-01-01T00:00:00Z" }],
            },
        });
        self.shared.change(|world| world.put(name, node));
    }

    /// Changes a node.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn change_node(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.shared.change(|world| {
            let mut node = world.nodes.get(name).cloned().expect("a node");
            change(&mut node);
            world.put(name, node);
        });
    }

    /// The node says that it lives, as kubelet does.
    pub fn heartbeat(&self, name: &str, count: u64) {
        self.change_node(name, |node| {
            node["status"]["conditions"][0]["lastHeartbeatTime"] =
                format!("2026-01-01T01:00:00.{count:06}Z").into();
        });
    }

    /// Deletes a node.
    pub fn delete_node(&self, name: &str) {
        self.shared.change(|world| world.delete(name));
    }

    /// A node as it is; null where there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> Value {
        self.shared.world().nodes.get(name).cloned().unwrap_or_default()
    }

    /// The node's condition that keeps pods away: status and reason.
    #[must_use]
    pub fn network_unavailable(&self, name: &str) -> Option<(String, String)> {
        let node = self.node(name);
        let all = node["status"]["conditions"].as_array()?;
        let found = all.iter().find(|it| it["type"] == "NetworkUnavailable")?;
        Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
    }

    /// One of flannel's annotations of a node.
    #[must_use]
    pub fn annotation(&self, node: &str, name: &str) -> Option<String> {
        let key = format!("flannel.alpha.coreos.com/{name}");
        self.node(node)["metadata"]["annotations"][key].as_str().map(str::to_owned)
    }

    /// Everything it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.world().asked.clone()
    }

    /// How often it was asked for this.
    #[must_use]
    pub fn count(&self, verb: &str, code: u16) -> usize {
        self.shared.world().asked.iter().filter(|it| it.verb == verb && it.code == code).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
    }
}
