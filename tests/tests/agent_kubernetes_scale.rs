//! A large cluster of Kubernetes: what its nodes cost, and what their heartbeats do not.

use std::time::{Duration, Instant};

use flatnet_tests::agent::AgentNode;
use flatnet_tests::kubernetes::KubeNodes;
use flatnet_tests::oracle;
use netns_fixtures::wait_until;
use serde_json::Value;

/// Thousands of nodes are written down, read and programmed.
const LATER: Duration = Duration::from_secs(120);

fn wait_for(what: &str, node: &AgentNode, look: impl Fn() -> bool) {
    let seen = wait_until(what, LATER, || look().then_some(()));
    assert!(seen.is_ok(), "{what}\n{}", node.log());
}

/// CPU time in seconds and resident memory in MiB.
fn costs(node: &AgentNode) -> (f64, f64) {
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", node.pid())).unwrap_or_default();
    let stat = read("stat");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = after_name.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // Without the state, which is a letter: utime and stime are the 14th and 15th of all (proc_pid_stat(5)).
    let ticks = fields[10] + fields[11];
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = resident.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    (ticks / 100.0, kib / 1024.0)
}

/// As many more nodes, each as large as a real one.
fn add_workers(all: &KubeNodes, count: u64) {
    let image = |i: u64| {
        format!("{{\"names\":[\"registry.example/team/program-{i}@sha256:{i:064}\"],\"sizeBytes\":{i}}}")
    };
    let images: Vec<String> = (0..50).map(image).collect();
    all.api.set_ballast(format!("\"images\":[{}]", images.join(",")));
    for i in 0..count {
        let (a, b) = (i / 256, i % 256);
        let (address, subnet) = (format!("198.18.{a}.{b}"), format!("10.{}.{b}.0/24", 64 + a));
        all.api.add_node(&format!("worker-{i}"), &address, &[&subnet]);
    }
}

/// Waits until the agent has nothing left to do.
fn wait_quiet(node: &AgentNode) {
    wait_for("a quiet second", node, || {
        let turns = metric(node, "flatnet_reconciles_total");
        let start = Instant::now();
        let passed = || (start.elapsed() > Duration::from_secs(1)).then_some(());
        wait_until("a second", LATER, passed).is_ok() && turns == metric(node, "flatnet_reconciles_total")
    });
}

/// A hundred heartbeats a second, from one node after the other. How long it took.
fn beat(all: &KubeNodes, seconds: u64, nodes: u64) -> Duration {
    let start = Instant::now();
    for beat in 0..seconds * 100 {
        let due = Duration::from_millis(10 * beat);
        let passed = wait_until("the next heartbeat", LATER, || (start.elapsed() >= due).then_some(()));
        assert!(passed.is_ok(), "{passed:?}");
        all.api.heartbeat(&format!("worker-{}", beat % nodes), beat);
    }
    start.elapsed()
}

/// Values of a metric, one line per label.
fn metric(node: &AgentNode, name: &str) -> Vec<String> {
    let text = node.get("/metrics");
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A kubelet's report comes every few seconds from every node, and concerns nobody's network.
#[test]
fn heartbeats_of_thousands_of_nodes_wake_nobody() {
    const NODES: u64 = 5_000;
    let seconds = std::env::var("FLATNET_HEARTBEAT_SECONDS").map_or(4, |text| text.parse().unwrap());
    let mut all = KubeNodes::prepare("a");
    all.configure(1, "{ Network: 10.0.0.0/8, Backend: { Type: vxlan } }", "");
    all.start_agents();
    let (_, before) = costs(all.node(1));
    all.node_mut(1).stop();
    add_workers(&all, NODES);
    all.api.fail(|faults| faults.expired_pages = 1);
    all.node_mut(1).start();
    let node = all.node(1);
    wait_for("all nodes", node, || {
        let status = node.status();
        status["ready"] == true
            && status["store"]["nodes"] == NODES + 1
            && status["pid"].as_u64() == Some(node.pid().into())
    });
    assert_eq!(node.status()["store"]["leftOut"], Value::Null);
    assert_eq!(all.api.count("list", 410), 1, "a list whose rest expired is begun again");
    let routes = oracle::command(node.ns(), "ip route show proto 70");
    assert_eq!(routes.lines().filter(|line| line.contains("nhid")).count(), usize::try_from(NODES).unwrap());
    // The rest of what starting brings.
    wait_for("the condition", node, || all.api.network_unavailable("n1").is_some());
    wait_quiet(node);

    let (kernel, changes) = (node.ours(), metric(node, "flatnet_changes_total"));
    let (turns, asked) = (metric(node, "flatnet_reconciles_total"), all.api.asked().len());
    let (cpu, resident) = costs(node);
    let took = beat(&all, seconds, NODES);
    let (cpu_after, resident_after) = costs(node);
    println!(
        "{NODES} nodes: {before:.1} MiB without them, {resident:.1} MiB with them; {} heartbeats in {:.1} s: \
         {:.2} s of CPU time, {resident_after:.1} MiB",
        seconds * 100,
        took.as_secs_f64(),
        cpu_after - cpu
    );
    assert_eq!(metric(node, "flatnet_changes_total"), changes, "nothing is programmed");
    assert_eq!(node.ours(), kernel);
    assert_eq!(all.api.asked().len(), asked, "nothing is asked or written");
    let count = |lines: &[String]| -> f64 {
        lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let more = count(&metric(node, "flatnet_reconciles_total")) - count(&turns);
    // One unasked every thirty seconds.
    assert!(more <= took.as_secs_f64() / 30.0 + 1.0, "{more} turns in {took:?}");
    // All of it was heard: what came after it is there.
    all.api.add_node("last", "198.18.255.1", &["10.255.1.0/24"]);
    wait_for("its route", node, || node.ours().contains("10.255.1.0/24 nhid"));
}
