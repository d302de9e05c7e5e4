//! The agent where the kernel is busy, its event queue overruns, somebody fights it, or the cluster is large.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flatnet_tests::agent::{Agents, SOON, Traffic, Underlay, pod};
use flatnet_tests::oracle::command;
use netns_fixtures::probe::Ping;
use netns_fixtures::{NetNs, wait_until};

/// Feeds `lines` to `ip -batch`.
fn batch(ns: &NetNs, lines: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("batch");
    std::fs::write(&path, lines).expect("write the batch");
    ns.run(|| {
        #[expect(clippy::disallowed_methods, reason = "a test disturbs with iproute2")]
        let mut command = Command::new("ip");
        let command = command.args(["-force", "-batch"]).arg(&path).stderr(Stdio::null());
        command.status().expect("run ip")
    })
    .expect("enter the namespace");
}

/// Links and routes that come and go all the time interrupt dumps; a dump that was cut is read again, never
/// believed, so nothing that is right is touched.
#[test]
fn tables_that_change_while_they_are_read_are_read_again() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let before = node.ours();
    let traffic = Traffic::start(node.ns(), pod(1, Underlay::V4), pod(3, Underlay::V4));
    let churn: String = (0..400)
        .map(|i| {
            let (a, b) = (i / 200, i % 200);
            format!(
                "link add d{i} type veth peer name e{i}\nroute add 172.16.{b}.{a}/32 dev eth0\n\
                 route del 172.16.{b}.{a}/32 dev eth0\nneigh add 192.0.2.250 lladdr 02:00:00:00:00:01 dev eth0\n\
                 neigh del 192.0.2.250 dev eth0\nlink del d{i}\n"
            )
        })
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            batch(node.ns(), &churn);
            over.store(true, Ordering::Release);
        });
        let mut repairs = 0;
        while !over.load(Ordering::Acquire) {
            drop(command(node.ns(), "ip route del 10.244.2.0/24"));
            let back = || command(node.ns(), "ip route show 10.244.2.0/24").contains("nhid").then_some(());
            wait_until("a repair amid the churn", SOON, back)
                .unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
            repairs += 1;
        }
        println!("{repairs} repairs amid the churn");
        assert!(repairs > 0);
    });
    node.wait_ours("after the churn", &before);
    let loss = traffic.stop();
    println!("amid the churn: {loss}");
    assert_eq!(loss.lost, 0, "the other peer was never touched");
}

/// More events than the queue holds, while the agent stands still: what was lost among them is found.
#[test]
fn an_overrun_event_queue_is_a_reason_to_look() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let pid = i32::try_from(node.status()["pid"].as_u64().unwrap()).unwrap();
    let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    // Fields of /proc/net/netlink: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode.
    let drops = || -> u64 {
        let text = command(node.ns(), "cat /proc/thread-self/net/netlink");
        let of = |line: &str| line.split_whitespace().nth(8).and_then(|n| n.parse::<u64>().ok());
        text.lines().skip(1).filter_map(of).sum()
    };
    let before = node.ours();
    signal(nix::sys::signal::Signal::SIGSTOP);
    drop(command(node.ns(), "ip link set eth0 alias busy"));
    let flood: String = (0..12_000)
        .map(|i| {
            format!(
                "neigh replace 192.0.2.{} lladdr 02:00:00:00:00:{:02x} dev eth0 nud permanent\n",
                100 + i % 100,
                i % 251
            )
        })
        .collect();
    batch(node.ns(), &flood);
    assert!(drops() > 0, "the queue did overrun");
    drop(command(node.ns(), "ip route del 10.244.3.0/24"));
    signal(nix::sys::signal::Signal::SIGCONT);
    node.wait_ours("after the overrun", &before);
    agents.ping(1, 3, Underlay::V4).unwrap();
}

/// Something that deletes ten times a second: kept up, slowed down, said once.
#[test]
fn a_fight_is_kept_up_slowed_down_and_named() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let named = || {
        let problems = node.status()["problems"].to_string();
        problems.contains("keeps undoing what the agent puts right")
    };
    let mut deleted = 0;
    let fight = wait_until("the fight is named", Duration::from_secs(60), || {
        // As fast as it comes back.
        if command(node.ns(), "ip route show 10.244.3.0/24").contains("nhid") {
            drop(command(node.ns(), "ip route del 10.244.3.0/24"));
            deleted += 1;
        }
        named().then_some(())
    });
    assert!(fight.is_ok(), "{deleted} times\n{}", node.log());
    for _ in 0..3 {
        let back = || command(node.ns(), "ip route show 10.244.3.0/24").contains("nhid").then_some(());
        wait_until("it comes back all the same", SOON, back).unwrap();
        drop(command(node.ns(), "ip route del 10.244.3.0/24"));
    }
    let log = node.log();
    assert_eq!(log.matches("keeps undoing").count(), 1, "{log}");
    assert!(log.matches("reconciled").count() < 45, "{log}");
    wait_until("peace", Duration::from_secs(40), || (!named()).then_some(())).unwrap();
    node.wait_ready();
}

/// More permanent neighbours than the kernel's limit for learnt ones (`gc_thresh3`): they do not count.
#[test]
fn a_large_cluster_does_not_fill_the_neighbour_table() {
    const PEERS: usize = 3000;
    let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
    let line = |i: usize| {
        let (a, b) = (1 + i / 250, i % 250);
        format!("  - {{ name: m{i}, address: 203.{a}.113.{b}, subnets: [10.{a}.{b}.0/24] }}\n")
    };
    let text = agents.cluster(&[1, 2, 3]).replace("10.244.0.0/16", "10.0.0.0/8");
    agents.write_cluster(&(text + &(0..PEERS).map(line).collect::<String>()));
    for i in 1..=3 {
        agents.node_mut(i).start();
    }
    agents.nodes.iter().for_each(flatnet_tests::agent::AgentNode::wait_ready);
    let node = agents.node(1);
    let limit: usize = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(PEERS > limit, "{limit}");
    let neighbours = command(node.ns(), "ip neigh show dev flat.1 nud permanent").lines().count();
    assert!(neighbours >= PEERS, "{neighbours}");
    agents.all_reach_all();
    let took = node.status()["lastChange"].clone();
    println!("{PEERS} peers: {took}");
}

/// Strict source validation everywhere, as distributions set it, before the agent starts and for pods made
/// afterwards.
#[test]
fn source_validation_of_any_kind_lets_pods_and_nodes_talk() {
    for rp_filter in [0, 1, 2] {
        for backend in ["type: vxlan", "type: auto"] {
            let mut agents = Agents::prepare(backend, Underlay::V4);
            agents.write_cluster(&agents.cluster(&[1, 2, 3]));
            for i in 1..=3 {
                for link in ["all", "default", "eth0"] {
                    let line = format!("sysctl -w net.ipv4.conf.{link}.rp_filter={rp_filter}");
                    drop(command(agents.node(i).ns(), &line));
                }
                agents.node_mut(i).start();
            }
            agents.nodes.iter().for_each(flatnet_tests::agent::AgentNode::wait_ready);
            let pods: Vec<(NetNs, std::net::IpAddr)> = (1..=3)
                .map(|i| {
                    let ns = NetNs::new().unwrap();
                    let result = agents.node(i).plugin("ADD", &format!("p{i}"), &ns);
                    let ip = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
                    (ns, ip.parse().unwrap())
                })
                .collect();
            let reach = |from: &NetNs, to: std::net::IpAddr, what: &str| {
                let answer = Ping::to(to).send(from, SOON);
                assert!(answer.is_ok(), "rp_filter {rp_filter}, {backend}, {what}: {answer:?}");
            };
            for far in [2, 3] {
                let node = agents.node(far);
                reach(&pods[0].0, pods[far - 1].1, &format!("pod to pod of n{far}"));
                reach(&pods[0].0, node.node.v4().unwrap(), &format!("pod to n{far}"));
                reach(node.ns(), pods[0].1, &format!("n{far} to pod"));
            }
            reach(agents.node(1).ns(), pods[0].1, "node to its own pod");
            reach(&pods[0].0, agents.node(1).node.v4().unwrap(), "pod to its own node");
        }
    }
}
