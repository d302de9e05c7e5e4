//! One turn of the reconciler: look, decide, act. Everything it needs comes in; nothing is remembered.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use flatnet_core::kernel::KernelError;
use flatnet_core::names::{IfName, NodeName};
use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::desired::{Desired, DesiredError};
use flatnet_core::overlay::diff::plan;
use flatnet_core::overlay::settings::Uplink;
use flatnet_core::overlay::settled::Numbers;
use flatnet_core::overlay::snapshot::Observe;
use flatnet_core::step::{Masquerade, Outcome, Step};

use crate::config::Config;
use crate::facts::{self, UplinkError};
use crate::pod_routes::SeenPods;

/// The agent's chain in our nftables table.
const MASQUERADE_CHAIN: &str = "masquerade";
/// Failures beyond this many are counted, not described.
const DESCRIBED: usize = 50;

/// What a turn did.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) desired: Desired,
    pub(crate) uplink: Uplink,
    /// What deserves attention though nothing failed.
    pub(crate) remark: Option<String>,
    /// What was changed.
    pub(crate) changes: Changes,
    /// What could not be changed; the rest was.
    pub(crate) failures: Vec<Failure>,
    /// How many failed in all.
    pub(crate) failed: usize,
    pub(crate) took: Duration,
    /// Pods whose links have another segment size than they should.
    pub(crate) unequal: Vec<IfName>,
    /// This node's pods as the kernel shows them.
    pub(crate) pods: SeenPods,
    /// Numbers of the nexthop objects, where nothing failed.
    pub(crate) numbers: Numbers,
}

/// A step that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whom it was for.
    pub(crate) peer: Option<NodeName>,
    pub(crate) error: KernelError,
}

/// Why a turn changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error(transparent)]
    Desired(#[from] DesiredError),
}

/// Steps that were done, counted by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes(BTreeMap<&'static str, (usize, usize)>);

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Kind, how many were made or changed, how many removed.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.0.iter().map(|(kind, (made, removed))| (*kind, *made, *removed))
    }

    pub(crate) fn add(&mut self, step: &Step) {
        let (kind, made) = match step {
            Step::CreateVeth(_) | Step::CreateVxlan(_) | Step::CreateIfb(_) => ("devices", true),
            Step::PutRate(..) | Step::AddIngress(_) | Step::Redirect(..) => ("limits", true),
            Step::DropIngress(_) => ("limits", false),
            Step::DeleteLink(_) => ("devices", false),
            Step::ChangeVxlan(_) | Step::SetLink(..) | Step::Settle(_) => ("device settings", true),
            Step::AddAddr(..) => ("addresses", true),
            Step::DropAddr(..) => ("addresses", false),
            Step::PutRoute(..) | Step::PutTableRoute(..) => ("routes", true),
            Step::PutRule(..) => ("rules", true),
            Step::DropRule(..) => ("rules", false),
            Step::DropRoute(..) => ("routes", false),
            Step::PutNexthop(_) => ("nexthops", true),
            Step::DropNexthop(_) => ("nexthops", false),
            Step::PutNeighbour(..) => ("neighbours", true),
            Step::DropNeighbour(..) => ("neighbours", false),
            Step::PutFdb(..) => ("fdb", true),
            Step::DropFdb(..) => ("fdb", false),
            Step::SetSysctl(..) => ("sysctls", true),
            Step::PutMasquerade(_) => ("masquerade", true),
            Step::DropMasquerade(_) | Step::DropTable => ("masquerade", false),
            Step::PutGuard => ("guard", true),
            Step::PutHostPorts(_) => ("host ports", true),
            Step::DropHostPorts(_) => ("host ports", false),
            Step::ForgetFlows(_) => ("connections", false),
            Step::PutSenders(_) => ("senders", true),
            Step::DropSenders(_) => ("senders", false),
            Step::PutTunnelFilter(_) => ("tunnel filter", true),
            Step::DropTunnelFilter => ("tunnel filter", false),
        };
        let (plus, minus) = self.0.entry(kind).or_default();
        *(if made { plus } else { minus }) += 1;
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, (plus, minus))) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(kind)?;
            if *plus > 0 {
                write!(f, " +{plus}")?;
            }
            if *minus > 0 {
                write!(f, " -{minus}")?;
            }
        }
        Ok(())
    }
}

/// Makes the kernel what `cluster` asks of it, and then takes the steps that `ports` ask for.
///
/// # Errors
/// It could not be told what to do; nothing was changed. Steps that failed one by one are in
/// [`Turn::failures`].
pub(crate) fn turn<K: Observe>(
    kernel: &mut K,
    config: &Config,
    cluster: &Cluster,
    ports: Vec<Step>,
) -> Result<Turn, TurnError> {
    let start = Instant::now();
    let mut snapshot = kernel.snapshot()?;
    let me = &config.settings.node;
    let address = cluster.member(me).ok_or_else(|| DesiredError::NotMember(me.clone()))?.address;
    let found = facts::uplink(&snapshot, &config.interface, address)?;
    let desired = Desired::build(&config.settings, &found.uplink, cluster)?;
    let plan = plan(&desired, &snapshot);
    let mut steps = plan.steps;
    steps.push(Step::PutGuard);
    steps.extend(ports);
    steps.extend(masquerade(config, &desired, cluster, &snapshot.chains));
    let unequal = snapshot.pods.iter().filter(|(_, sizes)| !sizes.is(desired.segment_size));
    let unequal = unequal.map(|(name, _)| name.clone()).collect();
    let pods = SeenPods {
        links: snapshot.pods.iter().map(|(name, _)| name.clone()).collect(),
        routes: snapshot.pod_routes.clone(),
    };
    let numbers = Numbers::of(&desired, &plan.nexthops, std::mem::take(&mut snapshot.nexthop_ids));
    drop(snapshot);
    let mut turn = Turn {
        desired,
        uplink: found.uplink,
        remark: found.remark,
        changes: Changes::default(),
        failures: Vec::new(),
        failed: 0,
        took: Duration::ZERO,
        unequal,
        pods,
        numbers,
    };
    turn.perform(kernel, cluster, &steps);
    turn.took = start.elapsed();
    Ok(turn)
}

impl Turn {
    /// Applies `steps` and notes what became of them.
    pub(crate) fn perform<K: Observe>(&mut self, kernel: &mut K, cluster: &Cluster, steps: &[Step]) {
        for (step, error) in apply(kernel, steps, &mut self.changes) {
            self.failed += 1;
            if self.failures.len() < DESCRIBED {
                self.failures.push(Failure { peer: self.desired.peer_of(cluster, step), error });
            }
        }
    }
}

/// The nftables chain as it should be: read back and put right by the kernel's side, every turn.
fn masquerade(config: &Config, desired: &Desired, cluster: &Cluster, chains: &[String]) -> Option<Step> {
    if !config.masquerade {
        let there = chains.iter().any(|chain| chain == MASQUERADE_CHAIN);
        return there.then(|| Step::DropMasquerade(MASQUERADE_CHAIN.to_owned()));
    }
    Some(Step::PutMasquerade(Masquerade {
        chain: MASQUERADE_CHAIN.to_owned(),
        pods: desired.own.clone(),
        cluster: cluster.networks.clone(),
    }))
}

/// Applies `steps`, counts those that were done and answers with those that were not.
pub(crate) fn apply<'a, K: Observe>(
    kernel: &mut K,
    steps: &'a [Step],
    changes: &mut Changes,
) -> Vec<(&'a Step, KernelError)> {
    let mut failed = Vec::new();
    for (step, result) in steps.iter().zip(kernel.apply(steps)) {
        match result {
            Ok(Outcome::Done) => changes.add(step),
            Ok(Outcome::AlreadySo | Outcome::AlreadyGone) => {}
            Err(error) => failed.push((step, error)),
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use flatnet_core::link::Vni;
    use flatnet_core::overlay::cluster::{RawCluster, RawNetwork, RawNode};
    use flatnet_core::overlay::guard::Rule;
    use flatnet_core::overlay::model::OverlayModel;
    use flatnet_core::overlay::settings::{Backend, Settings};

    use super::*;
    use crate::config::{Interface, StoreConfig};

    fn config() -> Config {
        Config {
            settings: Settings {
                node: "n1".parse().unwrap(),
                backend: Backend::Vxlan,
                vni: Vni::try_from(1).unwrap(),
                port: 8472,
                peers_only: true,
                uplink_segment_size: None,
            },
            interface: Interface::Auto,
            state_dir: "/nowhere".into(),
            listen: None,
            masquerade: true,
            store: StoreConfig::File("/nowhere".into()),
            guard: Rule::default(),
            gc: crate::config::Gc { interval: None, grace: 60 },
            install: None,
        }
    }

    fn cluster(nodes: u8) -> Cluster {
        let node = |i| RawNode {
            name: format!("n{i}"),
            address: format!("192.0.2.{i}"),
            subnets: vec![format!("10.244.{i}.0/24")],
        };
        let network = RawNetwork { ipv4: Some("10.244.0.0/16".to_owned()), ipv6: None };
        Cluster::check(&RawCluster { network, nodes: (1..=nodes).map(node).collect() }).unwrap()
    }

    fn kernel() -> OverlayModel {
        let address = "192.0.2.1/24".parse().unwrap();
        OverlayModel::with_uplink(&"eth0".parse().unwrap(), 1500, &[address])
    }

    #[test]
    fn the_second_turn_finds_nothing_to_do() {
        let mut kernel = kernel();
        let first = turn(&mut kernel, &config(), &cluster(3), Vec::new()).unwrap();
        assert_eq!((first.failed, kernel.routes.len()), (0, 3));
        assert!(first.changes.to_string().contains("routes +3"), "{}", first.changes);
        let second = turn(&mut kernel, &config(), &cluster(3), Vec::new()).unwrap();
        assert!(second.changes.is_empty(), "{}", second.changes);
    }

    /// A chain that is not wanted goes; one that is not there is not even asked for.
    #[test]
    fn masquerade_is_dropped_only_where_it_is() {
        let mut kernel = kernel();
        turn(&mut kernel, &config(), &cluster(3), Vec::new()).unwrap();
        assert!(kernel.chains.contains(MASQUERADE_CHAIN));
        let without = Config { masquerade: false, ..config() };
        turn(&mut kernel, &without, &cluster(3), Vec::new()).unwrap();
        assert!(!kernel.chains.contains(MASQUERADE_CHAIN));
        kernel.refuse = Some("delete chain".to_owned());
        assert_eq!(turn(&mut kernel, &without, &cluster(3), Vec::new()).unwrap().failed, 0);
    }

    /// A refusal is named with its peer, and all others are served.
    #[test]
    fn one_peers_failure_keeps_nobody_else_waiting() {
        for refused in ["nexthop 1174405121 ", "route 10.244.3.0/24", "neighbour 10.244.3.0", "192.0.2.3 on"]
        {
            let mut kernel = kernel();
            kernel.refuse = Some(refused.to_owned());
            let failing = turn(&mut kernel, &config(), &cluster(9), Vec::new()).unwrap();
            assert!(failing.failed > 0, "{refused}");
            for failure in &failing.failures {
                assert_eq!(failure.peer, Some("n3".parse().unwrap()), "{failure:?}");
            }
            assert!(kernel.routes.len() >= 8, "{refused}: {:?}", kernel.routes);
            kernel.refuse = None;
            let healed = turn(&mut kernel, &config(), &cluster(9), Vec::new()).unwrap();
            assert_eq!((healed.failed, kernel.routes.len()), (0, 9));
        }
    }

    #[test]
    fn what_cannot_be_decided_changes_nothing() {
        let mut kernel = kernel();
        turn(&mut kernel, &config(), &cluster(3), Vec::new()).unwrap();
        let before = kernel.clone();
        let mut elsewhere = config();
        elsewhere.settings.node = "n9".parse().unwrap();
        assert!(matches!(turn(&mut kernel, &elsewhere, &cluster(3), Vec::new()), Err(TurnError::Desired(_))));
        elsewhere = config();
        elsewhere.interface = Interface::Name("eth7".parse().unwrap());
        assert!(matches!(turn(&mut kernel, &elsewhere, &cluster(3), Vec::new()), Err(TurnError::Uplink(_))));
        assert_eq!(kernel, before);
    }
}
