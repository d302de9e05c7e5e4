//! A full pool is looked through for what the dead have left: that comes back, and nothing else does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flatnet_tests::oracle::{self, command, links};
use flatnet_tests::plugin::{Answer, PluginNode, addresses};
use netns_fixtures::{NetNs, probe, wait_until};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(10);
/// Addresses of the pool below.
const SIZE: usize = 6;

/// A node whose pool of six is full.
struct Full {
    node: PluginNode,
    pods: Vec<NetNs>,
    paths: tempfile::TempDir,
}

impl Full {
    fn new() -> Self {
        let mut full =
            Self { node: PluginNode::new(), pods: Vec::new(), paths: tempfile::tempdir().unwrap() };
        for i in 0..SIZE {
            let pod = NetNs::new().unwrap();
            symlink(pod.path(), full.path(i)).unwrap();
            full.pods.push(pod);
            let answer = full.add(&format!("c{i}"), &full.path(i));
            assert!(answer.ok, "{}", answer.json);
        }
        full
    }

    fn path(&self, i: usize) -> PathBuf {
        self.paths.path().join(format!("pod{i}"))
    }

    fn conf(&self) -> Value {
        let mut conf = self.node.conf("1.1.0");
        conf["subnets"] = json!(["10.22.0.0/29"]);
        conf
    }

    fn add(&self, container: &str, pod: &Path) -> Answer {
        self.node.run(&self.node.call("ADD", container, pod, &self.conf()))
    }

    fn is_full(&self, why: &str) {
        let pod = NetNs::new().unwrap();
        let answer = self.add("late", &pod.path());
        assert!(!answer.ok && answer.json["code"] == 11, "{why}: {}", answer.json);
        assert_eq!(links(&pod), Vec::<String>::new(), "{why}");
    }

    fn has_room_again(&self, why: &str) -> NetNs {
        let pod = NetNs::new().unwrap();
        let answer = self.add("late", &pod.path());
        assert!(answer.ok, "{why}: {}", answer.json);
        probe::ping(&self.node.ns, addresses(&answer.json)[0], SOON).unwrap();
        pod
    }

    /// The pods end: nobody holds their namespaces any more.
    fn kill_pods(&mut self) {
        self.pods.clear();
        wait_until("the pairs' end", SOON, || links(&self.node.ns).is_empty().then_some(())).unwrap();
    }

    fn edit_records(&self, edit: impl Fn(&mut Value)) {
        for path in self.node.records() {
            let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            edit(&mut record);
            std::fs::write(&path, record.to_string()).unwrap();
        }
    }

    /// Makes records and addresses as old as the boot.
    fn age(&self) {
        self.edit_records(|record| record["madeAt"] = json!(0));
        for entry in std::fs::read_dir(self.node.state_dir().join("addresses")).unwrap() {
            let path = entry.unwrap().path();
            let mut file = std::fs::read(&path).unwrap();
            for slot in file[64..].chunks_mut(16).filter(|slot| slot[..8] != [0; 8]) {
                slot[8..].copy_from_slice(&1u64.to_le_bytes());
            }
            std::fs::write(&path, file).unwrap();
        }
    }

    fn recorded(&self) -> Vec<IpAddr> {
        let records = self.node.records().into_iter();
        let record = |path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
        let mut all: Vec<IpAddr> = records
            .flat_map(|path| record(path)["addresses"].as_array().unwrap().clone())
            .map(|ip| ip.as_str().unwrap().parse().unwrap())
            .collect();
        all.sort();
        all
    }

    fn all_answer(&self) {
        for ip in self.recorded() {
            probe::ping(&self.node.ns, ip, SOON).unwrap_or_else(|e| panic!("{ip}: {e}"));
        }
    }
}

#[test]
fn the_dead_are_reclaimed_after_their_grace() {
    let mut full = Full::new();
    full.kill_pods();
    full.is_full("the dead have been so for too short a time");
    assert_eq!(full.node.records().len(), SIZE);
    full.age();
    let _pod = full.has_room_again("all the others are dead");
    assert_eq!((full.node.records().len(), full.node.used_addresses()), (1, 1));
}

#[test]
fn status_does_not_say_full_where_only_the_dead_are() {
    let mut full = Full::new();
    let status = |full: &Full| full.node.run(&full.node.call("STATUS", "", Path::new(""), &full.conf()));
    assert_eq!(status(&full).json["code"], 50);
    full.kill_pods();
    full.age();
    assert!(status(&full).ok, "{}", status(&full).json);
}

#[test]
fn the_living_are_never_reclaimed_however_old() {
    let full = Full::new();
    full.age();
    full.is_full("all live");
    // The path is gone, but a process still holds the namespace.
    (0..SIZE).for_each(|i| std::fs::remove_file(full.path(i)).unwrap());
    full.is_full("all live, behind paths that are gone");
    // The path leads to another pod now.
    let other = NetNs::new().unwrap();
    (0..SIZE).for_each(|i| symlink(other.path(), full.path(i)).unwrap());
    full.is_full("all live, behind paths of another pod");
    full.edit_records(|record| record["boot"] = json!("an-earlier-boot"));
    full.is_full("all live, whatever their records say of the boot");
    full.all_answer();
    assert_eq!(full.recorded().len(), SIZE);
}

/// Its interface was deleted, but the pod lives: `flatnet repair` gives it its address back.
#[test]
fn a_pod_without_interface_keeps_its_address() {
    let full = Full::new();
    links(&full.node.ns).iter().for_each(|link| drop(command(&full.node.ns, &format!("ip link del {link}"))));
    full.age();
    full.is_full("the namespaces live");
    // A namespace cannot outlive a boot: whatever is at that path now is another one.
    full.edit_records(|record| record["boot"] = json!("an-earlier-boot"));
    let _pod = full.has_room_again("all the others are of an earlier boot");
    assert_eq!(full.node.records().len(), 1);
}

#[test]
fn another_namespace_at_the_same_path_is_no_life() {
    let mut full = Full::new();
    full.kill_pods();
    full.age();
    let later: Vec<NetNs> = (0..SIZE).map(|_| NetNs::new().unwrap()).collect();
    for (i, pod) in later.iter().enumerate() {
        std::fs::remove_file(full.path(i)).unwrap();
        symlink(pod.path(), full.path(i)).unwrap();
    }
    let _pod = full.has_room_again("their paths lead to later pods");
    assert_eq!(full.node.records().len(), 1);
}

/// What an ADD leaves that was killed between address and record, and what somebody leaves who deletes
/// records.
#[test]
fn addresses_without_attachment_are_reclaimed_unless_the_node_routes_them() {
    let full = Full::new();
    for path in full.node.records() {
        std::fs::remove_file(path).unwrap();
    }
    full.age();
    full.is_full("the node still routes them");
    let before = oracle::everything(&full.node.ns);
    let dead = &links(&full.node.ns)[0];
    drop(command(&full.node.ns, &format!("ip link del {dead}")));
    let pod = full.has_room_again("one of them is routed no more");
    drop(pod);
    assert_ne!(before, oracle::everything(&full.node.ns));
    assert_eq!(full.node.used_addresses(), SIZE);
}
