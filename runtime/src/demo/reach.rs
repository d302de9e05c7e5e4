//! Every pod reaches every other one, and the receiver sees the sender's own address.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
};

use anyhow::{Result, anyhow};

use super::container::{Answer, Refusal, Request};
use super::{
    cluster::{Cluster, Pod},
    plan::PORT,
    report::{Row, Section},
};

/// For one probe; an answer takes well under a millisecond.
const WITHIN_MS: u64 = 1000;

/// One section per family.
pub(super) fn check(cluster: &Cluster) -> Result<Vec<Section>> {
    let rows = |family: usize| -> Result<Vec<Row>> {
        thread::scope(|scope| {
            let probers: Vec<_> = cluster
                .pods
                .iter()
                .map(|from| scope.spawn(move || from_pod(cluster, from, family)))
                .collect();
            let rows = probers
                .into_iter()
                .map(|prober| prober.join().map_err(|_| anyhow!("a prober panicked")).and_then(|rows| rows));
            Ok(rows.collect::<Result<Vec<_>>>()?.concat())
        })
    };
    let claim = |name| {
        format!("{name}: every pod reaches every other; the receiver saw the sender's own address and port")
    };
    Ok(vec![Section::new(claim("IPv4"), rows(0)?), Section::new(claim("IPv6"), rows(1)?)])
}

fn from_pod(cluster: &Cluster, from: &Pod, family: usize) -> Result<Vec<Row>> {
    let pairs = cluster.pairs().filter(|(sender, _)| sender.name == from.name);
    pairs.map(|(from, to)| row(from, to, family)).collect()
}

fn row(from: &Pod, to: &Pod, family: usize) -> Result<Row> {
    let (own, target) = (from.addresses[family], to.addresses[family]);
    let service = SocketAddr::new(target, PORT);
    let tcp = from.ask(Request::Tcp { to: service, within_ms: WITHIN_MS })?;
    let udp = from.ask(Request::Udp { to: service, within_ms: WITHIN_MS })?;
    let ping = from.ask(Request::Ping { to: target, within_ms: WITHIN_MS })?;
    let (ping, rtt) = match ping {
        Ok(Answer::Pong { token, rtt_us, .. }) => {
            (to.ask(Request::PingedBy { token })?, format!("{rtt_us} µs"))
        }
        other => (other, String::new()),
    };
    let seen = [judge(own, &tcp), judge(own, &udp), judge(own, &ping)];
    let wrong: Vec<&str> = seen.iter().filter_map(|s| s.as_ref().err()).map(String::as_str).collect();
    let failure =
        (!wrong.is_empty()).then(|| format!("{} to {} ({target}): {}", from.name, to.name, wrong.join("; ")));
    let [tcp, udp, ping] = seen.map(|s| s.unwrap_or_else(|e| e));
    Ok(Row {
        cells: vec![
            ("from", from.name.to_owned()),
            ("to", to.name.to_owned()),
            ("nodes", format!("{} → {}", from.node, to.node)),
            ("tcp from", tcp),
            ("udp from", udp),
            ("ping from", ping),
            ("ping", rtt),
        ],
        failure,
    })
}

/// What the receiver saw, or what is wrong with it.
fn judge(own: IpAddr, answer: &Result<Answer, Refusal>) -> Result<String, String> {
    match answer {
        Ok(Answer::Seen { local, by_peer }) if local == by_peer && local.ip() == own => {
            Ok(by_peer.to_string())
        }
        Ok(Answer::Seen { local, by_peer }) => {
            Err(format!("NAT: {local} was seen as {by_peer}, the pod is {own}"))
        }
        Ok(Answer::Source(source)) if *source == own => Ok(source.to_string()),
        Ok(Answer::Source(source)) => Err(format!("NAT: a ping of {own} was seen as {source}")),
        Ok(other) => Err(format!("answered {other:?}")),
        Err(refusal) => Err(refusal.message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_port_or_address_is_not_the_senders_own() {
        let own: IpAddr = [10, 244, 1, 2].into();
        let local: SocketAddr = (own, 4000).into();
        let seen = |by_peer| judge(own, &Ok(Answer::Seen { local, by_peer }));
        assert_eq!(seen(local), Ok("10.244.1.2:4000".to_owned()));
        assert!(seen((own, 4001).into()).is_err());
        assert!(seen(([192, 0, 2, 1], 4000).into()).is_err());
        assert!(judge(own, &Ok(Answer::Source([192, 0, 2, 1].into()))).is_err());
    }
}
