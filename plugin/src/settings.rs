//! What holds for this node: the configuration's own keys, then the node snapshot's.

use flatnet_core::cni::conf::{AddConf, Base};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::link::{OverlayMtu, SEGMENT_SIZE};
use flatnet_core::node::NodeSnapshot;
use flatnet_core::step::Masquerade;
use flatnet_node_state::StateDir;
use ipnetwork::IpNetwork;

use crate::context;

/// Settings of one node.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Pod subnets, at least one; none where an IPAM plugin gives the addresses.
    pub(crate) subnets: Vec<IpNetwork>,
    /// MTU of pods; `None`: take it from the uplink.
    pub(crate) mtu: Option<OverlayMtu>,
    /// Segment size of pods' links; `None`: the kernel's own.
    pub(crate) segment_size: Option<u32>,
    /// Whether no agent looks after this node.
    pub(crate) alone: bool,
    /// The masquerading chain that the configuration asks for.
    pub(crate) masquerade: Option<Masquerade>,
}

impl Settings {
    /// # Errors
    /// Neither the configuration nor a snapshot says which addresses pods get.
    pub(crate) fn resolve(base: &Base, conf: &AddConf, state: &StateDir) -> Result<Self, CniError> {
        let snapshot = snapshot(conf, state)?;
        let mtu = conf.mtu.or(snapshot.as_ref().map(|s| s.mtu));
        let size = snapshot.as_ref().map(|s| s.segment_size).filter(|size| *size != SEGMENT_SIZE);
        let alone = snapshot.is_none();
        let (subnets, cluster) = match (&conf.ipam, &conf.subnets, snapshot) {
            (Some(_), None, snapshot) => (Vec::new(), snapshot.map_or(Vec::new(), |s| s.cluster_networks)),
            (Some(_), Some(_), _) => (Vec::new(), Vec::new()),
            (None, Some(subnets), _) => (subnets.clone(), subnets.clone()),
            (None, None, Some(s)) if !s.subnets.is_empty() => (s.subnets, s.cluster_networks),
            (None, None, Some(_)) => return Err(not_ready("the node has no pod subnet yet")),
            (None, None, None) => {
                let path = base.state_dir.join("node.json");
                return Err(not_ready(&format!("there is no node snapshot at {}", path.display())));
            }
        };
        let cluster = conf.cluster_networks.clone().unwrap_or(cluster);
        let masquerade = conf.masquerade.then(|| chain(base, &subnets, cluster)).transpose()?;
        Ok(Self { subnets, mtu, segment_size: size, alone, masquerade })
    }

    /// Subnets by family, IPv4 first; within a family in the order given.
    pub(crate) fn families(&self) -> impl Iterator<Item = Vec<IpNetwork>> + '_ {
        [true, false].into_iter().filter_map(|v4| {
            let of_family: Vec<IpNetwork> =
                self.subnets.iter().copied().filter(|s| s.is_ipv4() == v4).collect();
            (!of_family.is_empty()).then_some(of_family)
        })
    }
}

/// What the agent wrote; not even read where the configuration says everything itself.
fn snapshot(conf: &AddConf, state: &StateDir) -> Result<Option<NodeSnapshot>, CniError> {
    if conf.subnets.is_some() && conf.mtu.is_some() && conf.ipam.is_none() {
        return Ok(None);
    }
    match state.snapshot() {
        Ok(snapshot) => Ok(snapshot),
        // Stand-alone needs none, so a damaged one stops nothing there.
        Err(_) if conf.subnets.is_some() || conf.ipam.is_some() => Ok(None),
        Err(e) => Err(context::state(&e)),
    }
}

/// One chain per network, so that two networks of one node do not take turns.
fn chain(base: &Base, subnets: &[IpNetwork], cluster: Vec<IpNetwork>) -> Result<Masquerade, CniError> {
    let pods = if subnets.is_empty() { cluster.clone() } else { subnets.to_vec() };
    if pods.is_empty() {
        return Err(CniError::new(
            Code::InvalidConfig,
            "masquerade true: with an IPAM plugin it needs clusterNetworks, to know what is inside",
        ));
    }
    Ok(Masquerade { chain: format!("masquerade-{}", base.name), pods, cluster })
}

fn not_ready(why: &str) -> CniError {
    CniError::new(Code::TryAgain, why).with(
        "wait for flatnetd to write it (flatnetd status), or give \"subnets\" in the network configuration",
    )
}
