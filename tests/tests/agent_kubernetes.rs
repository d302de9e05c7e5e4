//! The Kubernetes store against an API server that speaks HTTP and TLS as the real one does: one network with
//! flannel's nodes, and every fault that an API server has, none of which a pod may notice.
#![expect(clippy::print_stdout, reason = "what a fault cost is shown with --nocapture")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use flatnet_tests::agent::{AgentNode, SOON};
use flatnet_tests::kubernetes::KubeNodes;
use flatnet_tests::oracle;
use flatnet_tests::streams::Datagrams;
use netns_fixtures::probe::Ping;
use netns_fixtures::{NetNs, wait_until};
use serde_json::Value;

/// The longest wait of an agent between two tries is 20 s.
const LATER: Duration = Duration::from_secs(90);

fn wait(node: &AgentNode, what: &str, look: impl Fn(&Value) -> bool) {
    let seen = wait_until(what, LATER, || Some(node.status()).filter(&look));
    assert!(seen.is_ok(), "{what}: {:#}\n{}", node.status(), node.log());
}

fn wait_route(node: &AgentNode, subnet: &str, wanted: bool) {
    let there = || node.ours().contains(&format!("{subnet} nhid"));
    let seen = wait_until("a route", LATER, || (there() == wanted).then_some(()));
    assert!(seen.is_ok(), "route {subnet}: {wanted}\n{}\n{}", node.ours(), node.log());
}

fn wait_for(what: &str, node: &AgentNode, look: impl Fn() -> bool) {
    let seen = wait_until(what, LATER, || look().then_some(()));
    assert!(seen.is_ok(), "{what}\n{:#}\n{}", node.status(), node.log());
}

fn left_out(node: &AgentNode, part: &str) {
    wait(node, part, |status| {
        let all = status["store"]["leftOut"].as_array().cloned().unwrap_or_default();
        all.iter().any(|text| text.as_str().is_some_and(|text| text.contains(part)))
    });
}

type Pod = (NetNs, IpAddr);

/// Three agents that are ready and know each other, and a pod on each.
fn cluster() -> (KubeNodes, Vec<Pod>) {
    let mut all = KubeNodes::prepare("aab");
    all.start_agents();
    (1..=3).for_each(|i| wait(all.node(i), "all nodes", |status| status["store"]["nodes"] == 3));
    let pods = (1..=3).map(|i| all.pod(i, &format!("pod{i}"))).collect();
    (all, pods)
}

/// Two nodes on one segment and one behind a router, a pod on each, and a node of flannel's.
#[test]
fn nodes_of_flatnet_and_of_flannel_share_a_network() {
    let (all, pods) = cluster();
    for (i, (from, address)) in pods.iter().enumerate() {
        assert!(address.to_string().starts_with(&format!("10.244.{}.", i + 1)), "{address}");
        pods.iter().enumerate().filter(|(j, _)| i != *j).for_each(|(_, to)| all.reaches(from, to));
    }
    for i in 1..=3 {
        let (name, node) = (format!("n{i}"), all.node(i));
        let device = oracle::ip(node.ns(), "link show flat.1").remove(0);
        let data: Value = serde_json::from_str(&all.api.annotation(&name, "backend-data").unwrap()).unwrap();
        assert_eq!(data["VtepMAC"], device["address"], "what is published is what is there");
        assert_eq!(
            (&data["VNI"], all.api.annotation(&name, "backend-type").as_deref()),
            (&1.into(), Some("vxlan"))
        );
        assert_eq!(all.api.annotation(&name, "public-ip"), node.node.v4().map(|ip| ip.to_string()));
        assert_eq!(all.api.annotation(&name, "kube-subnet-manager").as_deref(), Some("true"));
        let works = || all.api.network_unavailable(&name) == Some(("False".into(), "FlatnetIsUp".into()));
        wait_for("the condition", node, works);
    }

    all.api.add_node("f1", "192.0.2.77", &["10.244.200.0/24"]);
    wait_route(all.node(1), "10.244.200.0/24", true);
    all.api.change_node("f1", |node| {
        let annotation = |name: &str| format!("flannel.alpha.coreos.com/{name}");
        node["metadata"]["annotations"] = serde_json::json!({
            annotation("kube-subnet-manager"): "true",
            annotation("backend-type"): "vxlan",
            annotation("backend-data"): "{\"VNI\":1,\"VtepMAC\":\"7a:5d:0b:21:c4:9e\"}",
            annotation("public-ip"): "192.0.2.78",
        });
    });
    let ns = all.node(1).ns();
    let fdb = || oracle::command(ns, "bridge fdb show dev flat.1");
    let theirs = "7a:5d:0b:21:c4:9e dst 192.0.2.78 self permanent";
    wait_for("flannel's endpoint", all.node(1), || fdb().contains(theirs));
    let neighbours = oracle::command(ns, "ip neigh show dev flat.1");
    assert!(neighbours.contains("10.244.200.0 lladdr 7a:5d:0b:21:c4:9e PERMANENT"), "{neighbours}");
    assert!(!fdb().contains("192.0.2.77"), "what was published wins: {}", fdb());

    // What makes no sense is named and costs nobody their place.
    all.api.add_node("b1", "192.0.2.81", &[]);
    all.api.add_node("b2", "192.0.2.82", &["10.244.2.128/25"]);
    all.api.add_node("b3", "here", &["10.244.203.0/24"]);
    all.api.add_node("b4", &all.node(1).node.v4().unwrap().to_string(), &["10.244.204.0/24"]);
    left_out(all.node(1), "node b1 is left out: it has no podCIDR yet");
    left_out(all.node(1), "node b2 is left out: subnet 10.244.2.128/25 overlaps 10.244.2.0/24 of n2");
    left_out(all.node(1), "node b3 is left out: it has neither an address");
    left_out(all.node(1), "node b4 is left out: it has this node's address");
    left_out(all.node(2), "node b4 is left out: node n1 has published its address");
    wait_route(all.node(1), "10.244.200.0/24", true);
    all.reaches(&pods[0].0, &pods[1]);
    all.reaches(&pods[2].0, &pods[0]);
}

/// Both families of pods, over nodes that have IPv4 only.
#[test]
fn nodes_with_two_subnets_have_pods_of_both_families() {
    let mut all = KubeNodes::prepare("ab");
    for i in 1..=2 {
        let network = "{ Network: 10.244.0.0/16, EnableIPv6: true, IPv6Network: \"fd00:10:244::/48\", \
                       Backend: { Type: vxlan } }";
        all.configure(i, network, "");
        all.api.delete_node(&format!("n{i}"));
        all.register(i, &[&format!("10.244.{i}.0/24"), &format!("fd00:10:244:{i}::/64")]);
    }
    all.start_agents();
    (1..=2).for_each(|i| wait(all.node(i), "both nodes", |status| status["store"]["nodes"] == 2));
    let pod = |i: usize| -> (NetNs, Vec<IpAddr>) {
        let ns = NetNs::new().unwrap();
        let result = all.node(i).plugin("ADD", &format!("pod{i}"), &ns);
        let addresses = result["ips"].as_array().unwrap().iter().map(|ip| {
            let text = ip["address"].as_str().unwrap();
            text.split('/').next().unwrap().parse().unwrap()
        });
        (ns, addresses.collect())
    };
    let (from, to) = (pod(1), pod(2));
    assert_eq!(to.1.iter().filter(|ip| ip.is_ipv6()).count(), 1, "{:?}", to.1);
    for ip in to.1 {
        assert!(Ping::to(ip).send(&from.0, SOON).is_ok(), "{ip}\n{}", all.node(1).log());
    }
    assert!(
        all.api.annotation("n1", "public-ipv6").is_none(),
        "no address of a family that the node has not"
    );
}

/// What is asked of the API server is what the shipped manifest allows, and nothing less is allowed.
#[test]
fn the_shipped_role_allows_what_is_asked_and_no_more() {
    let (all, _) = cluster();
    (1..=3).for_each(|i| {
        let name = format!("n{i}");
        wait_for("the condition", all.node(i), || all.api.network_unavailable(&name).is_some());
    });
    let asked = all.api.asked();
    let mut needed: Vec<(String, String)> =
        asked.iter().map(|it| (it.resource.clone(), it.verb.clone())).collect();
    needed.sort();
    needed.dedup();
    let mut allowed = flatnet_tests::manifest::allowed();
    allowed.sort();
    assert_eq!(needed, allowed);
    let written: Vec<&str> =
        asked.iter().filter(|it| it.verb == "patch").map(|it| it.name.as_str()).collect();
    assert!(written.iter().all(|name| ["n1", "n2", "n3"].contains(name)), "{written:?}");
    for i in 1..=3 {
        let name = format!("n{i}");
        let count = written.iter().filter(|it| **it == name).count();
        assert!(
            (1..=3).contains(&count),
            "{name} is written {count} times: once, and again for the condition"
        );
    }
}

/// A condition that says the network works is a promise to the scheduler.
#[test]
fn the_condition_is_set_when_and_only_when_the_node_forwards() {
    let mut all = KubeNodes::prepare("a");
    all.api.add_node("x1", "192.0.2.101", &["10.244.101.0/24"]);
    all.api.change_node("n1", |node| {
        let condition = serde_json::json!({
            "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated",
        });
        node["status"]["conditions"].as_array_mut().unwrap().push(condition);
    });
    // What another network left behind: one device only can have a VNI and a port.
    let theirs = "ip link add theirs type vxlan id 1 dstport 8472 dev eth0 nolearning";
    drop(oracle::command(all.node(1).ns(), theirs));
    all.node_mut(1).start();
    wait(all.node(1), "the tunnel cannot be made", |status| {
        status["problems"].to_string().contains("flat.1")
    });
    wait_for("annotations", all.node(1), || all.api.annotation("n1", "backend-data").is_some());
    let unavailable = |status: &str, reason: &str| {
        all.api.network_unavailable("n1") == Some((status.to_owned(), reason.to_owned()))
    };
    // Long enough for whatever would be wrong to happen.
    let start = Instant::now();
    wait_for("time to pass", all.node(1), || start.elapsed() > Duration::from_secs(3));
    assert!(unavailable("True", "NoRouteCreated"), "{:#}", all.api.node("n1"));
    assert_eq!(all.node(1).status()["ready"], false);

    drop(oracle::command(all.node(1).ns(), "ip link del theirs"));
    all.node(1).wait_ready();
    wait_for("the condition", all.node(1), || unavailable("False", "FlatnetIsUp"));
    // A clean stop leaves it: the data path stays as well.
    all.node_mut(1).stop();
    assert_eq!(all.api.network_unavailable("n1").unwrap().0, "False");
    // What another has set to False is left to it.
    all.api.change_node("n1", |node| node["status"]["conditions"][1]["reason"] = "RouteCreated".into());
    all.node_mut(1).start();
    all.node(1).wait_ready();
    all.api.change_node("n1", |node| {
        node["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("flannel.alpha.coreos.com/backend-data");
    });
    wait_for("annotations", all.node(1), || all.api.annotation("n1", "backend-data").is_some());
    assert_eq!(all.api.network_unavailable("n1").unwrap().1, "RouteCreated");
}

#[test]
fn a_node_without_a_subnet_says_so_and_joins_once_it_has_one() {
    let mut all = KubeNodes::prepare("aa");
    all.api.delete_node("n1");
    all.nodes.iter_mut().for_each(AgentNode::start);
    let says = |node: &AgentNode, part: &'static str| {
        wait(node, part, |status| {
            status["ready"] == false && status["store"]["error"].as_str().is_some_and(|it| it.contains(part))
        });
    };
    says(all.node(1), "Kubernetes has no node n1");
    all.register(1, &[]);
    says(all.node(1), "--allocate-node-cidrs");
    left_out(all.node(2), "node n1 is left out: it has no podCIDR yet");
    let answer = all.node(1).get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("podCIDR"), "{answer}");
    all.api.change_node("n1", |node| node["spec"] = serde_json::json!({ "podCIDRs": ["10.244.1.0/24"] }));
    all.node(1).wait_ready();
    wait(all.node(1), "no error", |status| status["store"]["error"].is_null());
    all.node(2).wait_ready();
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    all.reaches(&from.0, &to);
    all.reaches(&to.0, &from);
}

/// Sends from pod to pod while `act` happens, and answers with what was lost of it.
fn nothing_lost(what: &str, pods: &[Pod], act: impl FnOnce(&Datagrams)) {
    let (from, to) = (&pods[0], &pods[2]);
    let stream = Datagrams::start((&from.0, from.1), (&to.0, to.1), Duration::from_millis(5));
    act(&stream);
    stream.flows(what);
    let loss = stream.stop();
    println!("{what}: {loss}");
    assert_eq!(loss.lost, 0, "{what}: {loss}");
}

/// The API server goes, for whatever reason, and agents start meanwhile.
#[test]
fn an_api_server_that_is_away_costs_no_packet() {
    let (mut all, pods) = cluster();
    let kernel = all.node(1).ours();
    let unreachable = |status: &Value| status["store"]["unreachableSince"].is_u64();
    nothing_lost("API server stopped, agents restarted without it", &pods, |stream| {
        all.api.stop();
        wait(all.node(1), "unreachable", unreachable);
        assert_eq!(
            (all.node(1).status()["ready"].clone(), all.node(1).ours()),
            (true.into(), kernel.clone())
        );
        stream.flows("without an API server");
        for i in [1, 3] {
            all.node_mut(i).kill();
            all.node_mut(i).start();
            wait(all.node(i), "ready without an API server", |status| {
                status["ready"] == true
                    && status["pid"].as_u64() == Some(all.node(i).pid().into())
                    && status["store"]["remark"].as_str().is_some_and(|it| it.contains("the run before"))
            });
        }
        assert_eq!(all.node(1).ours(), kernel);
        // A pod starts from what is known.
        let late = all.pod(1, "late");
        Ping::to(pods[2].1).send(&late.0, SOON).unwrap();
        all.api.add_node("n9", "192.0.2.99", &["10.244.99.0/24"]);
        all.start_api();
        wait_route(all.node(1), "10.244.99.0/24", true);
        for i in 1..=3 {
            wait(all.node(i), "followed again", |status| {
                status["store"]["error"].is_null() && !unreachable(status)
            });
        }
    });
}

#[test]
fn connections_that_are_cut_slow_or_dead_cost_no_packet() {
    let (all, pods) = cluster();
    let add = |block: u8| {
        all.api.add_node(
            &format!("x{block}"),
            &format!("192.0.2.{block}"),
            &[&format!("10.244.{block}.0/24")],
        )
    };
    let route = |block: u8| format!("10.244.{block}.0/24");
    nothing_lost("connections cut, ten times", &pods, |_| {
        for i in 0..10 {
            let before = all.api.count("watch", 200);
            all.api.cut();
            wait_for("a new watch", all.node(1), || all.api.count("watch", 200) > before);
            add(100 + i);
        }
        (0..10).for_each(|i| wait_route(all.node(1), &route(100 + i), true));
    });
    nothing_lost("answers that take three seconds", &pods, |_| {
        all.api.fail(|faults| faults.slow = Duration::from_secs(3));
        all.api.cut();
        add(120);
        wait_route(all.node(1), &route(120), true);
        all.api.fail(|faults| faults.slow = Duration::ZERO);
    });
    nothing_lost("watches that end in good order every second and a half", &pods, |_| {
        all.api.fail(|faults| faults.watch_lasts = Some(Duration::from_millis(1_500)));
        let before = all.api.count("watch", 200);
        wait_for("watches", all.node(1), || all.api.count("watch", 200) > before + 9);
        add(130);
        wait_route(all.node(1), &route(130), true);
        assert_eq!(all.node(1).status()["store"]["error"], Value::Null, "an end is no error");
        all.api.fail(|faults| faults.watch_lasts = None);
    });
    nothing_lost("500 and 429 for a while", &pods, |_| {
        for code in [500, 429] {
            let before = all.api.count("watch", code);
            all.api.fail(|faults| faults.code = Some(code));
            all.api.cut();
            wait_for("refusals", all.node(1), || all.api.count("watch", code) > before + 3);
            all.api.fail(|faults| faults.code = None);
            add(140 + u8::try_from(code % 10).unwrap());
        }
        wait_route(all.node(1), &route(149), true);
    });
    // Nobody says goodbye: the cable of the API server is pulled, and what it sends meanwhile is lost.
    nothing_lost("cable pulled for half a minute", &pods, |_| {
        all.fabric.cut(&all.host).unwrap();
        add(150);
        wait(all.node(1), "noticed", |status| status["store"]["unreachableSince"].is_u64());
        all.fabric.heal(&all.host).unwrap();
        wait_route(all.node(1), &route(150), true);
    });
}

#[test]
fn what_the_api_server_forgot_is_read_again_and_costs_no_packet() {
    let (all, pods) = cluster();
    let add = |name: &str, block: u8| {
        all.api.add_node(name, &format!("192.0.2.{block}"), &[&format!("10.244.{block}.0/24")]);
    };
    add("x1", 101);
    wait_route(all.node(1), "10.244.101.0/24", true);
    for (gone_at_once, what, block) in [(false, "410 as an event", 110), (true, "410 as an answer", 120)] {
        nothing_lost(what, &pods, |_| {
            let lists = all.api.count("list", 200);
            all.api.fail(|faults| (faults.frozen, faults.gone_at_once) = (true, gone_at_once));
            add("x2", block);
            all.api.delete_node("n2");
            all.register(2, &["10.244.2.0/24"]);
            all.api.compact();
            all.api.fail(|faults| faults.frozen = false);
            all.api.cut();
            wait_route(all.node(1), &format!("10.244.{block}.0/24"), true);
            assert!(all.api.count("list", 200) > lists, "{}", all.node(1).log());
            // What was written to the node before went with it, and is written again.
            wait_for("annotations", all.node(2), || all.api.annotation("n2", "backend-data").is_some());
            wait_for("the condition", all.node(2), || all.api.network_unavailable("n2").is_some());
            all.api.delete_node("x2");
        });
    }
    all.reaches(&pods[0].0, &pods[1]);
}

#[test]
fn a_token_that_expires_is_read_again() {
    let (all, pods) = cluster();
    nothing_lost("token expired for a while, then another", &pods, |stream| {
        all.api.set_token("second");
        all.api.cut();
        wait(all.node(1), "401", |status| {
            status["store"]["error"].as_str().is_some_and(|it| it.contains("401"))
        });
        stream.flows("without a token");
        all.write_token("second");
        all.api.add_node("x1", "192.0.2.101", &["10.244.101.0/24"]);
        wait_route(all.node(1), "10.244.101.0/24", true);
        wait(all.node(1), "no error", |status| status["store"]["error"].is_null());
    });
    assert!(!all.node(1).log().contains("second"), "no token in the log");
}

#[test]
fn changes_that_are_refused_are_made_again() {
    let mut all = KubeNodes::prepare("aa");
    all.api.fail(|faults| faults.conflicts = 3);
    all.start_agents();
    for name in ["n1", "n2"] {
        wait_for("annotations", all.node(1), || all.api.annotation(name, "backend-data").is_some());
        wait_for("the condition", all.node(1), || all.api.network_unavailable(name).is_some());
    }
    assert_eq!(all.api.count("patch", 409), 3);
    // Somebody else takes an annotation away; what a person wants published is published.
    all.api.change_node("n1", |node| {
        node["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove("flannel.alpha.coreos.com/backend-data");
        node["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip-overwrite"] =
            "203.0.113.1".into();
    });
    wait_for("both", all.node(1), || {
        all.api.annotation("n1", "backend-data").is_some()
            && all.api.annotation("n1", "public-ip").as_deref() == Some("203.0.113.1")
    });
}

/// Without leave to write a node still is part of a network of Flatnet's nodes: its tunnel follows from its name.
#[test]
fn a_node_that_may_not_be_written_to_says_so_and_works() {
    let mut all = KubeNodes::prepare("aa");
    all.api.fail(|faults| faults.patch_code = Some(403));
    all.start_agents();
    for i in 1..=2 {
        left_out(all.node(i), "this node cannot be written to: 403");
        wait(all.node(i), "both nodes", |status| {
            status["ready"] == true && status["store"]["nodes"] == 2 && status["store"]["error"].is_null()
        });
    }
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    all.reaches(&from.0, &to);
    assert!(all.api.count("patch", 403) < 10, "what will not go by itself is not asked for again and again");
    all.api.fail(|faults| faults.patch_code = None);
    for (i, name) in [(1, "n1"), (2, "n2")] {
        wait_for("annotations", all.node(i), || all.api.annotation(name, "backend-data").is_some());
        wait(all.node(i), "nothing wrong", |status| status["store"]["leftOut"].is_null());
    }
}

/// Whoever else writes the same annotations does not make the agent race it.
#[test]
fn two_that_fight_over_a_node_do_not_flood_the_api_server() {
    let mut all = KubeNodes::prepare("a");
    all.start_agents();
    let ours = wait_until("annotations", LATER, || all.api.annotation("n1", "backend-data")).unwrap();
    let spoil = || {
        all.api.change_node("n1", |node| {
            let theirs = "{\"VNI\":1,\"VtepMAC\":\"7a:5d:0b:21:c4:9e\"}";
            node["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"] = theirs.into();
        });
    };
    let fought = wait_until("a complaint", LATER, || {
        if all.api.annotation("n1", "backend-data").as_ref() == Some(&ours) {
            spoil();
        }
        let status = all.node(1).status();
        status["store"]["leftOut"]
            .to_string()
            .contains("keeps changing this node's annotations")
            .then_some(())
    });
    assert!(fought.is_ok(), "{:#}\n{}", all.node(1).status(), all.node(1).log());
    assert!(all.api.count("patch", 200) < 100);
    wait(all.node(1), "peace", |status| status["store"]["leftOut"].is_null());
    assert_eq!(all.api.annotation("n1", "backend-data"), Some(ours));
}

/// Deleted and registered again under the same name, with another subnet: whoever runs there keeps its
/// address, and who is added has a new one.
#[test]
fn a_node_made_anew_keeps_its_pods_reachable() {
    let (mut all, pods) = cluster();
    nothing_lost("node deleted and registered again with another subnet", &pods, |stream| {
        all.api.delete_node("n3");
        wait(all.node(3), "noticed", |status| {
            status["store"]["error"].as_str().is_some_and(|it| it.contains("Kubernetes has no node n3"))
        });
        stream.flows("a deleted node");
        all.register(3, &["10.244.77.0/24"]);
        wait_route(all.node(1), "10.244.77.0/24", true);
        wait(all.node(3), "its new subnet", |status| status["pods"]["subnets"][0] == "10.244.77.0/24");
        stream.flows("a node made anew");
        all.node_mut(1).kill();
        all.node_mut(1).start();
        all.node(1).wait_ready();
        wait(all.node(1), "followed", |status| status["store"]["nodes"] == 3);
        stream.flows("a restart after that");
    });
    let fresh = all.pod(3, "fresh");
    assert!(fresh.1.to_string().starts_with("10.244.77."), "{}", fresh.1);
    all.reaches(&pods[0].0, &fresh);
    all.reaches(&fresh.0, &pods[1]);
    wait_for("annotations", all.node(3), || all.api.annotation("n3", "backend-data").is_some());
    // Once another node has the old subnet it is that one's.
    all.api.add_node("x1", "192.0.2.101", &["10.244.3.0/24"]);
    let theirs = || oracle::command(all.node(1).ns(), "ip route get 10.244.3.9");
    wait_for("the other's", all.node(1), || theirs().contains("via 10.244.3.0 "));
}
