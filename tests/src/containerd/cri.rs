//! The runtime's side of the Container Runtime Interface, as kubelet calls it.

use std::path::Path;
use std::time::Duration;

use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    ImageStatusRequest, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, ListPodSandboxRequest,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PodSandboxStatusRequest,
    PortMapping, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StatusRequest,
    StopPodSandboxRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::image::BUSYBOX;

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a runtime. It connects again by itself after the runtime was started anew.
#[derive(Debug)]
pub struct Cri {
    tokio: tokio::runtime::Runtime,
    channel: Channel,
    cgroup_parent: String,
}

type Answer<T> = Result<T, Status>;

/// The network that a pod wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNetwork {
    /// The node's own (`hostNetwork: true`).
    Node,
    /// One of its own, without a port of the node.
    Own,
    /// One of its own; this port of the node leads to its port 8080.
    HostPort(u16),
}

impl Cri {
    /// Connects at the first call.
    ///
    /// # Panics
    /// There are no threads or descriptors left.
    #[must_use]
    pub fn at(socket: &Path, cgroup_parent: &str) -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("start tokio");
        let uri = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(uri).expect("a path is an URI").timeout(PATIENCE);
        let channel = tokio.block_on(async { endpoint.connect_lazy() });
        Self { tokio, channel, cgroup_parent: cgroup_parent.to_owned() }
    }

    fn ask<T>(
        &self,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Answer<Response<T>>,
    ) -> Answer<T> {
        let client = RuntimeServiceClient::new(self.channel.clone());
        self.tokio.block_on(call(client)).map(Response::into_inner)
    }

    /// Whether the runtime says so of its condition `name` (`NetworkReady`), and its words.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn condition(&self, name: &str) -> Answer<(bool, String)> {
        let status = self.ask(async |mut c| c.status(StatusRequest { verbose: false }).await)?;
        let conditions = status.status.unwrap_or_default().conditions;
        let found = conditions.into_iter().find(|c| c.r#type == name).unwrap_or_default();
        Ok((found.status, found.message))
    }

    /// Whether the runtime has `image`.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn has_image(&self, image: &str) -> Answer<bool> {
        let spec = ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        let answer = self
            .tokio
            .block_on(async { ImageServiceClient::new(self.channel.clone()).image_status(request).await })?;
        Ok(answer.into_inner().image.is_some())
    }

    /// What kubelet sends for the pod `name`.
    fn sandbox(&self, name: &str, network: PodNetwork) -> PodSandboxConfig {
        let metadata = PodSandboxMetadata {
            name: name.to_owned(),
            namespace: "proofs".to_owned(),
            uid: format!("uid-{name}"),
            attempt: 0,
        };
        let port = |port: u16| PortMapping {
            container_port: 8080,
            host_port: i32::from(port),
            ..Default::default()
        };
        let (port, mode) = match network {
            PodNetwork::Node => (None, NamespaceMode::Node),
            PodNetwork::Own => (None, NamespaceMode::Pod),
            PodNetwork::HostPort(number) => (Some(port(number)), NamespaceMode::Pod),
        };
        // A pod on the node's network has the node's name, and must not give one.
        let hostname = if mode == NamespaceMode::Node { String::new() } else { name.to_owned() };
        let namespaces = NamespaceOption { network: mode.into(), ..Default::default() };
        let security_context =
            LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
        PodSandboxConfig {
            metadata: Some(metadata),
            hostname,
            port_mappings: port.into_iter().collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup_parent.clone(),
                security_context: Some(security_context),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Makes the sandbox of pod `name`; its id. Port 8080 of the pod is [`host_port`] of the node.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn run_pod(&self, name: &str) -> Answer<String> {
        self.run_pod_on(name, PodNetwork::HostPort(host_port(name)))
    }

    /// Makes the sandbox of pod `name` with that network; its id.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn run_pod_on(&self, name: &str, network: PodNetwork) -> Answer<String> {
        let config = Some(self.sandbox(name, network));
        let request = RunPodSandboxRequest { config, ..Default::default() };
        Ok(self.ask(async |mut c| c.run_pod_sandbox(request).await)?.pod_sandbox_id)
    }

    /// Makes and starts a container of busybox with `args` in the sandbox `id` of pod `pod`; its id.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn run_container(&self, id: &str, pod: &str, name: &str, args: &[&str]) -> Answer<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: id.to_owned(),
            config: Some(config),
            sandbox_config: Some(self.sandbox(pod, PodNetwork::HostPort(host_port(pod)))),
        };
        let container_id = self.ask(async |mut c| c.create_container(request).await)?.container_id;
        let request = StartContainerRequest { container_id: container_id.clone() };
        self.ask(async |mut c| c.start_container(request).await)?;
        Ok(container_id)
    }

    /// Runs busybox with `args` in a container; exit status, and both outputs.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn exec(&self, container_id: &str, args: &[&str]) -> Answer<(i32, String)> {
        let cmd = std::iter::once("/bin/busybox").chain(args.iter().copied()).map(str::to_owned).collect();
        let request = ExecSyncRequest { container_id: container_id.to_owned(), cmd, timeout: 30 };
        let done = self.ask(async |mut c| c.exec_sync(request).await)?;
        let said = [done.stdout, done.stderr].concat();
        Ok((done.exit_code, String::from_utf8_lossy(&said).into_owned()))
    }

    /// The addresses that the runtime tells kubelet, the first one first.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn addresses(&self, id: &str) -> Answer<Vec<String>> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = self.ask(async |mut c| c.pod_sandbox_status(request).await)?.status.unwrap_or_default();
        let network = status.network.unwrap_or_default();
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        Ok(std::iter::once(network.ip).chain(more).collect())
    }

    /// Stops the sandbox and its containers.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn stop_pod(&self, id: &str) -> Answer<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.ask(async |mut c| c.stop_pod_sandbox(request).await).map(drop)
    }

    /// Removes the sandbox and its containers.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn remove_pod(&self, id: &str) -> Answer<()> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.ask(async |mut c| c.remove_pod_sandbox(request).await).map(drop)
    }

    /// Ids of all sandboxes that the runtime remembers.
    ///
    /// # Errors
    /// The runtime refuses, or does not answer.
    pub fn pods(&self) -> Answer<Vec<String>> {
        let all = self.ask(async |mut c| c.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await)?;
        Ok(all.items.into_iter().map(|pod| pod.id).collect())
    }
}

/// The port of the node that leads to port 8080 of pod `name`.
#[must_use]
pub fn host_port(name: &str) -> u16 {
    name.bytes().fold(31_000, |port, byte| port + u16::from(byte))
}
