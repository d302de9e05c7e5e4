use std::sync::atomic::{AtomicBool, Ordering};

use flatnet_core::names::IfName;
use flatnet_core::node::ATTACHMENT_VERSION;
use ipnetwork::IpNetwork;

use super::*;
use crate::Request;

const NETWORK: &str = "10.0.0.0/24";

fn ids(container: &str) -> AttachmentIds {
    AttachmentIds::of(&container.parse().unwrap(), &"eth0".parse().unwrap())
}

fn network() -> IpNetwork {
    NETWORK.parse().unwrap()
}

fn take(state: &StateDir, container: &str) -> IpAddr {
    let owner = ids(container).owner;
    let request = Request { owner, wanted: None, cooldown: 0, in_use: &|_| false };
    state.addresses().take(network(), request).unwrap()
}

fn record(container: &str, ip: IpAddr) -> Attachment {
    let ids = ids(container);
    let json = serde_json::json!({
        "version": ATTACHMENT_VERSION, "network": "n", "container": container, "ifname": "eth0",
        "hostIfname": ids.host_if, "netns": "/nowhere", "netnsInode": 1, "addresses": [ip],
        "mac": ids.pod_mac, "hostMac": ids.host_mac, "mtu": 1500,
    });
    serde_json::from_value(json).unwrap()
}

/// An ADD, as far as files go.
fn add(state: &StateDir, container: &str) -> IpAddr {
    let ids = ids(container);
    let _mark = state.attachments().begin(&ids.host_if, ids.owner).unwrap();
    let ip = take(state, container);
    state.attachments().put(&record(container, ip)).unwrap();
    ip
}

fn del(state: &StateDir, container: &str, ip: IpAddr) {
    let ids = ids(container);
    assert!(state.addresses().release(ids.owner, &[ip]).is_empty());
    state.attachments().remove(&ids.host_if).unwrap();
}

fn used(state: &StateDir) -> u64 {
    state.addresses().usage().unwrap().iter().map(|usage| usage.used).sum()
}

fn judge<'a>(is_dead: &'a dyn Fn(&Attachment) -> bool, in_use: &'a dyn Fn(IpAddr) -> bool) -> Judge<'a> {
    Judge { is_dead, in_use, grace: 0 }
}

const NOBODY: &dyn Fn(&Attachment) -> bool = &|_| false;
const NOWHERE: &dyn Fn(IpAddr) -> bool = &|_| false;

fn files(state: &StateDir) -> usize {
    std::fs::read_dir(state.path().join("attachments")).map_or(0, Iterator::count)
}

#[test]
fn the_dead_go_with_their_addresses_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let (dead, alive) = (add(&state, "dead"), add(&state, "alive"));
    let is_dead = |record: &Attachment| record.container.as_str() == "dead";
    let collected = state.collect(&judge(&is_dead, NOWHERE));
    assert!(collected.failures.is_empty(), "{:?}", collected.failures);
    assert_eq!(collected.attachments.iter().map(|r| r.addresses[0]).collect::<Vec<_>>(), [dead]);
    assert_eq!((used(&state), files(&state)), (1, 1));
    assert!(state.collect(&judge(&is_dead, NOWHERE)).is_empty());
    assert_eq!(state.attachments().list().unwrap().0[0].addresses, [alive]);
}

#[test]
fn addresses_of_a_third_party_are_not_ours_to_give_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let mut other = record("c", "10.9.0.1".parse().unwrap());
    other.ipam = Some(serde_json::json!({ "type": "host-local" }));
    state.attachments().put(&other).unwrap();
    assert!(state.collect(&judge(&|_| true, NOWHERE)).is_empty());
    assert_eq!(files(&state), 1);
}

/// A maker that died after it took an address, and one that is still at it.
#[test]
fn what_is_being_made_is_left_alone_and_what_its_maker_left_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let attachments = state.attachments();
    let at_it = attachments.begin(&ids("c").host_if, ids("c").owner).unwrap();
    let ip = take(&state, "c");
    assert!(state.collect(&judge(&|_| true, NOWHERE)).is_empty());
    assert_eq!((used(&state), files(&state)), (1, 1));
    drop(at_it);
    assert_eq!(state.collect(&judge(NOBODY, &|_| true)).addresses, [] as [IpAddr; 0], "the kernel shows it");
    assert_eq!(state.collect(&judge(NOBODY, NOWHERE)).addresses, [ip]);
    assert_eq!((used(&state), files(&state)), (0, 0));
}

#[test]
fn nothing_goes_before_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    drop(state.attachments().begin(&ids("c").host_if, 1).unwrap());
    let _ = take(&state, "c");
    let patient = Judge { grace: 3600, ..judge(NOBODY, NOWHERE) };
    assert!(state.collect(&patient).is_empty());
    assert_eq!((used(&state), files(&state)), (1, 1));
}

#[test]
fn only_one_can_be_at_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let attachments = state.attachments();
    let name: IfName = ids("c").host_if;
    let held = attachments.begin(&name, 7).unwrap();
    assert!(matches!(attachments.begin(&name, 7), Err(StateError::Locked { .. })));
    assert!(attachments.try_begin(&name, 7).unwrap().is_none());
    attachments.put(&record("c", "10.0.0.1".parse().unwrap())).unwrap();
    assert!(attachments.is_being_made(&name), "the record is written, its maker goes on");
    drop(held);
    assert!(!attachments.is_being_made(&name) && !attachments.was_begun(&name));
    drop(attachments.begin(&name, 7).unwrap());
    assert_eq!(attachments.marks().unwrap()[0].1, SeenMark { owner: Some(7), held: false, age: 0 });
}

/// ADDs and DELs of eight containers, and a collector without any patience: no address is ever in two
/// hands, and none is lost.
#[test]
fn churn_beside_a_collector_without_patience() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::new(dir.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let collected = state.collect(&judge(NOBODY, NOWHERE));
                assert!(collected.attachments.is_empty());
                rounds += 1;
            }
            rounds
        });
        let makers: Vec<_> = (0..8)
            .map(|worker| {
                let state = &state;
                scope.spawn(move || {
                    for round in 0..150 {
                        let container = format!("c{worker}-{}", round % 3);
                        let ip = add(state, &container);
                        let owner = ids(&container).owner;
                        let ours = state.addresses().used().unwrap().into_iter().filter(|u| u.ip == ip);
                        let owners: Vec<u64> = ours.map(|u| u.slot.owner).collect();
                        assert_eq!(owners, [owner], "{container} lost {ip}");
                        del(state, &container, ip);
                    }
                })
            })
            .collect();
        makers.into_iter().for_each(|maker| maker.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 10);
    });
    assert!(state.collect(&judge(NOBODY, NOWHERE)).addresses.is_empty());
    assert_eq!((used(&state), files(&state)), (0, 0));
}
