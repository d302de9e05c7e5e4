//! What the kernel was made for: where the short way starts, and what tells putting right from doing something new.

use std::sync::Arc;

use flatnet_core::overlay::cluster::Cluster;
use flatnet_core::overlay::settings::Uplink;
use flatnet_core::overlay::settled::Settled;

/// What the turns up to now made of the kernel.
#[derive(Debug, Default)]
pub(super) struct MadeFor {
    /// Where the last turn, or the short way since, left nothing to do.
    settled: Option<Settled>,
    /// What some turn left nothing to do for, where all since were for the same. One that fails because somebody
    /// is still at work does not make the next one's work new.
    reached: Option<(Arc<Cluster>, Uplink)>,
}

impl MadeFor {
    /// Notes a turn for `cluster` over `uplink`, and what it settled where nothing failed. Answers whether whatever
    /// it changed was put right: all of it had been right for the same before.
    pub(super) fn note(&mut self, cluster: &Arc<Cluster>, uplink: &Uplink, settled: Option<Settled>) -> bool {
        let same = self.reached.as_ref().is_some_and(|(of, over)| Arc::ptr_eq(of, cluster) && over == uplink);
        if !same {
            self.reached = settled.is_some().then(|| (Arc::clone(cluster), uplink.clone()));
        }
        self.settled = settled;
        same
    }

    /// Notes what a short way led to.
    pub(super) fn note_short(&mut self, settled: Settled) {
        self.reached = Some((Arc::clone(settled.cluster()), settled.uplink().clone()));
        self.settled = Some(settled);
    }

    /// Where a short way to `cluster` starts. Whoever takes it notes where it led; until then nothing is settled.
    pub(super) fn leave_for(&mut self, cluster: &Arc<Cluster>) -> Option<Settled> {
        self.settled.take_if(|settled| !Arc::ptr_eq(settled.cluster(), cluster))
    }
}

#[cfg(test)]
mod tests {
    use flatnet_core::link::{SegmentSizes, UnderlayMtu, Vni};
    use flatnet_core::overlay::cluster::{RawCluster, RawNetwork, RawNode};
    use flatnet_core::overlay::settings::{Backend, Settings};
    use flatnet_core::overlay::settled::Numbers;

    use super::*;

    fn cluster() -> Arc<Cluster> {
        let network = RawNetwork { ipv4: Some("10.244.0.0/16".to_owned()), ipv6: None };
        let node = RawNode {
            name: "n1".to_owned(),
            address: "192.0.2.1".to_owned(),
            subnets: vec!["10.244.1.0/24".to_owned()],
        };
        Arc::new(Cluster::check(&RawCluster { network, nodes: vec![node] }).unwrap())
    }

    fn uplink() -> Uplink {
        Uplink {
            name: "eth0".parse().unwrap(),
            mtu: UnderlayMtu(1500),
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            local: "192.0.2.1".parse().unwrap(),
            segments: SegmentSizes::default(),
            segment_size: 65_536,
        }
    }

    fn settled(cluster: &Arc<Cluster>) -> Settled {
        let settings = Settings {
            node: "n1".parse().unwrap(),
            backend: Backend::Auto,
            vni: Vni::try_from(1).unwrap(),
            port: 8472,
            peers_only: true,
            uplink_segment_size: None,
        };
        Settled::new(settings, uplink(), Arc::clone(cluster), Numbers::default())
    }

    /// The first look at a device that somebody is just removing finds half of it: what it does about that fails.
    #[test]
    fn what_is_right_at_the_second_attempt_was_put_right() {
        let (mut made_for, cluster) = (MadeFor::default(), cluster());
        assert!(!made_for.note(&cluster, &uplink(), Some(settled(&cluster))), "it was new");
        assert!(made_for.note(&cluster, &uplink(), None));
        assert!(made_for.note(&cluster, &uplink(), Some(settled(&cluster))));
    }

    #[test]
    fn what_never_was_right_is_not_put_right() {
        let (mut made_for, old, new) = (MadeFor::default(), cluster(), cluster());
        made_for.note(&old, &uplink(), Some(settled(&old)));
        assert!(!made_for.note(&new, &uplink(), None));
        assert!(!made_for.note(&new, &uplink(), Some(settled(&new))));
        assert!(made_for.note(&new, &uplink(), None));
    }

    #[test]
    fn a_short_way_starts_where_all_is_settled_and_leads_to_where_it_is() {
        let (mut made_for, old, new) = (MadeFor::default(), cluster(), cluster());
        assert_eq!(made_for.leave_for(&new), None);
        made_for.note(&old, &uplink(), Some(settled(&old)));
        assert_eq!(made_for.leave_for(&old), None, "it is there");
        assert_eq!(made_for.leave_for(&new), Some(settled(&old)));
        assert_eq!(made_for.leave_for(&new), None, "it is under way");
        made_for.note_short(settled(&new));
        assert!(made_for.note(&new, &uplink(), None), "what a look finds later is put right");
        assert_eq!(made_for.leave_for(&old), None, "nothing is settled");
    }
}
