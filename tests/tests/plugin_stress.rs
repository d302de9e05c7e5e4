//! Many plugins at once, some of them killed: no leak, no address twice, nobody disturbed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flatnet_tests::dice::Dice;
use flatnet_tests::oracle::{self, links};
use flatnet_tests::plugin::{Answer, Call, PluginNode, addresses};
use netns_fixtures::{NetNs, probe, wait_until};
use serde_json::{Value, json};

const WORKERS: usize = 50;
const CYCLES: usize = 20;
/// The longest a doomed process lives: about what one takes among fifty others.
const LIFE_MICROS: usize = 150_000;

/// What all workers share.
struct Field {
    node: PluginNode,
    /// Who has which address, by what the plugin answered.
    held: Mutex<HashMap<IpAddr, String>>,
    killed_adds: AtomicUsize,
    killed_dels: AtomicUsize,
    /// Addresses that two had at once.
    duplicates: Mutex<Vec<String>>,
}

impl Field {
    /// Starts a process and kills it after a while drawn at random; 1 where it had not ended before.
    fn kill(&self, dice: &mut Dice, call: &Call) -> usize {
        let mut process = self.node.start(&[], call);
        let life = Duration::from_micros(u64::try_from(dice.below(LIFE_MICROS)).unwrap_or(0));
        #[expect(clippy::disallowed_methods, reason = "the moment of the kill is what is varied")]
        std::thread::sleep(life);
        // Fails only when it has ended already.
        let _ = process.child().kill();
        let status = process.child().wait().expect("wait");
        usize::from(status.signal() == Some(nix::libc::SIGKILL))
    }

    /// One pod's life: an ADD or a killed one, then DEL, or a killed one and DEL.
    fn cycle(&self, dice: &mut Dice, pod: &NetNs, container: &str) {
        let conf = self.node.conf("1.1.0");
        let [add, del] = ["ADD", "DEL"].map(|verb| self.node.call(verb, container, &pod.path(), &conf));
        let mut had = Vec::new();
        if dice.below(4) == 0 {
            self.killed_adds.fetch_add(self.kill(dice, &add), Ordering::Relaxed);
        } else {
            let answer = patiently(|| self.node.run(&add));
            assert!(answer.ok, "ADD {container}: {}", answer.json);
            had = addresses(&answer.json);
            self.hold(container, &had);
            self.ask_the_kernel(&answer.json, &had);
        }
        // Before the DEL: from then on the addresses may be somebody else's.
        let mut held = self.held.lock().expect("no panic");
        held.retain(|_, holder| holder != container);
        drop(held);
        if dice.below(4) == 0 {
            self.killed_dels.fetch_add(self.kill(dice, &del), Ordering::Relaxed);
        }
        let answer = patiently(|| self.node.run(&del));
        assert!(answer.ok, "DEL {container} {had:?}: {}", answer.json);
        assert_eq!(links(pod), Vec::<String>::new(), "{container}");
    }

    fn complain(&self, what: String) {
        self.duplicates.lock().expect("no panic").push(what);
    }

    fn hold(&self, container: &str, addresses: &[IpAddr]) {
        let mut held = self.held.lock().expect("no panic");
        for ip in addresses {
            if let Some(other) = held.insert(*ip, container.to_owned()) {
                self.complain(format!("{ip} was given to {other} and to {container}"));
            }
        }
    }

    /// The node's routes to the addresses lead to this pod's interface and to no other.
    fn ask_the_kernel(&self, result: &Value, addresses: &[IpAddr]) {
        let expected = result["interfaces"][0]["name"].as_str().expect("a name");
        for ip in addresses {
            let family = if ip.is_ipv4() { "-4" } else { "-6" };
            let routes = oracle::ip(&self.node.ns, &format!("{family} route show {ip}"));
            let mut devices = oracle::names(&routes, "dev");
            // A list read while others change the table may show a route twice.
            devices.dedup();
            if devices != [expected] {
                self.complain(format!("{ip} of {expected} is routed to {devices:?}"));
            }
        }
    }
}

/// Runs again what answered with "try again later", as runtimes do.
fn patiently(mut run: impl FnMut() -> Answer) -> Answer {
    let settled = wait_until("an answer other than \"try again\"", Duration::from_secs(60), || {
        Some(run()).filter(|answer| answer.ok || answer.json["code"] != 11)
    });
    settled.expect("the lock comes free")
}

#[test]
fn k13_a_thousand_cycles_from_fifty_processes_with_random_kills() {
    let seed = Dice::seed();
    println!("FLATNET_SEED={seed} repeats this run");
    let field = Field {
        node: PluginNode::new(),
        held: Mutex::default(),
        killed_adds: AtomicUsize::new(0),
        killed_dels: AtomicUsize::new(0),
        duplicates: Mutex::default(),
    };
    let beside = NetNs::new().expect("make a namespace");
    let neighbour = addresses(&field.node.add("beside", &beside))[0];
    let before = oracle::everything(&field.node.ns);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let field = &field;
            scope.spawn(move || {
                let pod = NetNs::new().expect("make a namespace");
                let mut dice =
                    Dice::new(seed.wrapping_mul(1000).wrapping_add(u64::try_from(worker).unwrap_or(0)));
                // The first numbers of neighbouring seeds are alike.
                (0..20).for_each(|_| _ = dice.below(2));
                for cycle in 0..CYCLES {
                    field.cycle(&mut dice, &pod, &format!("w{worker}c{cycle}"));
                }
            });
        }
    });
    let leaks =
        (links(&field.node.ns).len() - 1, field.node.records().len() - 1, field.node.used_addresses() - 2);
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let duplicates = field.duplicates.into_inner().expect("no panic");
    let (adds, dels) = (count(&field.killed_adds), count(&field.killed_dels));
    println!(
        "{} cycles from {WORKERS} at once, {adds} ADDs and {dels} DELs killed: \
         {leaks:?} links, records and addresses leaked, {} addresses given twice",
        WORKERS * CYCLES,
        duplicates.len()
    );
    assert_eq!((leaks, duplicates), ((0, 0, 0), Vec::new()));
    assert!(adds > 20 && dels > 20, "too few kills to show anything");
    oracle::assert_same(&before, &oracle::everything(&field.node.ns), "node");
    probe::ping(&field.node.ns, neighbour, Duration::from_secs(5)).expect("the pod beside still works");
}

fn gc(node: &PluginNode, valid: &[String]) -> Answer {
    let mut conf = node.conf("1.1.0");
    let valid: Vec<Value> = valid.iter().map(|id| json!({ "containerID": id, "ifname": "eth0" })).collect();
    conf["cni.dev/valid-attachments"] = json!(valid);
    node.run(&node.call("GC", "", "".as_ref(), &conf))
}

/// The runtime lists twenty pods that it is about to make, and collects all the while.
#[test]
fn k14_gc_while_twenty_adds_run_loses_none() {
    let node = PluginNode::new();
    let stale: Vec<NetNs> = (0..5).map(|_| NetNs::new().expect("make a namespace")).collect();
    for (i, pod) in stale.iter().enumerate() {
        drop(node.add(&format!("stale{i}"), pod));
    }
    let pods: Vec<NetNs> = (0..20).map(|_| NetNs::new().expect("make a namespace")).collect();
    let valid: Vec<String> = (0..20).map(|i| format!("c{i}")).collect();
    let results: Vec<Value> = std::thread::scope(|scope| {
        let adds: Vec<_> =
            pods.iter().zip(&valid).map(|(pod, id)| scope.spawn(|| node.add(id, pod))).collect();
        let collector = scope.spawn(|| (0..10).for_each(|_| assert!(gc(&node, &valid).ok)));
        collector.join().expect("GC");
        adds.into_iter().map(|add| add.join().expect("ADD")).collect()
    });
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (20, 20, 40));
    for ip in results.iter().flat_map(addresses) {
        probe::ping(&node.ns, ip, Duration::from_secs(5)).expect("the pod answers");
    }
}

/// The list is older than the pod: its ADD has recorded it, but not made its interface yet.
#[test]
fn k14_gc_with_a_list_from_before_the_add_leaves_it_alone() {
    let (node, pod) = (PluginNode::new(), NetNs::new().expect("make a namespace"));
    let call = node.call("ADD", "fresh", &pod.path(), &node.conf("1.1.0"));
    let slow = "--inject=?rename,?renameat,?renameat2:delay_exit=2000000";
    let add = node.start(&["strace", "-f", "-qq", "-o", "/dev/null", slow], &call);
    let recorded = || node.records().into_iter().find(|p| p.extension().is_some_and(|e| e == "json"));
    wait_until("the record", Duration::from_secs(60), recorded).expect("a record");
    let collected = gc(&node, &[]);
    let made = links(&node.ns).len();
    let added = add.wait_with_output().expect("wait");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stdout));
    assert!(collected.ok, "{}", collected.json);
    assert_eq!(made, 0, "the collection came after the interface was made, and shows nothing");
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (1, 1, 2));
    assert!(gc(&node, &[]).ok);
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

/// A runtime that lost track asks twice at once: one is served, the other one spoils nothing.
#[test]
fn a11_the_same_add_twice_at_once() {
    let node = PluginNode::new();
    for round in 0..40 {
        let pod = NetNs::new().expect("make a namespace");
        let call = node.call("ADD", "c1", &pod.path(), &node.conf("1.1.0"));
        let both = [node.start(&[], &call), node.start(&[], &call)];
        let answers = both.map(|add| add.wait_with_output().expect("wait"));
        let served: Vec<Value> = answers
            .iter()
            .filter(|answer| answer.status.success())
            .map(|answer| serde_json::from_slice(&answer.stdout).expect("JSON"))
            .collect();
        let said = answers.each_ref().map(|a| String::from_utf8_lossy(&a.stdout).into_owned());
        assert_eq!(served.len(), 1, "round {round}: {said:?}");
        let left = (links(&node.ns).len(), node.records().len(), node.used_addresses());
        assert_eq!(left, (1, 1, 2), "round {round}: {said:?}");
        probe::ping(&node.ns, addresses(&served[0])[0], Duration::from_secs(5)).expect("the pod answers");
        assert!(node.del("c1", &pod.path()).ok);
    }
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}

/// One record cannot be read, so nobody knows whose it is: the others go all the same.
#[test]
fn k18_gc_goes_on_after_one_that_fails_and_says_so() {
    let node = PluginNode::new();
    let pods: Vec<NetNs> = (0..3).map(|_| NetNs::new().expect("make a namespace")).collect();
    for (i, pod) in pods.iter().enumerate() {
        drop(node.add(&format!("c{i}"), pod));
    }
    let mut records = node.records();
    records.sort();
    std::fs::write(&records[0], "{").expect("damage a record");
    let answer = gc(&node, &[]);
    let msg = answer.json["msg"].as_str().unwrap_or_default();
    let name = records[0].file_name().expect("a name").to_string_lossy();
    assert!(!answer.ok && msg.contains(&*name) && msg.contains("damaged"), "{}", answer.json);
    assert_eq!((links(&node.ns).len(), node.used_addresses()), (1, 2));
    for (i, pod) in pods.iter().enumerate() {
        assert!(node.del(&format!("c{i}"), &pod.path()).ok);
    }
    assert!(gc(&node, &[]).ok);
    assert_eq!((links(&node.ns).len(), node.used_addresses()), (0, 0));
}
