//! What holds for this node: the configuration's own keys, then the node snapshot's.

use flatnet_core::cni::conf::{AddConf, Base};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::link::OverlayMtu;
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
    /// Whether no agent looks after this node.
    pub(crate) alone: bool,
    /// The masquerading chain that the configuration asks for.
    pub(crate) masquerade: Option<Masquerade>,
}

impl Settings {
    /// # Errors
    /// Neither the configuration nor a snapshot says which addresses pods get.
    pub(crate) fn resolve(base: &Base, conf: &AddConf, state: &StateDir) -> Result<Self, CniError> {
        let mut settings = Self::addresses(base, conf, state)?;
        if conf.masquerade {
            settings.masquerade = Some(settings.chain(base, conf, state)?);
        }
        Ok(settings)
    }

    /// One chain per network, so that two networks of one node do not take turns.
    fn chain(&self, base: &Base, conf: &AddConf, state: &StateDir) -> Result<Masquerade, CniError> {
        let of_snapshot = || state.snapshot().ok().flatten().map(|s| s.cluster_networks);
        let cluster = match &conf.cluster_networks {
            Some(networks) => networks.clone(),
            None if conf.subnets.is_none() => of_snapshot().unwrap_or_default(),
            None => self.subnets.clone(),
        };
        let pods = if self.subnets.is_empty() { cluster.clone() } else { self.subnets.clone() };
        if pods.is_empty() {
            return Err(CniError::new(
                Code::InvalidConfig,
                "masquerade true: with an IPAM plugin it needs clusterNetworks, to know what is inside",
            ));
        }
        Ok(Masquerade { chain: format!("masquerade-{}", base.name), pods, cluster })
    }

    fn addresses(base: &Base, conf: &AddConf, state: &StateDir) -> Result<Self, CniError> {
        let masquerade = None;
        if let (Some(subnets), mtu @ Some(_), None) = (&conf.subnets, conf.mtu, &conf.ipam) {
            return Ok(Self { subnets: subnets.clone(), mtu, alone: true, masquerade });
        }
        let snapshot = match state.snapshot() {
            Ok(snapshot) => snapshot,
            // Stand-alone needs none, so a damaged one stops nothing there.
            Err(_) if conf.subnets.is_some() || conf.ipam.is_some() => None,
            Err(e) => return Err(context::state(&e)),
        };
        let mtu = conf.mtu.or(snapshot.as_ref().map(|s| s.mtu));
        if conf.ipam.is_some() {
            return Ok(Self { subnets: Vec::new(), mtu, alone: snapshot.is_none(), masquerade });
        }
        match (&conf.subnets, snapshot) {
            (Some(subnets), snapshot) => {
                Ok(Self { subnets: subnets.clone(), mtu, alone: snapshot.is_none(), masquerade })
            }
            (None, Some(snapshot)) if !snapshot.subnets.is_empty() => {
                Ok(Self { subnets: snapshot.subnets, mtu, alone: false, masquerade })
            }
            (None, Some(_)) => Err(not_ready("the node has no pod subnet yet")),
            (None, None) => Err(not_ready(&format!(
                "there is no node snapshot at {}",
                base.state_dir.join("node.json").display()
            ))),
        }
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

fn not_ready(why: &str) -> CniError {
    CniError::new(Code::TryAgain, why).with(
        "wait for flatnetd to write it (flatnetd status), or give \"subnets\" in the network configuration",
    )
}
