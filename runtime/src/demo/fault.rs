//! A node cut off from the fabric and healed: only its pods are away, and they come back.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::container::Request;
use super::{
    cluster::{Cluster, Pod},
    plan::PORT,
    report::{Row, Section},
};

/// The node to be cut off.
const CUT: &str = "n2";
/// An answer takes well under a millisecond; this is how long one is waited for that must not come.
const SILENCE_MS: u64 = 300;
/// How long one is waited for that must come, on a busy machine.
const PATIENCE_MS: u64 = 1500;
/// For a healed node's pods to be back.
const RECOVERY: Duration = Duration::from_secs(10);

/// What became of one attempt to reach a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Yes,
    No,
}

/// Cuts the node off, and looks who still reaches whom.
pub(super) fn cut(cluster: &Cluster) -> Result<Section> {
    cluster.fabric.cut(&cluster.node(CUT)?.place)?;
    // One pod of each node: web on n1, orders on n2, ledger on n3.
    let pairs = [("web", "orders"), ("ledger", "orders"), ("web", "ledger"), ("ledger", "cart")];
    let rows = pairs.into_iter().map(|(from, to)| {
        let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
        let wanted = if to.node == CUT { Reached::No } else { Reached::Yes };
        attempt("cut off", from, to, wanted)
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok(Section::new(format!("{CUT} cut off: its pods are away, all others unaffected"), rows))
}

/// Heals it, and waits until its pods are back.
pub(super) fn heal(cluster: &Cluster) -> Result<Section> {
    cluster.fabric.heal(&cluster.node(CUT)?.place)?;
    let healed = Instant::now();
    let pairs = [("web", "orders"), ("ledger", "orders"), ("orders", "web")];
    let rows = pairs.into_iter().map(|(from, to)| {
        let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
        let back = cluster.wait_reachable(from, to, RECOVERY);
        let when = format!("{} ms after", healed.elapsed().as_millis());
        let mut row = attempt(&when, from, to, Reached::Yes)?;
        if let Err(error) = back {
            row.failure = Some(format!("{CUT} healed: {error:#}"));
        }
        Ok(row)
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok(Section::new(format!("{CUT} healed: its pods are back"), rows))
}

fn attempt(phase: &str, from: &Pod, to: &Pod, wanted: Reached) -> Result<Row> {
    let mut cells = vec![
        ("when", phase.to_owned()),
        ("from", format!("{} ({})", from.name, from.node)),
        ("to", format!("{} ({})", to.name, to.node)),
    ];
    let within_ms = match wanted {
        Reached::Yes => PATIENCE_MS,
        Reached::No => SILENCE_MS,
    };
    let mut failure = None;
    for (name, address) in ["ipv4", "ipv6"].into_iter().zip(to.addresses) {
        let to_service = SocketAddr::new(address, PORT);
        let answer = from.ask(Request::Tcp { to: to_service, within_ms })?;
        let reached = if answer.is_ok() { Reached::Yes } else { Reached::No };
        let shown = match &answer {
            Ok(_) => "reached".to_owned(),
            Err(refusal) => {
                let cause = refusal.message.rsplit(": ").next().unwrap_or_default();
                format!("not reached ({cause})")
            }
        };
        if reached != wanted {
            failure = Some(format!("{phase}: {} to {} ({to_service}) was {shown}", from.name, to.name));
        }
        cells.push((name, shown));
    }
    Ok(Row { cells, failure })
}
