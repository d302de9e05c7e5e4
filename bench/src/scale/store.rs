//! Where the agent under test reads its cluster, and where nodes join: a file, or an etcd of our own.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use netns_fixtures::{KillOnDrop, NetNs, wait_until};
use tokio::runtime::Runtime;

use super::cluster::{self, Form, Simulated};

/// Only the namespace of the node sees it.
const ENDPOINT: &str = "http://127.0.0.1:2379";
/// etcd takes 128 operations in one transaction.
const AT_ONCE: usize = 128;
/// flannel's.
const LEASE_SECONDS: i64 = 86_400;
const PATIENCE: Duration = Duration::from_secs(60);

/// The kinds of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A cluster file in YAML, as the documentation shows it.
    File,
    /// A cluster file in JSON.
    Json,
    /// etcd.
    Etcd,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Json => "json",
            Self::Etcd => "etcd",
        })
    }
}

/// A store with nodes in it.
pub(crate) enum Store {
    File(ClusterFile),
    Etcd(Box<Etcd>),
}

impl Store {
    /// Prepares a store with `count` nodes below `dir`. To be called inside the node's namespace.
    ///
    /// # Errors
    /// It cannot be written, or etcd does not run.
    pub(crate) fn prepare(
        kind: Kind,
        dir: &Path,
        (ns, address): (&NetNs, Ipv4Addr),
        count: u16,
    ) -> Result<Self> {
        Ok(match kind {
            Kind::File => Self::File(ClusterFile::write(&cluster::YAML, dir, (address, count))?),
            Kind::Json => Self::File(ClusterFile::write(&cluster::JSON, dir, (address, count))?),
            Kind::Etcd => Self::Etcd(Etcd::start(ns, dir, count)?.into()),
        })
    }

    /// The agent's configuration of it.
    pub(crate) fn configuration(&self) -> String {
        match self {
            Self::File(file) => format!("store: {{ file: {{ path: {} }} }}", file.path.display()),
            Self::Etcd(_) => format!("store: {{ etcd: {{ endpoints: [\"{ENDPOINT}\"] }} }}"),
        }
    }

    /// Lets a node join; answers with the moment at which it began to be known.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn join(&mut self, node: Simulated) -> Result<Instant> {
        match self {
            Self::File(file) => file.join(node),
            Self::Etcd(etcd) => etcd.join(node),
        }
    }
}

/// A cluster file, replaced whole.
pub(crate) struct ClusterFile {
    form: &'static Form,
    path: PathBuf,
    /// Without its end.
    text: String,
}

impl ClusterFile {
    fn write(form: &'static Form, dir: &Path, (address, count): (Ipv4Addr, u16)) -> Result<Self> {
        let folder = dir.join("store");
        fs::create_dir(&folder).context("make the store's folder")?;
        let mut text = form.head(address);
        text.extend(Simulated::present(count).map(|node| form.node(node)));
        let file = Self { form, path: folder.join("cluster.yaml"), text };
        file.replace()?;
        Ok(file)
    }

    fn join(&mut self, node: Simulated) -> Result<Instant> {
        self.text += &self.form.node(node);
        self.replace()
    }

    fn replace(&self) -> Result<Instant> {
        // Written in another folder: the agent watches its own.
        let beside = self.path.parent().and_then(Path::parent).context("a folder")?.join("cluster.new");
        let mut file = File::create(&beside)?;
        file.write_all(self.text.as_bytes()).context("write the cluster file")?;
        file.write_all(self.form.end.as_bytes()).context("write the cluster file")?;
        drop(file);
        let start = Instant::now();
        fs::rename(&beside, &self.path).context("replace the cluster file")?;
        Ok(start)
    }
}

/// An etcd with one member.
pub(crate) struct Etcd {
    runtime: Runtime,
    client: Client,
    lease: i64,
    _process: KillOnDrop,
}

impl Etcd {
    fn start(ns: &NetNs, dir: &Path, count: u16) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.join("etcd"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(dir.join("etcd.log"))?);
        ns.enter_for_child(&mut command)?;
        let process = KillOnDrop::new(command.spawn().context("start etcd; is etcd-server installed?")?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connect = || {
            runtime.block_on(async {
                let mut client = Client::connect([ENDPOINT], None).await.ok()?;
                client.status().await.ok()?;
                Some(client)
            })
        };
        let mut client = wait_until("etcd to serve", PATIENCE, connect)?;
        let lease = runtime.block_on(fill(&mut client, count)).context("fill etcd")?;
        Ok(Self { runtime, client, lease, _process: process })
    }

    fn join(&mut self, node: Simulated) -> Result<Instant> {
        let options = PutOptions::new().with_lease(self.lease);
        let start = Instant::now();
        self.runtime.block_on(self.client.put(node.key(), node.value(), Some(options)))?;
        Ok(start)
    }
}

/// Writes the network and the nodes, and answers with the lease that the nodes have.
async fn fill(client: &mut Client, count: u16) -> Result<i64> {
    let network = format!("{{\"Network\":\"{}\",\"Backend\":{{\"Type\":\"vxlan\"}}}}", cluster::NETWORK);
    client.put("/coreos.com/network/config", network, None).await?;
    let lease = client.lease_grant(LEASE_SECONDS, None).await?.id();
    let put =
        |node: Simulated| TxnOp::put(node.key(), node.value(), Some(PutOptions::new().with_lease(lease)));
    let all: Vec<TxnOp> = Simulated::present(count).map(put).collect();
    for some in all.chunks(AT_ONCE) {
        let done = client.txn(Txn::new().and_then(some)).await?;
        ensure!(done.succeeded(), "etcd refused {} nodes", some.len());
    }
    Ok(lease)
}
