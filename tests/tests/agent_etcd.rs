//! The etcd store against a real etcd: one network with flannel's nodes, claims that are settled, and a
//! store that may stop, forget, lose its leader or be taken over without the pods noticing.
#![expect(clippy::unwrap_used, reason = "a failed test is what a panic here means")]

use std::collections::BTreeSet;
use std::time::Duration;

use flatnet_tests::agent::{AgentNode, SOON};
use flatnet_tests::etcd::{Certificates, EtcdNodes};
use flatnet_tests::oracle;
use flatnet_tests::streams::Datagrams;
use netns_fixtures::probe::Ping;
use netns_fixtures::wait_until;
use serde_json::Value;

const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// What flannel's own parser looks for in a key (`pkg/subnet/subnet.go`).
const FLANNELS_KEY: &str = r"(\d+\.\d+.\d+.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?$";
/// A member that stopped is noticed within ten seconds, an election takes some more.
const LATER: Duration = Duration::from_secs(60);

/// A node of flannel's, as flannel writes it.
fn flannel(ip: &str, mac: &str) -> String {
    format!(
        r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    )
}

fn wait_route(node: &AgentNode, subnet: &str, wanted: bool) {
    let there = || node.ours().contains(&format!("{subnet} nhid"));
    let seen = wait_until("a route", LATER, || (there() == wanted).then_some(()));
    assert!(seen.is_ok(), "route {subnet}: {wanted}\n{}\n{}", node.ours(), node.log());
}

fn wait(node: &AgentNode, what: &str, look: impl Fn(&Value) -> bool) {
    let seen = wait_until(what, LATER, || Some(node.status()).filter(&look));
    assert!(seen.is_ok(), "{what}: {:#}\n{}", node.status(), node.log());
}

/// Two nodes on one segment and one behind a router, a pod on each, and a node of flannel's.
#[test]
fn nodes_of_flatnet_and_of_flannel_share_a_network() {
    let mut all = EtcdNodes::prepare("aab", 1);
    all.start_store(NETWORK);
    all.start_agents();
    let subnets: BTreeSet<_> = (1..=3).map(|i| all.subnet(i)).collect();
    assert_eq!(subnets.len(), 3, "{subnets:?}");
    (1..=3).for_each(|i| wait(all.node(i), "all nodes", |status| status["store"]["nodes"] == 3));
    let pods: Vec<_> = (1..=3).map(|i| all.pod(i, &format!("pod{i}"))).collect();
    for (i, (from, _)) in pods.iter().enumerate() {
        pods.iter().enumerate().filter(|(j, _)| i != *j).for_each(|(_, to)| all.reaches(from, to));
    }

    let flannels = regex::Regex::new(FLANNELS_KEY).unwrap();
    for i in 1..=3 {
        let (key, node) = (EtcdNodes::key(all.subnet(i)), all.node(i));
        let parts = flannels.captures(&key).unwrap();
        assert_eq!(&parts[1], all.subnet(i).ip().to_string());
        assert_eq!(&parts[2], "24");
        let (value, lease) = all.get(&key).unwrap();
        assert_eq!(value["PublicIP"], node.node.v4().unwrap().to_string());
        assert_eq!((&value["BackendType"], &value["BackendData"]["VNI"]), (&"vxlan".into(), &1.into()));
        let device = oracle::ip(node.ns(), "link show flat.1").remove(0);
        assert_eq!(value["BackendData"]["VtepMAC"], device["address"], "what is published is what is there");
        let ttl = all.etcd[0].ctl(&["lease", "timetolive", &format!("{lease:x}")]);
        assert!(ttl.contains("granted with TTL(86400s)"), "{ttl}");
    }

    let theirs = "/coreos.com/network/subnets/10.5.200.0-24";
    all.etcd[0].ctl(&["put", theirs, &flannel("192.0.2.77", "7a:5d:0b:21:c4:9e")]);
    let ns = all.node(1).ns();
    wait_route(all.node(1), "10.5.200.0/24", true);
    let neighbours = oracle::command(ns, "ip neigh show dev flat.1");
    assert!(neighbours.contains("10.5.200.0 lladdr 7a:5d:0b:21:c4:9e PERMANENT"), "{neighbours}");
    let fdb = oracle::command(ns, "bridge fdb show dev flat.1");
    assert!(fdb.contains("7a:5d:0b:21:c4:9e dst 192.0.2.77 self permanent"), "{fdb}");
    let route = oracle::command(ns, "ip route get 10.5.200.9");
    assert!(route.contains("via 10.5.200.0 dev flat.1"), "{route}");
    // What makes no sense is named and costs nobody their place.
    all.etcd[0].ctl(&["put", "/coreos.com/network/subnets/10.5.201.0-24", "{"]);
    all.etcd[0].ctl(&["put", "/coreos.com/network/subnets/what", "{}"]);
    wait(all.node(1), "what is left out", |status| {
        status["store"]["leftOut"].as_array().is_some_and(|entries| entries.len() == 2)
    });
    wait_route(all.node(1), "10.5.200.0/24", true);
    all.etcd[0].ctl(&["del", theirs]);
    wait_route(all.node(1), "10.5.200.0/24", false);

    // A restart keeps subnet, key and lease, and pods.
    let (before, kernel) = (all.get(&EtcdNodes::key(all.subnet(2))), all.node(2).ours());
    all.node_mut(2).stop();
    all.node_mut(2).start();
    all.node(2).wait_ready();
    assert_eq!(all.get(&EtcdNodes::key(all.subnet(2))), before);
    assert_eq!(all.node(2).ours(), kernel);
    all.reaches(&pods[0].0, &pods[1]);
}

/// Twelve agents start at once where there are fifteen subnets: most lose a race, none stays without.
#[test]
fn races_for_a_subnet_are_settled() {
    let mut all = EtcdNodes::prepare("aaaaaaaaaaaa", 1);
    all.start_store(r#"{"Network":"10.5.0.0/20","Backend":{"Type":"vxlan","VNI":7,"DirectRouting":true}}"#);
    all.nodes.iter_mut().for_each(AgentNode::start);
    for i in 1..=12 {
        wait(all.node(i), "all nodes", |status| status["ready"] == true && status["store"]["nodes"] == 12);
    }
    let subnets: BTreeSet<_> = (1..=12).map(|i| all.subnet(i)).collect();
    assert_eq!(subnets.len(), 12, "{subnets:?}");
    assert_eq!(
        all.keys().into_iter().collect::<BTreeSet<_>>(),
        subnets.into_iter().map(EtcdNodes::key).collect::<BTreeSet<_>>()
    );
    // Every lost race gave its lease back.
    let leases = all.etcd[0].ctl(&["lease", "list"]);
    assert!(leases.starts_with("found 12 leases"), "{leases}");
    // What the network says of travelling counts where the node says nothing.
    let backend = &all.node(1).status()["backend"];
    assert_eq!((&backend["type"], &backend["vni"]), (&"auto".into(), &7.into()));
}

#[test]
fn a_store_that_was_away_is_followed_again() {
    let mut all = EtcdNodes::prepare("aa", 1);
    all.start_store(NETWORK);
    all.start_agents();
    (1..=2).for_each(|i| wait(all.node(i), "both nodes", |status| status["store"]["nodes"] == 2));
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    let put = |all: &EtcdNodes, block: u8| {
        let key = format!("/coreos.com/network/subnets/10.5.{block}.0-24");
        let mac = format!("7a:5d:0b:21:c4:{block:02x}");
        all.etcd[0].ctl(&["put", &key, &flannel(&format!("192.0.2.{block}"), &mac)]);
    };
    let kernel = all.node(1).ours();

    // Killed; meanwhile a node comes, and the past is compacted away.
    all.etcd[0].kill();
    wait(all.node(1), "unreachable", |status| status["store"]["unreachableSince"].is_u64());
    assert_eq!(all.node(1).status()["ready"], true, "the network works as before");
    assert_eq!(all.node(1).ours(), kernel);
    let shown = String::from_utf8(all.node(1).run("status").stdout).unwrap();
    assert!(shown.contains("2 nodes") && shown.contains("serving what was there before"), "{shown}");
    all.etcd[0].start_hidden();
    all.etcd[0].wait_healthy();
    put(&all, 201);
    put(&all, 203);
    let revision: Value = serde_json::from_str(&all.etcd[0].ctl(&["get", "x", "-w", "json"])).unwrap();
    all.etcd[0].ctl(&["compact", &revision["header"]["revision"].to_string()]);
    all.etcd[0].ctl(&["defrag"]);
    all.etcd[0].kill();
    all.etcd[0].start();
    wait_route(all.node(1), "10.5.201.0/24", true);
    assert!(all.node(1).log().contains("etcd forgot what was before"), "{}", all.node(1).log());

    // Stopped, so that nothing answers and nothing is refused.
    all.etcd[0].pause();
    wait(all.node(1), "unreachable", |status| status["store"]["unreachableSince"].is_u64());
    Ping::to(to.1).send(&from.0, SOON).unwrap();
    all.etcd[0].resume();
    all.etcd[0].wait_healthy();
    put(&all, 202);
    wait_route(all.node(1), "10.5.202.0/24", true);
    wait(all.node(1), "good again", |status| status["store"]["error"].is_null());

    // A node that starts meanwhile works with what it knew.
    let (kernel, subnet) = (all.node(1).ours(), all.subnet(1));
    all.etcd[0].kill();
    all.node_mut(1).stop();
    all.node_mut(1).start();
    wait(all.node(1), "ready without the store", |status| {
        status["ready"] == true
            && status["store"]["remark"].as_str().is_some_and(|it| it.contains("the run before"))
    });
    assert_eq!(all.node(1).ours(), kernel);
    assert_eq!(all.subnet(1), subnet);
    Ping::to(to.1).send(&from.0, SOON).unwrap();
    all.etcd[0].start();
    wait(all.node(1), "ready", |status| status["ready"] == true && status["store"]["error"].is_null());
    assert_eq!((all.node(1).ours(), all.subnet(1)), (kernel, subnet));
}

#[test]
fn three_members_may_lose_their_leader() {
    let mut all = EtcdNodes::prepare("aa", 3);
    all.start_store(NETWORK);
    all.start_agents();
    let leader = |all: &EtcdNodes| {
        all.etcd.iter().position(|member| {
            let text = member.ctl(&["endpoint", "status", "-w", "json"]);
            let status: Value = serde_json::from_str(&text).unwrap();
            status[0]["Status"]["leader"] == status[0]["Status"]["header"]["member_id"]
        })
    };
    let leader = wait_until("a leader", LATER, || leader(&all)).unwrap();
    let subnets = [all.subnet(1), all.subnet(2)];
    all.etcd[leader].kill();
    let other = &all.etcd[(leader + 1) % 3];
    other.wait_healthy();
    let key = "/coreos.com/network/subnets/10.5.200.0-24";
    other.ctl(&["put", key, &flannel("192.0.2.77", "7a:5d:0b:21:c4:9e")]);
    for i in 1..=2 {
        wait_route(all.node(i), "10.5.200.0/24", true);
        wait(all.node(i), "good again", |status| {
            status["ready"] == true && status["store"]["error"].is_null()
        });
    }
    assert_eq!([all.subnet(1), all.subnet(2)], subnets);
}

#[test]
fn tls_and_users_are_served() {
    let mut all = EtcdNodes::prepare("aa", 1);
    let certificates = Certificates::make(all.dir.path(), all.store);
    all.etcd[0].secure(certificates.clone());
    all.start_store(NETWORK);
    let ask = |all: &EtcdNodes, line: &str| all.etcd[0].ctl(&line.split(' ').collect::<Vec<_>>());
    for line in [
        "user add root:rootpass",
        "user grant-role root root",
        "role add network",
        "role grant-permission network readwrite --prefix=true /coreos.com/network/",
        "user add node:nodepass",
        "user grant-role node network",
        "auth enable",
    ] {
        if line == "user grant-role root root" {
            ask(&all, "role add root");
        }
        ask(&all, line);
    }
    all.etcd[0].ask_as("root:rootpass");
    let password = all.dir.path().join("password");
    std::fs::write(&password, "nodepass\n").unwrap();
    let ca = certificates.ca.display();
    let (cert, key) = (certificates.client.display(), certificates.client_key.display());
    let user = format!("username: node, passwordFile: {}", password.display());
    let good = format!(", ca: {ca}, cert: {cert}, key: {key}, {user}");

    // What is wrong is said, and is no end.
    all.configure(1, &format!(", ca: {ca}, {user}"), "");
    all.node_mut(1).start();
    let says = |status: &Value, part: &str| {
        status["store"]["error"].as_str().is_some_and(|error| error.to_lowercase().contains(part))
    };
    wait(all.node(1), "no certificate", |status| says(status, "certificate"));
    all.node_mut(1).stop();
    all.configure(
        1,
        &good.replace("passwordFile: ", "password: wrong").replace(&password.display().to_string(), ""),
        "",
    );
    all.node_mut(1).start();
    wait(all.node(1), "a wrong password", |status| says(status, "authentication failed"));
    all.node_mut(1).stop();
    assert!(!all.node(1).log().contains("nodepass"));

    (1..=2).for_each(|i| all.configure(i, &good, ""));
    let checked = all.node(1).run("check-config");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    all.start_agents();
    (1..=2).for_each(|i| wait(all.node(i), "both nodes", |status| status["store"]["nodes"] == 2));
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    all.reaches(&from.0, &to);
}

/// Pings fifty times a second for fourteen seconds meanwhile; none may be lost.
fn ping_while(
    all: &EtcdNodes,
    from: &netns_fixtures::NetNs,
    to: std::net::IpAddr,
    act: impl FnOnce(&EtcdNodes),
) {
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| oracle::command(from, &format!("ping -q -i 0.02 -c 700 -W 5 {to}")));
        act(all);
        let report = pings.join().unwrap();
        assert!(report.contains("700 packets transmitted, 700 received"), "{report}");
    });
}

#[test]
fn a_lease_that_is_lost_is_claimed_again_and_no_pod_notices() {
    let mut all = EtcdNodes::prepare("aa", 1);
    all.start_store(NETWORK);
    // A lease that would end within this test, were it not renewed.
    (1..=2).for_each(|i| all.configure(i, ", leaseSeconds: 5", ""));
    all.start_agents();
    (1..=2).for_each(|i| wait(all.node(i), "both nodes", |status| status["store"]["nodes"] == 2));
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    let key = EtcdNodes::key(all.subnet(2));
    let (_, lease) = all.get(&key).unwrap();
    Ping::to(to.1).send(&from.0, SOON).unwrap();
    let kernel = all.node(1).ours();
    ping_while(&all, &from.0, to.1, |all| {
        all.etcd[0].ctl(&["lease", "revoke", &format!("{lease:x}")]);
        let again = || all.get(&key).filter(|(_, fresh)| *fresh != lease && *fresh != 0);
        wait_until("the same subnet", LATER, again).unwrap();
        // Longer than the lease: it is renewed.
        let start = std::time::Instant::now();
        let (_, fresh) = all.get(&key).unwrap();
        let held = || (start.elapsed() > Duration::from_secs(12)).then_some(());
        wait_until("time to pass", LATER, held).unwrap();
        assert_eq!(all.get(&key).unwrap().1, fresh);
    });
    assert_eq!(all.node(1).ours(), kernel);
    assert_eq!(all.node(2).status()["ready"], true);
}

/// An agent that starts while another's lease is lost goes on with that one's pods as an agent does that ran
/// all along.
#[test]
fn a_lease_that_is_lost_while_another_agent_restarts_costs_no_packet() {
    let mut all = EtcdNodes::prepare("aa", 1);
    all.start_store(NETWORK);
    all.start_agents();
    (1..=2).for_each(|i| wait(all.node(i), "both nodes", |status| status["store"]["nodes"] == 2));
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    let subnet = all.subnet(2);
    let lose_lease = |all: &mut EtcdNodes| {
        let (_, lease) = all.get(&EtcdNodes::key(subnet)).unwrap();
        all.node_mut(2).kill();
        all.etcd[0].ctl(&["lease", "revoke", &format!("{lease:x}")]);
        all.node_mut(1).kill();
        all.node_mut(1).start();
        all.node(1).wait_ready();
    };
    let stream = Datagrams::start((&from.0, from.1), (&to.0, to.1), Duration::from_millis(5));
    lose_lease(&mut all);
    stream.flows(&format!("a start without the other's key\n{}", all.node(1).log()));
    all.node_mut(2).start();
    all.node(2).wait_ready();
    assert_eq!(all.subnet(2), subnet);
    let loss = stream.stop();
    assert_eq!(loss.lost, 0, "{loss}\n{}", all.node(1).log());
    // One that does not come back goes.
    lose_lease(&mut all);
    wait(all.node(1), "nobody else", |status| status["peers"].as_array().is_some_and(Vec::is_empty));
    let routes = oracle::command(all.node(1).ns(), "ip route show proto 70");
    assert!(!routes.contains(&subnet.to_string()), "{routes}");
}

#[test]
fn a_subnet_that_went_to_another_is_an_alarm_while_pods_use_it() {
    let mut all = EtcdNodes::prepare("aa", 1);
    all.start_store(NETWORK);
    all.start_agents();
    let pods = [all.pod(1, "pod1"), all.pod(1, "pod2")];
    let own = all.subnet(1);
    let key = EtcdNodes::key(own);
    let (ours, _) = all.get(&key).unwrap();
    wait(all.node(1), "both nodes", |status| status["store"]["nodes"] == 2);
    let kernel = all.node(1).ours();
    all.etcd[0].ctl(&["put", &key, &flannel("192.0.2.77", "7a:5d:0b:21:c4:9e")]);
    wait(all.node(1), "an alarm", |status| {
        status["ready"] == false
            && status["store"]["alarm"].as_str().is_some_and(|it| it.contains("192.0.2.77"))
    });
    let ready = all.node(1).get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("192.0.2.77"), "{ready}");
    all.reaches(&pods[0].0, &pods[1]);
    assert_eq!(all.node(1).ours(), kernel, "what runs goes on");
    let stranger = netns_fixtures::NetNs::new().unwrap();
    let refused = |verb: &str, code: &str| {
        let answer = all.node(1).try_plugin(verb, "pod3", &stranger, None);
        answer.is_err_and(|text| text.replace(' ', "").contains(&format!("\"code\":{code}")))
    };
    assert!(refused("STATUS", "50") && refused("ADD", "11"), "{}", all.node(1).log());
    // A restart changes nothing about it.
    all.node_mut(1).stop();
    all.node_mut(1).start();
    wait(all.node(1), "an alarm", |status| status["store"]["alarm"].is_string());
    assert_eq!(all.node(1).ours(), kernel);

    // Given back, it is ours again.
    all.etcd[0].ctl(&["del", &key]);
    all.node(1).wait_ready();
    assert_eq!((all.subnet(1), all.get(&key).unwrap().0), (own, ours));

    // Without pods another subnet will do.
    for (i, (ns, _)) in pods.iter().enumerate() {
        drop(all.node(1).plugin("DEL", &format!("pod{}", i + 1), ns));
    }
    all.etcd[0].ctl(&["put", &key, &flannel("192.0.2.77", "7a:5d:0b:21:c4:9e")]);
    let moved =
        || all.node(1).state.join("node.json").exists().then(|| all.subnet(1)).filter(|it| *it != own);
    let seen = wait_until("another subnet", LATER, moved);
    assert!(seen.is_ok(), "{}", all.node(1).log());
    all.node(1).wait_ready();
    all.reaches(&all.pod(2, "pod4").0, &all.pod(1, "pod5"));
}

/// A node that gets another address publishes it under its old key, and a lease of flannel's at its address
/// becomes its own.
#[test]
fn a_node_that_moves_is_followed_and_finds_what_was_its_own() {
    let mut all = EtcdNodes::prepare("aa", 1);
    all.start_store(NETWORK);
    // What flannel left behind on the second node.
    let address = all.node(2).node.v4().unwrap();
    let theirs = "/coreos.com/network/subnets/10.5.222.0-24";
    let lease = all.etcd[0].ctl(&["lease", "grant", "600"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    all.etcd[0].ctl(&["put", "--lease", &lease, theirs, &flannel(&address.to_string(), "7a:5d:0b:21:c4:9e")]);
    all.start_agents();
    assert_eq!(all.subnet(2).to_string(), "10.5.222.0/24");
    let (value, kept) = all.get(theirs).unwrap();
    assert_eq!((value["FlatnetNode"].as_str(), format!("{kept:x}")), (Some("n2"), lease.clone()));
    let mac = value["BackendData"]["VtepMAC"].as_str().unwrap().to_owned();
    assert_ne!(mac, "7a:5d:0b:21:c4:9e");

    let ns = all.node(2).ns();
    // Another prefix length, so that the new address does not go with the old one.
    drop(oracle::command(ns, "ip addr add 192.0.2.99/25 dev eth0"));
    drop(oracle::command(ns, &format!("ip addr del {address}/24 dev eth0")));
    let moved = || {
        oracle::command(all.node(1).ns(), "bridge fdb show dev flat.1")
            .contains(&format!("{mac} dst 192.0.2.99"))
    };
    let seen = wait_until("the new address", LATER, || moved().then_some(()));
    assert!(seen.is_ok(), "{}\n{}", all.node(2).log(), all.node(1).log());
    assert_eq!((all.subnet(2).to_string(), all.keys().len()), ("10.5.222.0/24".to_owned(), 2));
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    all.reaches(&from.0, &to);
}

/// Somebody of the same address publishes something else, again and again: the agent does not race it.
#[test]
fn two_that_fight_over_an_entry_do_not_flood_the_store() {
    let mut all = EtcdNodes::prepare("a", 1);
    all.start_store(NETWORK);
    all.start_agents();
    let key = EtcdNodes::key(all.subnet(1));
    let (ours, _) = all.get(&key).unwrap();
    let other = flannel(&all.node(1).node.v4().unwrap().to_string(), "7a:5d:0b:21:c4:9e");
    let fought = wait_until("a complaint", LATER, || {
        all.etcd[0].ctl(&["put", &key, &other]);
        let status = all.node(1).status();
        status["store"]["error"].as_str().is_some_and(|error| error.contains("keeps changing")).then_some(())
    });
    assert!(fought.is_ok(), "{}", all.node(1).log());
    assert_eq!(all.node(1).log().matches("keeps changing").count(), 1, "said once");
    wait(all.node(1), "peace", |status| status["store"]["error"].is_null());
    let settled = || (all.get(&key).unwrap().0 == ours).then_some(());
    wait_until("our own value", LATER, settled).unwrap();
}

/// More nodes than etcd hands over at once.
#[test]
fn a_large_network_is_read_page_by_page() {
    const NODES: usize = 4_500;
    let mut all = EtcdNodes::prepare("a", 1);
    all.start_store(r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#);
    let node = |i: usize| {
        let (a, b) = (i / 256, i % 256);
        let mac = format!("7a:00:00:00:{a:02x}:{b:02x}");
        let key = format!("/coreos.com/network/subnets/10.{}.{b}.0-24", 64 + a);
        (key, flannel(&format!("198.18.{a}.{b}"), &mac))
    };
    all.etcd[0].put_all(&(0..NODES).map(node).collect::<Vec<_>>());
    all.start_agents();
    let node = all.node(1);
    assert_eq!(node.status()["store"]["nodes"], NODES + 1);
    assert_eq!(node.status()["store"]["leftOut"], Value::Null);
    let routes = oracle::command(node.ns(), "ip route show proto 70");
    assert_eq!(routes.lines().filter(|line| line.contains("nhid")).count(), NODES);
}

/// A network that asks for something else than this node was told is not joined, and said so.
#[test]
fn a_network_that_contradicts_the_node_is_not_joined() {
    let mut all = EtcdNodes::prepare("a", 1);
    all.configure(1, "", "backend: { type: direct }\n");
    all.start_store(NETWORK);
    all.node_mut(1).start();
    wait(all.node(1), "a contradiction", |status| {
        status["store"]["error"].as_str().is_some_and(|error| error.contains("backend.type is direct"))
    });
    assert_eq!(all.keys(), Vec::<String>::new());
    for (value, part) in [
        (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}"#, "\"wireguard\""),
        ("{", "not a JSON object"),
    ] {
        all.etcd[0].ctl(&["put", "/coreos.com/network/config", value]);
        wait(all.node(1), part, |status| {
            status["store"]["error"].as_str().is_some_and(|error| error.contains(part))
        });
    }
    all.etcd[0].ctl(&[
        "put",
        "/coreos.com/network/config",
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
    ]);
    all.node(1).wait_ready();
    let (value, _) = all.get(&EtcdNodes::key(all.subnet(1))).unwrap();
    assert_eq!(value["BackendType"], "host-gw");
    assert!(!oracle::links(all.node(1).ns()).iter().any(|link| link.starts_with("flat")));
    // A mistake later on changes nothing.
    let kernel = all.node(1).ours();
    all.etcd[0].ctl(&["del", "/coreos.com/network/config"]);
    wait(all.node(1), "no network", |status| {
        status["store"]["error"].as_str().is_some_and(|error| error.contains("has no key"))
    });
    assert_eq!((all.node(1).ours(), all.node(1).status()["ready"].clone()), (kernel, true.into()));
}
