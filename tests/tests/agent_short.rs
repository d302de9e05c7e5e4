//! Few nodes that join, leave or move are served without a look at the kernel first. The look that follows finds
//! nothing to do, or puts right what was not as it should be.

use flatnet_tests::agent::{AgentNode, Agents, SOON, Underlay};
use flatnet_tests::oracle;
use netns_fixtures::wait_until;

fn line(n: u8) -> String {
    format!("  - {{ name: m{n}, address: 198.51.100.{n}, subnets: [10.244.{n}.0/24] }}\n")
}

/// The cluster file with these nodes beside the three that run.
fn write(agents: &Agents, more: impl Iterator<Item = u8>) {
    agents.write_cluster(&(agents.cluster(&[1, 2, 3]) + &more.map(line).collect::<String>()));
}

/// How many turns, or ways without one, had this result.
fn count(node: &AgentNode, result: &str) -> u64 {
    let metrics = node.get("/metrics");
    let name = format!("flatnet_reconciles_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

fn has_route(node: &AgentNode, n: u8) -> bool {
    oracle::command(node.ns(), "ip route show proto 70").contains(&format!("10.244.{n}.0/24 nhid "))
}

fn wait_for(node: &AgentNode, what: &str, look: impl Fn() -> bool) {
    let seen = wait_until(what, SOON, || look().then_some(()));
    seen.unwrap_or_else(|e| panic!("{e}\n{}\n{}", node.ours(), node.log()));
}

/// Lets nodes join, from 50 on, until one was served without a look. Answers with the first that did not join.
/// At the start a look may be due anyway.
fn join_until_short(agents: &Agents) -> u8 {
    let node = agents.node(1);
    for n in 50..90 {
        write(agents, 50..=n);
        wait_for(node, "the joiner's route", || has_route(node, n));
        if count(node, "short") > 0 {
            return n + 1;
        }
    }
    panic!("nobody was served without a look\n{}", node.log());
}

#[test]
fn the_look_that_follows_finds_nothing_to_do() {
    for backend in ["type: vxlan", "type: auto"] {
        let agents = Agents::start(backend, Underlay::V4);
        let node = agents.node(1);
        let next = join_until_short(&agents);
        write(&agents, 60..next.max(63));
        wait_for(node, "those that left are gone", || !has_route(node, 50) && has_route(node, 62));
        agents.all_reach_all();
        node.wait_status("all peers are shown", |status| {
            status["peers"].as_array().is_some_and(|peers| peers.len() == 2 + usize::from(next.max(63) - 60))
        });
        let metrics = node.get("/metrics");
        assert!(!metrics.contains("flatnet_heals_total"), "{backend}: {metrics}\n{}", node.log());
        assert_eq!(count(node, "short failed"), 0);
        // From scratch the same comes out.
        let kept = node.ours();
        let routes = |text: &str| text.matches(" nhid ").count();
        drop(oracle::command(node.ns(), "ip nexthop flush proto 70"));
        wait_for(node, "all routes are back", || routes(&node.ours()) == routes(&kept));
    }
}

/// What the kernel got, the next run knows of, though the whole was not written again.
#[test]
fn an_agent_killed_after_it_knows_whom_it_served() {
    let mut agents = Agents::start("type: vxlan", Underlay::V4);
    let next = join_until_short(&agents);
    let last = next - 1;
    agents.node_mut(1).kill();
    let whole = std::fs::read_to_string(agents.node(1).state.join("cluster.json")).unwrap();
    assert!(!whole.contains(&format!("\"m{last}\"")), "{whole}");
    std::fs::remove_file(agents.cluster_path()).unwrap();
    drop(oracle::command(agents.node(1).ns(), "ip nexthop flush proto 70"));
    agents.node_mut(1).start();
    let node = agents.node(1);
    wait_for(node, "the last that joined is known", || has_route(node, last));
    agents.ping(1, 3, Underlay::V4).unwrap();
}

/// The kernel refuses a step: a look follows at once, says whose it was, and serves all others.
#[test]
fn what_is_refused_is_told_and_tried_again() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let next = join_until_short(&agents);
    let route = format!("10.244.{next}.0/24");
    drop(oracle::command(node.ns(), &format!("ip route add unreachable {route}")));
    write(&agents, 50..next + 2);
    node.wait_status("the refusal is told", |status| {
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().any(|peer| peer["name"] == format!("m{next}") && peer["problem"].is_string())
    });
    wait_for(node, "the other's route", || has_route(node, next + 1));
    drop(oracle::command(node.ns(), &format!("ip route del unreachable {route}")));
    wait_for(node, "the route, once it is free", || has_route(node, next));
}

/// Nodes that come and go all the time keep nobody from being healed.
#[test]
fn what_somebody_breaks_meanwhile_is_put_right() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let next = join_until_short(&agents);
    drop(oracle::command(node.ns(), "ip route del 10.244.3.0/24 proto 70"));
    let mut more = false;
    let healed = || {
        more = !more;
        write(&agents, 50..next + u8::from(more));
        has_route(node, 3).then_some(())
    };
    wait_until("a repair", SOON, healed).unwrap_or_else(|e| panic!("{e}\n{}\n{}", node.ours(), node.log()));
    agents.ping(1, 3, Underlay::V4).unwrap();
}
