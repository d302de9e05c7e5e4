//! The agent is stopped, killed, replaced by another build and started twice, while pods of two nodes send
//! each other a thousand datagrams a second and a TCP stream in both families: not one packet is lost.
#![expect(clippy::unwrap_used, reason = "a failed test is what a panic here means")]
#![expect(clippy::print_stdout, reason = "figures for who asks for them")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use flatnet_tests::agent::{AgentNode, Agents, Underlay};
use flatnet_tests::streams::{Bytes, Datagrams};
use flatnet_tests::{oracle, program};
use netns_fixtures::NetNs;

/// A thousand a second.
const EVERY: Duration = Duration::from_millis(1);

/// A pod, and its addresses: IPv4, IPv6.
type Pod = (NetNs, Vec<IpAddr>);

fn pod(node: &AgentNode) -> Pod {
    let ns = NetNs::new().unwrap();
    let result = node.plugin("ADD", "pod", &ns);
    let texts = oracle::names(result["ips"].as_array().unwrap(), "address");
    let addresses = texts.iter().map(|text| text.split('/').next().unwrap().parse().unwrap());
    (ns, addresses.collect())
}

/// Streams of both kinds in both families from one pod to another.
struct Streams(Vec<(IpAddr, Datagrams, Bytes)>);

impl Streams {
    fn start(from: &Pod, to: &Pod) -> Self {
        let ends = from.1.iter().zip(&to.1);
        let all: Vec<_> = ends
            .map(|(source, target)| {
                let (near, far) = ((&from.0, *source), (&to.0, *target));
                (*target, Datagrams::start(near, far, EVERY), Bytes::start(near, far))
            })
            .collect();
        assert_eq!(all.len(), 2, "both families");
        Self(all)
    }

    fn flow(&self, what: &str) {
        self.0.iter().for_each(|(_, datagrams, _)| datagrams.flows(what));
    }

    /// Ends them; nothing was lost.
    fn stop(self, what: &str) {
        for (target, datagrams, bytes) in self.0 {
            let (loss, carried) = (datagrams.stop(), bytes.stop());
            println!("{what}, to {target}: UDP {loss}; TCP {carried}");
            assert_eq!(loss.lost, 0, "{what}, to {target}: {loss}");
            assert!(carried.bytes > 0);
        }
    }
}

/// What is done to a node's agent.
type Act = fn(&mut AgentNode);

/// Stops node `i`'s agent in this way and starts it in that one, with traffic meanwhile; how long from the
/// start until it is ready.
fn replace(
    (agents, i): (&mut Agents, usize),
    streams: &Streams,
    what: &str,
    (stop, start): (Act, &dyn Fn(&mut AgentNode)),
) -> Duration {
    let before = agents.node(i).ours();
    stop(agents.node_mut(i));
    streams.flow(what);
    let begin = Instant::now();
    start(agents.node_mut(i));
    agents.node(i).wait_ready();
    let took = begin.elapsed();
    streams.flow(what);
    assert_eq!(agents.node(i).ours(), before, "{what}");
    took
}

/// Replaces the agents of node 1 and of node `far` in every way while pods of these nodes talk.
fn is_replaced_without_loss(backend: &str, underlay: Underlay, far: usize) {
    let mut agents = Agents::start(backend, underlay);
    let (from, to) = (pod(agents.node(1)), pod(agents.node(far)));
    let streams = Streams::start(&from, &to);
    let mut took = BTreeMap::<&str, Vec<u128>>::new();
    for _ in 0..3 {
        for i in [1, far] {
            let ways: [(&str, Act); 2] = [("SIGTERM", AgentNode::stop), ("kill -9", AgentNode::kill)];
            for (what, stop) in ways {
                let time = replace((&mut agents, i), &streams, what, (stop, &AgentNode::start));
                took.entry(what).or_default().push(time.as_millis());
            }
        }
    }
    // Another build: the same bytes in another file.
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("flatnetd");
    std::fs::copy(program("flatnetd"), &other).unwrap();
    for i in [1, far] {
        let from_there = |node: &mut AgentNode| node.start_from(&other);
        let time = replace((&mut agents, i), &streams, "upgrade", (AgentNode::stop, &from_there));
        took.entry("upgrade").or_default().push(time.as_millis());
        let running = std::fs::metadata(format!("/proc/{}/exe", agents.node(i).pid())).unwrap().ino();
        assert_eq!(running, std::fs::metadata(&other).unwrap().ino());
        assert_ne!(running, std::fs::metadata(program("flatnetd")).unwrap().ino());
    }
    took.iter().for_each(|(what, times)| println!("{backend}: ready after {what} within {times:?} ms"));
    streams.stop(backend);
    for i in [1, far] {
        let log = agents.node(i).log();
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        assert!(!log.contains("changes=") || log.matches("changes=").count() <= 3, "only the first: {log}");
    }
}

#[test]
fn a_tunnels_agents_are_replaced_without_loss() {
    is_replaced_without_loss("type: vxlan", Underlay::V4, 3);
}

/// Over IPv6, since that carries both families directly.
#[test]
fn agents_of_direct_routes_are_replaced_without_loss() {
    is_replaced_without_loss("type: direct", Underlay::V6, 2);
}

/// The agent's own files.
fn files(node: &AgentNode) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(&node.state).unwrap().map(Result::unwrap);
    let plain = entries.filter(|entry| entry.file_type().unwrap().is_file());
    plain
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[test]
fn a_second_agent_is_refused_and_changes_nothing() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let (from, to) = (pod(agents.node(1)), pod(agents.node(3)));
    let streams = Streams::start(&from, &to);
    let node = agents.node(1);
    let links_and_routes = |node: &AgentNode| {
        let all = oracle::everything(node.ns()).into_iter();
        // Entries that the kernel learns and forgets by itself.
        all.filter(|line| !line.starts_with("neigh show") || line.contains("PERMANENT")).collect()
    };
    let seen =
        |node: &AgentNode| (node.ours(), oracle::command(node.ns(), "nft -s list ruleset"), files(node));
    let (before, tables) = (seen(node), links_and_routes(node));
    for _ in 0..3 {
        let second = node.run("run");
        let text = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(1), "{text}");
        assert!(text.contains("a flatnetd runs with state directory"), "{text}");
        assert!(text.contains(&node.state.display().to_string()), "{text}");
        streams.flow("a second agent was refused");
    }
    assert_eq!(seen(node), before);
    oracle::assert_same(&tables, &links_and_routes(node), "a second agent");
    assert_eq!(node.status()["pid"], u64::from(node.pid()));
    assert_eq!(node.status()["ready"], true);
    streams.stop("a second agent");
}
