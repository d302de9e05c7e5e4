//! Every step against the real kernel: what it does, what it says the second time, and what the kernel
//! says when it will not. The witness is `ip`, not our own reading.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use flatnet_core::kernel::{Kernel, KernelError};
use flatnet_core::link::{Mac, OverlayMtu, Vni};
use flatnet_core::names::IfName;
use flatnet_core::step::{
    AddrScope, Fdb, Ifb, Ipv4Conf, LinkChange, LinkLocal, LinkRef, Neighbour, Nexthop, Ns, Outcome, Put,
    Route, Rule, Step, VethPair, Via, Vxlan,
};
use flatnet_kernel::{NetlinkKernel, NetnsFd};
use netns_fixtures::NetNs;

struct Pair {
    node: NetNs,
    pod: NetNs,
    kernel: NetlinkKernel,
}

fn pair() -> Pair {
    netns_fixtures::gate::require();
    let (node, pod) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let fd = NetnsFd::open(&pod.path()).unwrap();
    let kernel = node.run(|| NetlinkKernel::open_node().unwrap().with_pod(fd).unwrap()).unwrap();
    Pair { node, pod, kernel }
}

fn name(s: &str) -> IfName {
    s.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn veth() -> VethPair {
    VethPair {
        host: name("host"),
        host_mac: mac(1),
        pod: name("eth0"),
        pod_mac: mac(2),
        mtu: OverlayMtu::new(1400).unwrap(),
        segment_size: None,
    }
}

fn route(dst: &str, via: Via) -> Route {
    Route { dst: dst.parse().unwrap(), via, source: None, metric: None }
}

fn ip(ns: &NetNs, args: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the witness is not our own code")]
    let output = ns.run(|| Command::new("ip").args(args.split(' ')).output()).unwrap().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Pair {
    fn apply(&mut self, steps: &[Step]) -> Vec<Result<Outcome, KernelError>> {
        // The kernel object belongs to the namespaces it was opened in; only settings need the thread's.
        let Self { node, kernel, .. } = self;
        node.run(|| kernel.apply(steps)).unwrap()
    }

    fn one(&mut self, step: Step) -> Result<Outcome, KernelError> {
        self.apply(&[step]).remove(0)
    }

    fn with_veth() -> Self {
        let mut pair = pair();
        pair.one(Step::CreateVeth(veth())).unwrap();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        pair.one(Step::SetLink(LinkRef::node(name("host")), up)).unwrap();
        pair
    }
}

#[test]
fn a_pair_and_all_about_it_travel_in_one_batch() {
    let mut pair = pair();
    let link = LinkRef::node(name("host"));
    let results = pair.apply(&[
        Step::CreateVeth(veth()),
        Step::SetLink(
            link.clone(),
            LinkChange {
                alias: Some("of a test".to_owned()),
                ipv4: vec![(Ipv4Conf::ProxyArp, 1), (Ipv4Conf::RpFilter, 2), (Ipv4Conf::Forwarding, 0)],
                ..LinkChange::default()
            },
        ),
        Step::SetLink(
            link.clone(),
            LinkChange { up: Some(true), link_local: Some(LinkLocal::None), ..LinkChange::default() },
        ),
        Step::AddAddr(link.clone(), "169.254.1.1/32".parse().unwrap(), AddrScope::Host),
        Step::PutRoute(Ns::Node, route("10.0.0.2/32", Via::Link(name("host"))), Put::New),
        Step::PutNeighbour(link, Neighbour { ip: "10.0.0.2".parse().unwrap(), mac: mac(2) }),
    ]);
    assert!(results.iter().all(|r| matches!(r, Ok(Outcome::Done))), "{results:?}");
    let shown = ip(&pair.node, "-d addr show host");
    for word in ["mtu 1400", "02:00:00:00:00:01", "alias of a test", "169.254.1.1/32 scope host", "UP"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(ip(&pair.pod, "link show eth0").contains("02:00:00:00:00:02"));
    assert!(ip(&pair.node, "route").contains("10.0.0.2 dev host proto 70 scope link"));
    assert!(ip(&pair.node, "neigh").contains("10.0.0.2 dev host lladdr 02:00:00:00:00:02 PERMANENT"));
    let conf = pair.node.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/host/rp_filter")).unwrap();
    assert_eq!(conf.unwrap().trim(), "2");
}

#[test]
fn what_is_there_already_is_told_from_a_conflict() {
    let mut pair = Pair::with_veth();
    let link = LinkRef::node(name("host"));
    let add = Step::AddAddr(link.clone(), "10.0.0.1/24".parse().unwrap(), AddrScope::Global);
    assert_eq!(pair.one(add.clone()), Ok(Outcome::Done));
    assert_eq!(pair.one(add), Ok(Outcome::AlreadySo));
    let put = |mode| Step::PutRoute(Ns::Node, route("10.9.0.0/16", Via::Link(name("host"))), mode);
    assert_eq!(pair.one(put(Put::New)), Ok(Outcome::Done));
    assert_eq!(pair.one(put(Put::New)).unwrap_err().errno, Some(17));
    assert_eq!(pair.one(put(Put::Replace)), Ok(Outcome::Done));
    let e = pair.one(Step::CreateVeth(veth())).unwrap_err();
    assert_eq!(e.errno, Some(17));
    assert!(e.to_string().contains("create veth host"), "{e}");
}

#[test]
fn removing_what_is_gone_succeeds() {
    let mut pair = Pair::with_veth();
    let link = LinkRef::node(name("host"));
    let all = [
        Step::DropAddr(link.clone(), "10.0.0.1/24".parse().unwrap()),
        Step::DropRoute(Ns::Node, route("10.9.0.0/16", Via::Link(name("host")))),
        Step::DropRoute(Ns::Node, route("fd00::/64", Via::Unreachable)),
        Step::DropNeighbour(link.clone(), Neighbour { ip: "10.0.0.2".parse().unwrap(), mac: mac(2) }),
        Step::DropNexthop(Nexthop { id: 77, gateway: "10.0.0.2".parse().unwrap(), link: name("host") }),
    ];
    for result in pair.apply(&all) {
        assert_eq!(result, Ok(Outcome::AlreadyGone));
    }
    assert_eq!(pair.one(Step::DeleteLink(link.clone())), Ok(Outcome::Done));
    assert_eq!(pair.one(Step::DeleteLink(link.clone())), Ok(Outcome::AlreadyGone));
    for result in pair.apply(&all) {
        assert_eq!(result, Ok(Outcome::AlreadyGone), "with the link gone too");
    }
    let e =
        pair.one(Step::SetLink(link, LinkChange { up: Some(true), ..LinkChange::default() })).unwrap_err();
    assert_eq!(e.errno, Some(19), "{e}");
}

#[test]
fn the_kernels_own_words_reach_the_error() {
    let mut pair = Pair::with_veth();
    let via = Via::Gateway { gateway: "192.0.2.9".parse().unwrap(), link: name("host") };
    let e = pair.one(Step::PutRoute(Ns::Node, route("10.1.0.0/16", via), Put::New)).unwrap_err();
    assert_eq!(
        e.to_string(),
        "add route 10.1.0.0/16 via 192.0.2.9 dev host on node: network is unreachable (Nexthop has invalid gateway)"
    );
}

#[test]
fn a_tunnel_with_its_peer_in_both_families() {
    let mut pair = Pair::with_veth();
    let tunnel = LinkRef::node(name("flat.7"));
    let vxlan = Vxlan {
        name: name("flat.7"),
        vni: Vni::try_from(7).unwrap(),
        port: 8472,
        local: "10.0.0.1".parse().unwrap(),
        uplink: name("host"),
        mtu: 1350,
        mac: mac(9),
    };
    let (v4, v6) = ("10.244.2.0".parse().unwrap(), "fd00:2::".parse().unwrap());
    let nexthop = |id, gateway| Nexthop { id, gateway, link: name("flat.7") };
    let results = pair.apply(&[
        Step::CreateVxlan(vxlan),
        Step::SetLink(tunnel.clone(), LinkChange { up: Some(true), ..LinkChange::default() }),
        Step::PutFdb(tunnel.clone(), Fdb { mac: mac(8), node: "192.0.2.2".parse().unwrap() }),
        Step::PutNeighbour(tunnel.clone(), Neighbour { ip: v4, mac: mac(8) }),
        Step::PutNeighbour(tunnel.clone(), Neighbour { ip: v6, mac: mac(8) }),
        Step::PutNexthop(nexthop(1001, v4)),
        Step::PutNexthop(nexthop(1002, v6)),
        Step::PutRoute(Ns::Node, route("10.244.2.0/24", Via::Nexthop(1001)), Put::Replace),
        Step::PutRoute(Ns::Node, route("fd00:2::/64", Via::Nexthop(1002)), Put::Replace),
    ]);
    assert!(results.iter().all(|r| matches!(r, Ok(Outcome::Done))), "{results:?}");
    let shown = ip(&pair.node, "-d link show flat.7");
    for word in
        ["vxlan id 7 local 10.0.0.1 dev host", "dstport 8472 nolearning", "mtu 1350", "02:00:00:00:00:09"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert!(
        ip(&pair.node, "route").contains("10.244.2.0/24 nhid 1001 via 10.244.2.0 dev flat.7 proto 70 onlink")
    );
    assert!(ip(&pair.node, "-6 route").contains("fd00:2::/64 nhid 1002 via fd00:2:: dev flat.7 proto 70"));
    let dropped = pair.apply(&[
        Step::DropFdb(tunnel.clone(), Fdb { mac: mac(8), node: "192.0.2.2".parse().unwrap() }),
        Step::DropNexthop(nexthop(1001, v4)),
        Step::DeleteLink(tunnel),
    ]);
    assert!(dropped.iter().all(|r| matches!(r, Ok(Outcome::Done))), "{dropped:?}");
    assert!(!ip(&pair.node, "route").contains("10.244.2.0/24"));
}

/// A link that is taken away and made again under its name in one application is another link: what
/// follows must reach the new one.
#[test]
fn a_name_that_comes_back_is_looked_up_again() {
    let mut pair = Pair::with_veth();
    let vxlan = |vni: u32| Vxlan {
        name: name("flat.7"),
        vni: Vni::try_from(vni).unwrap(),
        port: 8472,
        local: "10.0.0.1".parse().unwrap(),
        uplink: name("host"),
        mtu: 1350,
        mac: mac(9),
    };
    let tunnel = LinkRef::node(name("flat.7"));
    let up = || Step::SetLink(tunnel.clone(), LinkChange { up: Some(true), ..LinkChange::default() });
    let results = pair.apply(&[
        Step::CreateVxlan(vxlan(7)),
        up(),
        Step::DeleteLink(tunnel.clone()),
        Step::CreateVxlan(vxlan(8)),
        up(),
        Step::PutFdb(tunnel.clone(), Fdb { mac: mac(8), node: "192.0.2.2".parse().unwrap() }),
    ]);
    assert!(results.iter().all(|r| matches!(r, Ok(Outcome::Done))), "{results:?}");
    let shown = ip(&pair.node, "-d link show flat.7");
    assert!(shown.contains("vxlan id 8") && shown.contains("UP"), "{shown}");
}

#[test]
fn settings_are_written_where_they_belong() {
    let mut pair = Pair::with_veth();
    let set = |ns, value: &str| Step::SetSysctl(ns, "net/ipv4/ip_forward".to_owned(), value.to_owned());
    let read =
        |ns: &NetNs| ns.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")).unwrap().unwrap();
    let before = read(&pair.node);
    let other = if before.trim() == "1" { "0" } else { "1" };
    assert_eq!(pair.one(set(Ns::Pod, other)), Ok(Outcome::Done));
    assert_eq!(pair.one(set(Ns::Pod, other)), Ok(Outcome::AlreadySo));
    assert_eq!((read(&pair.pod).trim(), read(&pair.node)), (other, before));
    let escape = Step::SetSysctl(Ns::Pod, "net/../kernel/panic".to_owned(), "1".to_owned());
    assert!(pair.one(escape).unwrap_err().to_string().contains("not a sysctl key"));
    let missing = Step::SetSysctl(Ns::Pod, "net/ipv4/no_such".to_owned(), "1".to_owned());
    assert_eq!(pair.one(missing).unwrap_err().errno, Some(2));
}

/// More requests than fit one datagram: each gets its own answer.
#[test]
fn a_long_batch_answers_every_request() {
    let mut pair = Pair::with_veth();
    let dst = |i: usize| format!("10.{}.{}.0/24", 100 + i / 256, i % 256);
    let put = |i: usize| Step::PutRoute(Ns::Node, route(&dst(i), Via::Link(name("host"))), Put::New);
    let mut steps: Vec<Step> = (0..1000).map(put).collect();
    steps.insert(500, put(3));
    let results = pair.apply(&steps);
    assert_eq!(results.len(), 1001);
    for (i, result) in results.iter().enumerate() {
        match i {
            500 => assert_eq!(result.as_ref().unwrap_err().errno, Some(17)),
            _ => assert_eq!(result, &Ok(Outcome::Done), "{i}"),
        }
    }
    assert_eq!(ip(&pair.node, "route").lines().count(), 1000);
}

#[test]
fn a_namespace_is_verified_before_it_is_used() {
    let e = NetnsFd::open("/proc/self/ns/uts".as_ref()).unwrap_err().to_string();
    assert!(e.contains("another kind"), "{e}");
    let e = NetnsFd::open("/etc/passwd".as_ref()).unwrap_err().to_string();
    assert!(e.contains("/etc/passwd is not a network namespace"), "{e}");
    let ns = NetNs::new().unwrap();
    assert_eq!(NetnsFd::open(&ns.path()).unwrap().inode(), ns.inode().unwrap());
    assert!(NetnsFd::current().unwrap().is_same(&NetnsFd::open("/proc/self/ns/net".as_ref()).unwrap()));
}

/// Several links go as one group, and each step still says what became of its own.
#[test]
fn removals_beside_each_other_go_together() {
    let mut pair = Pair::with_veth();
    pair.one(Step::CreateIfb(Ifb { name: name("shaper"), mtu: 1500 })).unwrap();
    pair.one(Step::CreateIfb(Ifb { name: name("bystander"), mtu: 1500 })).unwrap();
    let removals = ["host", "nobody", "shaper"].map(|link| Step::DeleteLink(LinkRef::node(name(link))));
    let results = pair.apply(&removals);
    assert_eq!(results, [Ok(Outcome::Done), Ok(Outcome::AlreadyGone), Ok(Outcome::Done)]);
    let left = ip(&pair.node, "-br link");
    assert!(left.contains("bystander") && !left.contains("host") && !left.contains("shaper"), "{left}");
    assert!(!ip(&pair.pod, "-br link").contains("eth0"));
}

#[test]
fn rules_and_tables_of_a_pod() {
    let mut pair = Pair::with_veth();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    pair.one(Step::SetLink(LinkRef::pod(name("eth0")), up)).unwrap();
    for from in ["10.9.0.1", "fd00:9::1"] {
        let rule = Rule { from: from.parse().unwrap(), table: 70_000, priority: 1000 };
        let family = if rule.from.is_ipv4() { "-4" } else { "-6" };
        assert_eq!(pair.one(Step::PutRule(Ns::Pod, rule)), Ok(Outcome::Done));
        assert_eq!(pair.one(Step::PutRule(Ns::Pod, rule)), Ok(Outcome::AlreadySo));
        let dst = if rule.from.is_ipv4() { "10.8.0.0/16" } else { "fd00:8::/32" };
        let put = Step::PutTableRoute(Ns::Pod, 70_000, route(dst, Via::Link(name("eth0"))));
        assert_eq!(pair.one(put.clone()), Ok(Outcome::Done));
        assert_eq!(pair.one(put), Ok(Outcome::Done), "in place of the one of its key");
        let rules = ip(&pair.pod, &format!("{family} rule show"));
        assert_eq!(rules.matches(&format!("1000:\tfrom {from} lookup 70000 proto 70")).count(), 1, "{rules}");
        let routes = ip(&pair.pod, &format!("{family} route show table 70000"));
        assert_eq!(routes.matches(&format!("{dst} dev eth0 proto 70")).count(), 1, "{routes}");
        assert_eq!(pair.one(Step::DropRule(Ns::Pod, rule)), Ok(Outcome::Done));
        assert_eq!(pair.one(Step::DropRule(Ns::Pod, rule)), Ok(Outcome::AlreadyGone));
    }
    let nowhere = route("10.7.0.0/16", Via::Link(name("eth9")));
    assert_eq!(pair.one(Step::PutTableRoute(Ns::Pod, 70_000, nowhere)).unwrap_err().errno, Some(19));
}
