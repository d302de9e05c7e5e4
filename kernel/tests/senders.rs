//! The sets of addresses that the tunnel hears, at the size of a large cluster. The witness is `nft`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use flatnet_core::kernel::Kernel;
use flatnet_core::link::{Underlay, Vni};
use flatnet_core::overlay::filter::{Senders, TunnelFilter, set_name};
use flatnet_core::overlay::snapshot::Observe;
use flatnet_core::step::{Outcome, Step};
use flatnet_kernel::NetlinkKernel;
use netns_fixtures::NetNs;

const PEERS: u32 = 20_000;

fn address(underlay: Underlay, i: u32) -> IpAddr {
    match underlay {
        Underlay::V4 => Ipv4Addr::from_bits(0xc612_0000 + i).into(),
        Underlay::V6 => Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + u128::from(i)).into(),
    }
}

fn senders(underlay: Underlay, range: std::ops::Range<u32>) -> Senders {
    Senders { underlay, addresses: range.map(|i| address(underlay, i)).collect() }
}

fn nft(ns: &NetNs, args: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the witness is not our own code")]
    let output = ns.run(|| Command::new("nft").args(args.split(' ')).output()).unwrap().unwrap();
    assert!(output.status.success(), "nft {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn timed(ns: &NetNs, step: &Step) -> Duration {
    let start = Instant::now();
    let results = ns.run(|| NetlinkKernel::open_node().unwrap().apply(std::slice::from_ref(step))).unwrap();
    assert_eq!(results, [Ok(Outcome::Done)], "{step}");
    start.elapsed()
}

#[test]
fn a_large_cluster_is_let_in_and_changes_one_by_one() {
    netns_fixtures::gate::require();
    for underlay in [Underlay::V4, Underlay::V6] {
        let ns = NetNs::new().unwrap();
        let all = timed(&ns, &Step::PutSenders(senders(underlay, 0..PEERS)));
        let filter = TunnelFilter { underlay, vni: Vni::try_from(7).unwrap(), port: 4789 };
        timed(&ns, &Step::PutTunnelFilter(filter));
        let one_more = timed(&ns, &Step::PutSenders(senders(underlay, PEERS..PEERS + 1)));
        let one_less = timed(&ns, &Step::DropSenders(senders(underlay, 5..6)));
        println!("{underlay:?}: {PEERS} in {all:?}, one more in {one_more:?}, one less in {one_less:?}");
        let listed = nft(&ns, &format!("list set inet flatnet {}", set_name(underlay)));
        assert_eq!(listed.matches("198.1").count().max(listed.matches("2001:db8").count()), 20_000);
        assert!(!listed.contains(&format!("{},", address(underlay, 5))), "one less");
        let seen = ns.run(|| NetlinkKernel::open_node().unwrap().snapshot()).unwrap().unwrap();
        assert_eq!((seen.filter.senders.len(), seen.filter.marks), (20_000, filter.marks()));
        // What is gone already stops nothing.
        timed(&ns, &Step::DropSenders(senders(underlay, 4..7)));
        timed(&ns, &Step::DropTunnelFilter);
        assert!(!nft(&ns, "list ruleset").contains("vxlan"));
        timed(&ns, &Step::DropTunnelFilter);
    }
}
