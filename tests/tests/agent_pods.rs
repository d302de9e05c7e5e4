//! Agent and plugin meet on the state directory: real pods on several nodes, and the agent leaves them alone.

use std::net::IpAddr;

use flatnet_tests::agent::{Agents, SOON, Underlay};
use flatnet_tests::oracle::{self, command};
use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{NetNs, wait_until};
use serde_json::Value;

/// The address of the given family in the result of an ADD.
fn address(result: &Value, family: Underlay) -> IpAddr {
    let all = result["ips"].as_array().expect("a list");
    let addresses = all.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok());
    let mut of_family = addresses.filter(|ip: &IpAddr| ip.is_ipv4() == (family == Underlay::V4));
    of_family.next().expect("an address of the family")
}

fn pods(agents: &Agents) -> Vec<(NetNs, Value)> {
    let add = |i: usize| {
        let ns = NetNs::new().expect("a pod");
        let result = agents.node(i).plugin("ADD", &format!("pod{i}"), &ns);
        (ns, result)
    };
    (1..=3).map(add).collect()
}

#[test]
fn pods_of_three_nodes_talk_under_their_own_addresses() {
    for (backend, underlay) in [("vxlan", Underlay::V4), ("auto", Underlay::V4), ("auto", Underlay::V6)] {
        let agents = Agents::start(&format!("type: {backend}"), underlay);
        let pods = pods(&agents);
        for (from, (client, _)) in pods.iter().enumerate() {
            for (to, (server, result)) in pods.iter().enumerate().filter(|(to, _)| *to != from) {
                for family in [Underlay::V4, Underlay::V6] {
                    let server = TcpServer::start(server, (address(result, family), 80).into()).unwrap();
                    let seen = tcp_probe(client, None, server.address(), SOON);
                    let what =
                        format!("{backend} over {underlay:?}, n{} to n{}, {family:?}", from + 1, to + 1);
                    assert!(seen.as_ref().is_ok_and(|seen| seen.is_untranslated()), "{what}: {seen:?}");
                }
            }
        }
    }
}

#[test]
fn the_agent_leaves_pods_alone() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    let (pod, result) = pods(&agents).remove(0);
    let ns = agents.node(1).ns().clone();
    let host_route = format!("{} dev fn", address(&result, Underlay::V4));
    let kept = || command(&ns, "ip route show proto 70").contains(&host_route);
    assert!(kept());
    // The repair shows that the agent looked again.
    drop(command(&ns, "ip route del 10.244.3.0/24"));
    let back = || command(&ns, "ip route show 10.244.3.0/24").contains("nhid").then_some(());
    wait_until("a repair", SOON, back).unwrap();
    assert!(kept());
    agents.node_mut(1).stop();
    assert!(agents.node(1).run("cleanup").status.success());
    assert!(kept());
    assert!(oracle::links(&ns).iter().any(|link| link.starts_with("fn")));
    assert!(agents.node(1).state.join("attachments").is_dir());
    // DEL needs no agent.
    drop(agents.node(1).plugin("DEL", "pod1", &pod));
    assert!(!kept());
}
