//! What the agent counts, in Prometheus' conventions.

use std::time::{Duration, SystemTime};

use flatnet_core::overlay::desired::{Desired, Tunnel};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::collector::Round;
use crate::status::Status;
use crate::turn::Changes;

/// Upper bounds of reconcile durations in seconds: from an idle small node to a change of everything.
const DURATIONS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

type Label = [(&'static str, String); 1];
type KindLabel = [(&'static str, &'static str); 1];
type ChangeLabels = [(&'static str, &'static str); 2];

/// Counters and gauges, registered once.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    ready: Gauge,
    problems: Gauge,
    peers: Family<Label, Gauge>,
    store_nodes: Gauge,
    store_error: Gauge,
    store_kept: Gauge,
    store_loaded: Gauge,
    looked: Gauge,
    peer_problems: Gauge,
    objects: Family<KindLabel, Gauge>,
    heals: Family<KindLabel, Counter>,
    pod_mtu: Gauge,
    segment_size: Gauge,
    reconciles: Family<Label, Counter>,
    duration: Histogram,
    changes: Family<ChangeLabels, Counter>,
    collected: Family<KindLabel, Counter>,
    repaired: Counter,
    attachments: Gauge,
    unrecorded: Gauge,
    pool_size: Family<Label, Gauge>,
    pool_used: Family<Label, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("flatnet");
        let metrics = Self {
            registry: Registry::default(),
            ready: Gauge::default(),
            problems: Gauge::default(),
            peers: Family::default(),
            store_nodes: Gauge::default(),
            store_error: Gauge::default(),
            store_kept: Gauge::default(),
            store_loaded: Gauge::default(),
            looked: Gauge::default(),
            peer_problems: Gauge::default(),
            objects: Family::default(),
            heals: Family::default(),
            pod_mtu: Gauge::default(),
            segment_size: Gauge::default(),
            reconciles: Family::default(),
            duration: Histogram::new(DURATIONS),
            changes: Family::default(),
            collected: Family::default(),
            repaired: Counter::default(),
            attachments: Gauge::default(),
            unrecorded: Gauge::default(),
            pool_size: Family::default(),
            pool_used: Family::default(),
        };
        registry.register("ready", "1 where the kernel is as it should be", metrics.ready.clone());
        registry.register("problems", "Problems that status shows", metrics.problems.clone());
        registry.register("peers", "Other nodes by how they are reached", metrics.peers.clone());
        registry.register("store_nodes", "Nodes in the last good cluster", metrics.store_nodes.clone());
        registry.register(
            "store_error",
            "1 where what the store holds now is not used",
            metrics.store_error.clone(),
        );
        registry.register(
            "store_kept_peers",
            "Peers in use that the store does not list",
            metrics.store_kept.clone(),
        );
        registry.register("reconciles", "Looks at the kernel by result", metrics.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one look, with what it changed",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        metrics.register_more(&mut registry);
        registry.register("changes", "Kernel objects changed, by kind", metrics.changes.clone());
        metrics.register_pods(&mut registry);
        Self { registry, ..metrics }
    }

    fn register_more(&self, registry: &mut Registry) {
        registry.register(
            "peers_with_problem",
            "Other nodes some of whose pods are not reached",
            self.peer_problems.clone(),
        );
        registry.register("objects", "Kernel objects that there should be, by kind", self.objects.clone());
        registry.register(
            "heals",
            "Kernel objects put right though nothing new was asked for, by kind",
            self.heals.clone(),
        );
        let bytes = |registry: &mut Registry, name, help, gauge: &Gauge| {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        };
        bytes(registry, "pod_mtu", "MTU of new pods", &self.pod_mtu);
        bytes(registry, "segment_size", "Segment size of pods' links", &self.segment_size);
        let seconds = |registry: &mut Registry, name, help, gauge: &Gauge| {
            registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        };
        let store = "When the cluster in use was read, since 1970";
        seconds(registry, "store_loaded_timestamp", store, &self.store_loaded);
        let looked = "When the kernel was last looked at, since 1970";
        seconds(registry, "reconcile_timestamp", looked, &self.looked);
    }

    /// Shows how much there is to keep.
    pub(crate) fn note_desired(&self, desired: &Desired) {
        let tunnel = desired.tunnel.as_ref();
        let in_tunnel = |count: fn(&Tunnel) -> usize| tunnel.map_or(0, count);
        for (kind, count) in [
            ("routes", desired.routes.len() + desired.own.len()),
            ("nexthops", desired.hops.len()),
            ("neighbours", in_tunnel(|tunnel| tunnel.neighbours.len())),
            ("fdb", in_tunnel(|tunnel| tunnel.fdb.len())),
            ("senders", in_tunnel(|tunnel| tunnel.filter.map_or(0, |_| tunnel.senders.len()))),
        ] {
            self.objects.get_or_create(&[("kind", kind)]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.pod_mtu.set(desired.pod_mtu.get().into());
        self.segment_size.set(desired.segment_size.into());
    }

    /// Counts what was put right.
    pub(crate) fn note_heal(&self, changes: &Changes) {
        for (kind, made, removed) in changes.counts() {
            self.heals.get_or_create(&[("kind", kind)]).inc_by((made + removed) as u64);
        }
    }

    fn register_pods(&self, registry: &mut Registry) {
        registry.register("collected", "What nobody used any more, by kind", self.collected.clone());
        registry.register("repaired", "Pods whose node's side was put right", self.repaired.clone());
        registry.register("attachments", "Recorded pod interfaces", self.attachments.clone());
        registry.register(
            "unrecorded_interfaces",
            "Node's ends of living pairs without a record",
            self.unrecorded.clone(),
        );
        registry.register("pool_addresses", "Addresses that pods can have", self.pool_size.clone());
        registry.register("pool_addresses_used", "Addresses that pods have", self.pool_used.clone());
    }

    /// Counts one round of collecting; one that was not whole knows nothing of pools and records.
    pub(crate) fn note_round(&self, round: &Round, whole: bool) {
        for (kind, count) in round.found.kinds() {
            self.collected.get_or_create(&[("kind", kind)]).inc_by(count);
        }
        self.repaired.inc_by(round.found.repaired);
        if !whole {
            return;
        }
        let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.attachments.set(size(round.attachments));
        self.unrecorded.set(size(round.unrecorded));
        for usage in &round.pools {
            let label = [("subnet", usage.network.to_string())];
            self.pool_size.get_or_create(&label).set(size(usage.capacity));
            self.pool_used.get_or_create(&label).set(size(usage.used));
        }
    }

    /// Counts one turn.
    pub(crate) fn note_turn(&self, result: &'static str, took: Duration, changes: &Changes) {
        self.duration.observe(took.as_secs_f64());
        let now = crate::status::seconds(SystemTime::now());
        self.looked.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.note_changes(result, changes);
    }

    /// Counts what took no look: a change of the cluster that was short enough.
    pub(crate) fn note_changes(&self, result: &'static str, changes: &Changes) {
        self.reconciles.get_or_create(&[("result", result.to_owned())]).inc();
        for (kind, made, removed) in changes.counts() {
            for (action, count) in [("put", made), ("remove", removed)] {
                if count > 0 {
                    self.changes.get_or_create(&[("kind", kind), ("action", action)]).inc_by(count as u64);
                }
            }
        }
    }

    /// Shows what `status` shows.
    pub(crate) fn note_status(&self, status: &Status) {
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.ready.set(status.ready.into());
        self.problems.set(size(status.all_problems().len()));
        self.store_nodes.set(size(status.store.nodes.unwrap_or(0)));
        let loaded = status.store.loaded.unwrap_or(0);
        self.store_loaded.set(i64::try_from(loaded).unwrap_or(i64::MAX));
        let with_problem = status.peers.iter().filter(|peer| peer.problem.is_some());
        self.peer_problems.set(size(with_problem.count()));
        self.store_kept.set(size(status.store.kept));
        self.store_error.set(status.store.error.is_some().into());
        for path in ["none", "vxlan", "direct", "direct+vxlan"] {
            let count = status.peers.iter().filter(|peer| peer.path == path).count();
            self.peers.get_or_create(&[("path", path.to_owned())]).set(size(count));
        }
    }

    /// Everything as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_documented() {
        let metrics = Metrics::new();
        // A family is told of once it has a member.
        for family in [&metrics.peers, &metrics.pool_size, &metrics.pool_used] {
            drop(family.get_or_create(&[("a", String::new())]));
        }
        drop(metrics.reconciles.get_or_create(&[("a", String::new())]));
        drop(metrics.objects.get_or_create(&[("a", "")]));
        drop(metrics.changes.get_or_create(&[("a", ""), ("b", "")]));
        for family in [&metrics.heals, &metrics.collected] {
            drop(family.get_or_create(&[("a", "")]));
        }
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        let page = include_str!("../../docs/agent.md");
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        assert!(names.len() > 20, "{names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("`{name}"))).collect();
        assert!(missing.is_empty(), "docs/agent.md does not tell of {missing:?}");
    }

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new();
        metrics.note_turn("settled", Duration::from_millis(3), &Changes::default());
        let text = metrics.text();
        for line in [
            "# TYPE flatnet_ready gauge",
            "flatnet_reconciles_total{result=\"settled\"} 1",
            "flatnet_reconcile_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
