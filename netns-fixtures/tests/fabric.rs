//! A fabric carries its nodes' packets, honours its MTU, and can be cut and healed.

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use netns_fixtures::{
    Capture, Fabric, FixtureError, NetNs, Node, Segment, Transport, gate,
    probe::{IcmpWitness, Ping, TcpServer, UdpServer, ping, tcp_probe, udp_probe},
};

const SOON: Duration = Duration::from_secs(5);
const BRIEFLY: Duration = Duration::from_millis(300);

fn both(node: &Node) -> [IpAddr; 2] {
    [node.v4().expect("dual stack"), node.v6().expect("dual stack")]
}

#[test]
fn nodes_reach_each_other_on_a_segment_and_across_the_router() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let [n1, n2, n3] = [fabric.node("n1", "a")?, fabric.node("n2", "a")?, fabric.node("n3", "b")?];
    for (from, to) in [(&n1, &n2), (&n1, &n3), (&n3, &n2)] {
        let witness = IcmpWitness::start(&to.ns)?;
        for address in both(to) {
            let pong = ping(&from.ns, address, SOON)?;
            assert_eq!(witness.source_of(pong.token, SOON)?, pong.local);
            assert!(both(from).contains(&pong.local));
        }
    }
    Ok(())
}

#[test]
fn probes_report_the_source_that_the_server_saw() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let (n1, n3) = (fabric.node("n1", "a")?, fabric.node("n3", "b")?);
    for (from, to) in both(&n1).into_iter().zip(both(&n3)) {
        let tcp = TcpServer::start(&n3.ns, (to, 8080).into())?;
        let seen = tcp_probe(&n1.ns, Some(from), tcp.address(), SOON)?;
        assert_eq!((seen.seen_by_peer, seen.local.ip()), (seen.local, from));
        let udp = UdpServer::start(&n3.ns, (to, 8080).into())?;
        let seen = udp_probe(&n1.ns, None, udp.address(), SOON)?;
        assert_eq!((seen.seen_by_peer, seen.local.ip()), (seen.local, from));
    }
    Ok(())
}

#[test]
fn a_closed_port_is_refused_not_waited_for() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let (n1, n3) = (fabric.node("n1", "a")?, fabric.node("n3", "b")?);
    let refused = tcp_probe(&n1.ns, None, (both(&n3)[0], 9).into(), SOON);
    assert!(refused.is_err_and(|e| !e.is_timeout()));
    Ok(())
}

#[test]
fn a_packet_larger_than_a_segment_takes_does_not_pass_unfragmented() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::builder()
        .segment(Segment::new("wide").v4("192.0.2.0/24").v6("2001:db8:1::/64"))
        .segment(Segment::new("tight").v4("198.51.100.0/24").v6("2001:db8:2::/64").mtu(1400))
        .build()?;
    let (n1, n2) = (fabric.node("n1", "wide")?, fabric.node("n2", "tight")?);
    for to in both(&n2) {
        Ping::to(to).unfragmented(1400).send(&n1.ns, SOON)?;
        let larger = Ping::to(to).unfragmented(1401).send(&n1.ns, BRIEFLY);
        assert!(larger.is_err(), "1401 bytes passed a segment with MTU 1400 to {to}");
    }
    Ok(())
}

#[test]
fn a_cut_node_is_unreachable_until_healed_and_others_do_not_notice() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let [n1, n2, n3] = [fabric.node("n1", "a")?, fabric.node("n2", "a")?, fabric.node("n3", "b")?];
    fabric.cut(&n2)?;
    for (unreachable, fine) in both(&n2).into_iter().zip(both(&n3)) {
        assert!(ping(&n1.ns, unreachable, BRIEFLY).is_err());
        ping(&n1.ns, fine, SOON)?;
    }
    fabric.heal(&n2)?;
    both(&n2).into_iter().try_for_each(|to| ping(&n1.ns, to, SOON).map(drop))?;

    fabric.cut_segment("b")?;
    assert!(ping(&n1.ns, both(&n3)[0], BRIEFLY).is_err());
    ping(&n1.ns, both(&n2)[0], SOON)?;
    fabric.heal_segment("b")?;
    both(&n3).into_iter().try_for_each(|to| ping(&n1.ns, to, SOON).map(drop))
}

#[test]
fn the_router_does_not_forward_pod_addresses() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let (n1, n3) = (fabric.node("n1", "a")?, fabric.node("n3", "b")?);
    let at_target = fabric.capture(&n3)?;
    assert!(ping(&n1.ns, [10, 244, 3, 2].into(), BRIEFLY).is_err());
    ping(&n1.ns, both(&n3)[0], SOON)?;
    let pod = IpAddr::from([10, 244, 3, 2]);
    assert!(at_target.stop().iter().all(|packet| packet.outer.dst != pod));
    Ok(())
}

#[test]
fn a_capture_sees_the_echo_and_its_reply_once() -> Result<(), FixtureError> {
    gate::require();
    let mut fabric = Fabric::two_segments()?;
    let (n1, n2) = (fabric.node("n1", "a")?, fabric.node("n2", "a")?);
    let capture = fabric.capture(&n1)?;
    for (to, kinds) in both(&n2).into_iter().zip([[8, 0], [128, 129]]) {
        let pong = ping(&n1.ns, to, SOON)?;
        for kind in kinds {
            let is_it = |t| matches!(t, Transport::Icmp { kind: k, id, .. } if (k, id) == (kind, pong.id));
            let packet = capture.wait_for("echo", SOON, |p| is_it(p.outer.transport))?;
            assert!(packet.vxlan.is_none());
            let ends = [packet.outer.src, packet.outer.dst];
            assert!(ends.contains(&pong.local) && ends.contains(&to), "{ends:?}");
            let mut seen = sequences(&capture, kind, pong.id);
            seen.sort_unstable();
            assert!(seen.array_windows().all(|[one, next]| one != next), "twice: {seen:?}");
        }
    }
    Ok(())
}

#[test]
fn namespaces_are_gone_with_their_holder() -> Result<(), FixtureError> {
    gate::require();
    let inode = {
        let mut fabric = Fabric::two_segments()?;
        let node = fabric.node("n1", "a")?;
        let inode = node.ns.inode()?;
        assert!(fds_on(inode) > 0, "the check can see a held namespace");
        inode
    };
    assert_eq!(fds_on(inode), 0);
    Ok(())
}

/// The sequence numbers of a ping's echoes of this type. A ping that waits for an answer sends another.
fn sequences(capture: &Capture, kind: u8, id: u16) -> Vec<u16> {
    let of_it = |transport| match transport {
        Transport::Icmp { kind: k, id: i, sequence, .. } if (k, i) == (kind, id) => Some(sequence),
        _ => None,
    };
    capture.packets().iter().filter_map(|packet| of_it(packet.outer.transport)).collect()
}

/// How many descriptors of this process are on the namespace.
fn fds_on(inode: u64) -> usize {
    let target = format!("net:[{inode}]");
    let fds = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    fds.filter_map(|fd| fs::read_link(fd.path()).ok()).filter(|link| link.to_string_lossy() == target).count()
}

#[test]
fn a_panic_inside_reaches_the_caller_and_leaves_nothing() -> Result<(), FixtureError> {
    gate::require();
    let here = NetNs::current()?.inode()?;
    let inode = AtomicU64::new(0);
    let panicked = std::panic::catch_unwind(|| {
        let mut fabric = Fabric::two_segments().expect("a fabric");
        let node = fabric.node("n1", "a").expect("a node");
        inode.store(node.ns.inode().expect("an inode"), Ordering::Relaxed);
        node.ns.run(|| panic!("on purpose"))
    });
    assert!(panicked.is_err());
    assert_eq!(fds_on(inode.into_inner()), 0);
    assert_eq!(NetNs::current()?.inode()?, here);
    Ok(())
}
