//! A pod's sandbox: the namespaces that its containers share, mounted so that no container's end changes them,
//! and attached to the pod network once for the pod's life.

mod files;
mod pin;

use std::{fs, path::Path, thread};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use netns_fixtures::NetNs;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
};

use crate::{
    cgroup::Cgroup,
    cni::{Attachment, Capabilities, Network},
    container::{is_mount, pod_limits},
    state::{NodeRecord, PodDir, SandboxRecord},
};

pub(crate) use files::hostname;
pub(crate) use pin::{pin, unpin};

/// What the kernel's own namespaces lack to be a pod's: unprivileged ports and pings, as containerd sets them.
const NET_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
/// The size of a pod's `/dev/shm`: everybody's.
const SHM: &str = "mode=1777,size=65536k";

/// A sandbox of one pod on one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sandbox<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) dir: &'a PodDir,
    pub(crate) node: &'a NodeRecord,
    /// The pod's cgroup.
    pub(crate) cgroup: &'a Path,
}

impl Sandbox<'_> {
    /// Makes it. What an earlier, unfinished attempt left is taken back first.
    pub(crate) fn create(&self) -> Result<SandboxRecord> {
        self.remove()?;
        let mut record = SandboxRecord { id: fresh_id()?, ready: false, addresses: vec![] };
        // Before anything is made: whoever comes after a crash needs the id to take it back.
        self.dir.put_sandbox(&record)?;
        let hostname = files::hostname(self.pod, self.node);
        self.make_ipc_and_uts(&hostname)?;
        self.make_shm()?;
        if let Some(spec) = self.spec() {
            Cgroup::limit(self.cgroup, &pod_limits(spec)?).context("limit the pod")?;
        }
        record.addresses = if self.uses_host_network() {
            self.node.addresses.clone()
        } else {
            self.make_net()?;
            self.attach(&record.id)?
        };
        files::write_files(self.pod, self.dir, self.node, &record.addresses)?;
        record.ready = true;
        self.dir.put_sandbox(&record)?;
        Ok(record)
    }

    /// Takes it back: the network by the plugins first, then the namespaces. Safe to repeat.
    pub(crate) fn remove(&self) -> Result<()> {
        if let Some(record) = self.dir.sandbox()? {
            Network::of(self.node).del(&record.id).context("detach the pod from the network")?;
        }
        for name in ["net", "ipc", "uts", "pid"] {
            unpin(&self.dir.file(name))?;
        }
        let shm = self.dir.file("shm");
        if is_mount(&shm)? {
            umount2(&shm, MntFlags::MNT_DETACH).context("unmount the pod's /dev/shm")?;
        }
        let file = self.dir.file("sandbox.json");
        if file.exists() {
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
        Ok(())
    }

    fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    fn uses_host_network(&self) -> bool {
        self.spec().is_some_and(|spec| spec.host_network == Some(true))
    }

    fn attach(&self, id: &str) -> Result<Vec<std::net::IpAddr>> {
        let meta = &self.pod.metadata;
        let attachment = Attachment {
            container_id: id.to_owned(),
            netns: self.dir.file("net"),
            namespace: meta.namespace.clone().unwrap_or_default(),
            pod: meta.name.clone().unwrap_or_default(),
            uid: self.dir.uid().to_owned(),
        };
        let network = Network::of(self.node);
        network.status().context("the network is not ready")?;
        let capabilities = Capabilities::of(self.pod, &self.cgroup.to_string_lossy());
        network.add(&attachment, &capabilities)
    }

    /// A network namespace with `lo` up and the pod's sysctls.
    fn make_net(&self) -> Result<()> {
        let net = NetNs::new()?;
        let own = sysctls(self.spec()).filter(|(name, _)| name.starts_with("net."));
        let all = NET_SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(own);
        net.run(|| set_sysctls(all))??;
        pin(&net.path(), &self.dir.file("net"))
    }

    /// An IPC and a UTS namespace with the pod's host name and sysctls, made on a thread that ends with the call.
    #[expect(clippy::disallowed_methods, reason = "a sandbox is made of namespaces")]
    fn make_ipc_and_uts(&self, hostname: &str) -> Result<()> {
        let make = || -> Result<()> {
            nix::sched::unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
                .context("make an IPC and a UTS namespace")?;
            nix::unistd::sethostname(hostname).context("set the pod's host name")?;
            set_sysctls(sysctls(self.spec()).filter(|(name, _)| !name.starts_with("net.")))?;
            ["ipc", "uts"].iter().try_for_each(|kind| {
                pin(Path::new(&format!("/proc/thread-self/ns/{kind}")), &self.dir.file(kind))
            })
        };
        thread::scope(|scope| scope.spawn(make).join())
            .map_err(|_| anyhow!("the thread that makes namespaces panicked"))?
    }

    fn make_shm(&self) -> Result<()> {
        let shm = self.dir.file("shm");
        fs::create_dir_all(&shm).with_context(|| format!("create {}", shm.display()))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(SHM)).context("mount the pod's /dev/shm")
    }
}

fn sysctls(spec: Option<&PodSpec>) -> impl Iterator<Item = (String, String)> {
    let wanted = spec.and_then(|spec| spec.security_context.as_ref()?.sysctls.clone());
    wanted.into_iter().flatten().map(|one| (one.name.replace('/', "."), one.value))
}

/// Sets sysctls of the calling thread's namespaces.
fn set_sysctls(wanted: impl Iterator<Item = (String, String)>) -> Result<()> {
    for (name, value) in wanted {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, &value).with_context(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(())
}

/// 256 random bits in hexadecimal: what runtimes call containers by.
fn fresh_id() -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    let mut random = fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    random.read_exact(&mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
