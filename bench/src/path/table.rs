//! The figures as a table, as JSON and as charts.

use std::fmt;

use serde_json::{Value, json};

use super::bridge::BridgeNetfilter;
use super::field::{VETH, VXLAN, Way};
use crate::output::Figures;
use crate::plot::Chart;
use crate::sample::{Sample, times};

/// One contender's figures.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) way: Way,
    pub(crate) name: &'static str,
    pub(crate) peer: Option<&'static str>,
    /// Bytes that the sender's link takes at a time.
    pub(crate) segment: u32,
    /// Of each round, the mean bytes that it was given at a time.
    pub(crate) packet: Vec<f64>,
    /// Of each round, Gbit/s.
    pub(crate) rate: Vec<f64>,
    /// Of each round, the median in microseconds.
    pub(crate) trip: Vec<f64>,
    /// Of each round, the 99th percentile in microseconds.
    pub(crate) p99: Vec<f64>,
}

/// Everything one run measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) rounds: u32,
    pub(crate) bridge_netfilter: BridgeNetfilter,
    pub(crate) rows: Vec<Row>,
}

/// One of the two figures that contenders are compared by.
#[derive(Clone, Copy)]
struct Figure {
    title: &'static str,
    of: fn(&Row) -> &[f64],
    best: fn(Sample) -> f64,
}

const RATE: Figure =
    Figure { title: "TCP, Gbit/s (more is better)", of: |row| &row.rate, best: |sample| sample.highest };
const TRIP: Figure = Figure {
    title: "UDP round trip, microseconds (less is better)",
    of: |row| &row.trip,
    best: |sample| sample.lowest,
};

/// How many times the others' figures a row's are; none where there is no such row.
struct Ratios {
    veth: Option<f64>,
    peer: Option<f64>,
    /// The best round's to the peer's best round's: what the machine does meanwhile only ever makes it worse.
    best: Option<f64>,
    /// To what flannel makes by default.
    vxlan: Option<f64>,
}

impl Report {
    /// The row of that name on the same way. The one veth pair is the floor of every way.
    fn other(&self, row: &Row, name: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.name == name && (r.way == row.way || name == VETH))
    }

    fn ratios(&self, row: &Row, figure: Figure) -> Ratios {
        let to = |name| self.other(row, name).map(|other| times((figure.of)(row), (figure.of)(other)));
        let best = |row| (figure.best)(Sample::of((figure.of)(row)));
        let peer = row.peer.and_then(|name| self.other(row, name));
        Ratios {
            veth: to(VETH),
            peer: row.peer.and_then(to),
            best: peer.map(|peer| best(row) / best(peer)),
            vxlan: to(VXLAN),
        }
    }

    /// [`Self::ratios`] as columns; a dash where there is none.
    fn cells(&self, row: &Row, figure: Figure) -> String {
        let cell = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
        let Ratios { veth, peer, best, vxlan } = self.ratios(row, figure);
        format!("{:>7} {:>7} {:>7} {:>7}", cell(veth), cell(peer), cell(best), cell(vxlan))
    }
}

impl Figures for Report {
    fn json(&self) -> Value {
        let sample = |all: &[f64]| {
            let s = Sample::of(all);
            json!({ "median": s.median, "lowest": s.lowest, "highest": s.highest })
        };
        let ratios = |row: &Row, figure: Figure| {
            let Ratios { veth, peer, best, vxlan } = self.ratios(row, figure);
            json!({ "veth": veth, "peer": peer, "peerBest": best, "bridgeVxlan": vxlan })
        };
        let row = |r: &Row| {
            json!({ "way": r.way.as_str(), "contender": r.name, "peer": r.peer, "segmentBytes": r.segment,
                "packetBytes": Sample::of(&r.packet).median,
                "gbitPerSecond": sample(&r.rate), "throughputTimes": ratios(r, RATE),
                "roundTripUs": sample(&r.trip), "roundTripP99Us": Sample::of(&r.p99).median,
                "roundTripTimes": ratios(r, TRIP) })
        };
        json!({ "rounds": self.rounds, "bridgeNetfilter": self.bridge_netfilter.as_str(), "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }

    /// Throughput and round trips of each way, each figure to one scale.
    fn charts(&self) -> Vec<Chart> {
        let median = |row: &Row, figure: Figure| Sample::of((figure.of)(row)).median;
        let chart = |way: Way, figure: Figure| Chart {
            title: format!("{}: {}, median of {} rounds", way.as_str(), figure.title, self.rounds),
            bars: self
                .rows
                .iter()
                .filter(|r| r.way == way)
                .map(|r| (r.name.to_owned(), median(r, figure)))
                .collect(),
            widest: self.rows.iter().map(|r| median(r, figure)).fold(0.0, f64::max),
        };
        [RATE, TRIP].into_iter().flat_map(|figure| Way::ALL.map(|way| chart(way, figure))).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Both ends on one core, medians of {} rounds with the lowest and the highest. Ratios, of figures of\n\
             one round: to the one veth pair; to the peer (direct to host-gw, vxlan to VXLAN, bare to bare); of\n\
             the best round to the peer's best; to bridge + VXLAN. Bridges call the hooks of IP: {}.\n",
            self.rounds,
            self.bridge_netfilter.as_str()
        )?;
        let ratios = format!("{:>7} {:>7} {:>7} {:>7}", "x veth", "x peer", "best", "x VXLAN");
        writeln!(
            f,
            "{:<10} {:<32} {:>7} {:>7} {:>7} {:>7} {:>7} {ratios}",
            "TCP", "contender", "segment", "packet", "Gbit/s", "lowest", "highest"
        )?;
        for r in &self.rows {
            let (packet, rate) = (Sample::of(&r.packet), Sample::of(&r.rate));
            write!(f, "{:<10} {:<32} {:>7} {:>7.0} ", r.way.as_str(), r.name, r.segment, packet.median)?;
            write!(f, "{:>7.2} {:>7.2} {:>7.2} ", rate.median, rate.lowest, rate.highest)?;
            writeln!(f, "{}", self.cells(r, RATE))?;
        }
        writeln!(
            f,
            "\n{:<10} {:<32} {:>7} {:>7} {:>7} {:>7} {ratios}",
            "UDP", "contender", "us", "lowest", "highest", "p99"
        )?;
        for r in &self.rows {
            let (trip, p99) = (Sample::of(&r.trip), Sample::of(&r.p99));
            write!(f, "{:<10} {:<32} {:>7.2} ", r.way.as_str(), r.name, trip.median)?;
            write!(f, "{:>7.2} {:>7.2} {:>7.1} ", trip.lowest, trip.highest, p99.median)?;
            writeln!(f, "{}", self.cells(r, TRIP))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(way: Way, name: &'static str, peer: Option<&'static str>, rate: f64) -> Row {
        let (trip, p99, packet) = (vec![10.0], vec![20.0], vec![65000.0]);
        Row { way, name, peer, segment: 65536, packet, rate: vec![rate], trip, p99 }
    }

    #[test]
    fn ratios_are_to_the_peer_of_the_same_way_and_to_the_floor() {
        let rows = vec![
            row(Way::Floor, VETH, None, 40.0),
            row(Way::SameNode, "host-gw", None, 10.0),
            row(Way::CrossNode, "host-gw", None, 5.0),
            row(Way::CrossNode, VXLAN, None, 4.0),
            row(Way::CrossNode, "flatnet direct", Some("host-gw"), 20.0),
        ];
        let report = Report { rounds: 1, bridge_netfilter: BridgeNetfilter::Absent, rows };
        let ratios = report.ratios(&report.rows[4], RATE);
        assert_eq!((ratios.veth, ratios.peer, ratios.vxlan), (Some(0.5), Some(4.0), Some(5.0)));
        assert_eq!(ratios.best, Some(4.0));
        let ratios = report.ratios(&report.rows[1], RATE);
        assert_eq!((ratios.veth, ratios.peer, ratios.best, ratios.vxlan), (Some(0.25), None, None, None));
        assert_eq!(report.json()["rows"][4]["throughputTimes"]["peer"], 4.0);
        assert_eq!(report.charts().iter().map(|c| c.bars.len()).sum::<usize>(), 10);
    }
}
