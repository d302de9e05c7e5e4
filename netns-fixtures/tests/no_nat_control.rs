//! The negative control of every "no NAT" claim: with a masquerade rule on the way, the probes say so.

use std::{io::Write, net::IpAddr, process::Stdio, time::Duration};

use netns_fixtures::{
    Fabric, FixtureError, KillOnDrop, NetNs, gate,
    probe::{IcmpWitness, TcpServer, UdpServer, ping, tcp_probe, udp_probe},
};

const SOON: Duration = Duration::from_secs(5);
const MASQUERADE: &str = "table inet control { chain post { \
     type nat hook postrouting priority srcnat; masquerade; }; }";

/// Loads `rules` in `ns` by the `nft` program: a second opinion must not share our own code.
#[expect(clippy::disallowed_methods, reason = "nft is the test's tool")]
fn nft(ns: &NetNs, rules: &str) {
    let mut command = std::process::Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped());
    ns.enter_for_child(&mut command).expect("enter the namespace");
    let mut nft = KillOnDrop::new(command.spawn().expect("nft (package nftables) is installed"));
    let mut stdin = nft.child().stdin.take().expect("piped");
    stdin.write_all(rules.as_bytes()).expect("nft reads its rules");
    drop(stdin);
    assert!(nft.child().wait().expect("nft ends").success());
}

#[test]
fn a_masquerade_on_the_way_is_noticed_by_every_probe() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let (n1, n3) = (fabric.node("n1", "a")?, fabric.node("n3", "b")?);
    nft(&fabric.router, MASQUERADE);
    let witness = IcmpWitness::start(&n3.ns)?;
    for to in n3.addresses.iter().map(ipnetwork::IpNetwork::ip).collect::<Vec<IpAddr>>() {
        let tcp = TcpServer::start(&n3.ns, (to, 80).into())?;
        assert!(!tcp_probe(&n1.ns, None, tcp.address(), SOON)?.is_untranslated());
        let udp = UdpServer::start(&n3.ns, (to, 80).into())?;
        assert!(!udp_probe(&n1.ns, None, udp.address(), SOON)?.is_untranslated());
        let pong = ping(&n1.ns, to, SOON)?;
        assert_ne!(witness.source_of(pong.token, SOON)?, pong.local);
    }
    Ok(())
}
