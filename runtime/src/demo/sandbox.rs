//! A pod's sandbox: the namespaces that its containers share, pinned so that no container's end
//! changes them, and attached to the pod network.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, anyhow};
use netns_fixtures::{KillOnDrop, NetNs, PinnedNs};
use nix::sched::CloneFlags;

use super::{
    cni_exec::{Attachment, Plugin},
    container::Container,
};

/// A pod's shared namespaces. Dropping it unpins them; its containers hold them until they end.
#[derive(Debug)]
pub(crate) struct Sandbox {
    attachment: Attachment,
    /// The addresses that the plugin gave.
    pub(crate) addresses: Vec<IpAddr>,
    net: PinnedNs,
    ipc: PinnedNs,
    uts: PinnedNs,
}

impl Sandbox {
    /// Makes the sandbox of `pod` with its pins in `dir`, and attaches it by `plugin`.
    pub(crate) fn create(pod: &str, dir: &Path, plugin: &Plugin) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let net = NetNs::new()?.bind_at(dir.join("net"))?;
        let (ipc, uts) = pin_ipc_and_uts(pod, dir)?;
        let attachment = Attachment {
            container_id: format!("flatpod-{pod}"),
            netns: net.path().to_owned(),
            pod: pod.to_owned(),
        };
        let addresses = plugin.add(&attachment)?;
        Ok(Self { attachment, addresses, net, ipc, uts })
    }

    /// Starts a container in it.
    #[expect(clippy::disallowed_methods, reason = "a container is a process")]
    pub(crate) fn start(&self, name: &str) -> Result<Container> {
        // Never argv[0], which may be another file by now.
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("container-init");
        for (flag, pin) in [("--net", &self.net), ("--ipc", &self.ipc), ("--uts", &self.uts)] {
            command.arg(flag).arg(pin.path());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = command.spawn().with_context(|| format!("start container {name}"))?;
        Container::adopt(name, KillOnDrop::new(started))
    }

    /// Detaches it from the pod network.
    pub(crate) fn detach(&self, plugin: &Plugin) -> Result<()> {
        plugin.del(&self.attachment)
    }
}

/// Makes an IPC and a UTS namespace on a thread that ends with the call, and pins them.
#[expect(clippy::disallowed_methods, reason = "a sandbox is made of namespaces")]
fn pin_ipc_and_uts(hostname: &str, dir: &Path) -> Result<(PinnedNs, PinnedNs)> {
    let make = || -> Result<(PinnedNs, PinnedNs)> {
        nix::sched::unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .context("make an IPC and a UTS namespace")?;
        nix::unistd::sethostname(hostname).context("set the pod's host name")?;
        let pin = |kind: &str| {
            let source = PathBuf::from(format!("/proc/thread-self/ns/{kind}"));
            PinnedNs::bind(&source, dir.join(kind))
        };
        Ok((pin("ipc")?, pin("uts")?))
    };
    thread::scope(|scope| scope.spawn(make).join())
        .map_err(|_| anyhow!("the thread that makes namespaces panicked"))?
}
