//! What pods use of CPUs and memory.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use lab::{Lab, text};

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: a}}, spec: {terminationGracePeriodSeconds: 0, containers: [
    {name: busy, image: 'busybox:v1', command: [sh, -c, 'while :; do :; done'], resources: {limits: {cpu: 300m}}},
    {name: large, image: 'busybox:v1', command: [sh, -c,
      'x=$(busybox head -c 40000000 /dev/zero | busybox tr \"\\\\0\" x); echo full; sleep 1000; :']}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: idle}, spec: {terminationGracePeriodSeconds: 0, containers: [
    {name: c, image: 'busybox:v1', command: [sleep, '1000']}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: over}, spec: {restartPolicy: Never, containers: [
    {name: c, image: 'busybox:v1', command: ['true']}]}}
";

/// The two amounts of the line that begins with these cells.
fn amounts(table: &str, cells: &[&str]) -> (u64, u64) {
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.starts_with(cells)).unwrap_or_else(|| panic!("no {cells:?} in\n{table}"));
    let number =
        |at: usize, unit: &str| row[cells.len() + at].strip_suffix(unit).and_then(|n| n.parse().ok());
    (number(0, "m").expect("millicores"), number(1, "Mi").expect("mebibytes"))
}

#[test]
fn top_tells_what_pods_and_their_containers_use() {
    let lab = Lab::new();
    lab.apply(PODS);
    lab.wait_ready("p");
    lab.wait_ready("idle");
    lab.wait_phase("over", "Succeeded");
    lab.wait("p", "memory is full", |_| lab.logs("p", "large") == "full\n");
    let each = lab.ok(&["top", "--containers"]);
    assert!(each.starts_with("POD    NAME    CPU(cores)   MEMORY(bytes)\n"), "{each}");
    let (busy, large, idle) =
        (amounts(&each, &["p", "busy"]), amounts(&each, &["p", "large"]), amounts(&each, &["idle", "c"]));
    // As much as its limit lets it, and no more than a period too much.
    assert!((50..=420).contains(&busy.0) && busy.1 < 20, "{each}");
    assert!(large.0 < 50 && (38..120).contains(&large.1), "{each}");
    assert!(idle.0 < 50 && idle.1 < 20, "{each}");
    assert!(!each.contains("over"), "{each}");
    let sum = lab.ok(&["top", "pod", "p"]);
    assert_eq!(sum.lines().count(), 2, "{sum}");
    assert!(sum.starts_with("NAME   CPU(cores)   MEMORY(bytes)\n"), "{sum}");
    let p = amounts(&sum, &["p"]);
    assert!((50..=450).contains(&p.0) && p.1 >= large.1, "{sum}");
    let labelled = lab.ok(&["top", "-l", "app=a", "--no-headers", "-A"]);
    assert!(labelled.starts_with("default   p   ") && labelled.lines().count() == 1, "{labelled}");
    let over = lab.flatpod(&["top", "over"]);
    assert_eq!(over.status.code(), Some(1));
    assert!(text(&over.stderr).contains("no container of pod over is running"));
}
