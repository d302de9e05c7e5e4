//! Who has a host port: one pod at a time, as long as it lives, and nobody afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use flatnet_tests::host_ports::{Pod, World, connect, mapping, mapping_on};
use flatnet_tests::oracle::command;
use flatnet_tests::plugin::Answer;
use serde_json::json;

fn refused(answer: &Answer, holder: &str) {
    assert_eq!(answer.json["code"], 101, "{}", answer.json);
    let msg = answer.json["msg"].as_str().unwrap();
    assert!(msg.contains(holder) && msg.contains("8080"), "{msg}");
}

#[test]
fn the_second_pod_is_refused_and_told_who_has_the_port() {
    let world = World::new();
    let here = world.ip(true).to_string();
    let (all, one) = (mapping("tcp", 8080, 80), mapping_on(&here, "tcp", 8080, 80));
    for (first, second) in [(&all, &all), (&all, &one), (&one, &all), (&one, &one)] {
        let holder = world.add("holder", &json!([first]));
        let before = (world.elements(), world.node.records().len(), world.node.used_addresses());
        let answer = world.try_add("late", &json!([second])).unwrap_err();
        refused(&answer, "holder eth0");
        let after = (world.elements(), world.node.records().len(), world.node.used_addresses());
        assert_eq!(before, after, "a refused ADD leaves nothing");
        // Another protocol, another address, another port: no conflict.
        let elsewhere = json!([
            mapping("udp", 8080, 80),
            mapping_on("203.0.113.9", "tcp", 8081, 80),
            mapping_on("203.0.113.8", "tcp", 8081, 80)
        ]);
        let other = world.add("other", &elsewhere);
        world.del(&other);
        world.del(&holder);
        let late = world.add("late", &json!([second]));
        world.del(&late);
        assert_eq!(world.elements(), [""; 0]);
    }
}

#[test]
fn of_many_at_once_exactly_one_gets_the_port() {
    let world = World::new();
    // Before them, so that the node forwards.
    let _before = world.add("before", &json!([]));
    let here = world.ip(true).to_string();
    let results: Vec<Result<Pod, Answer>> = std::thread::scope(|scope| {
        let start = |i: usize| {
            let (world, here) = (&world, &here);
            // Every other one asks for one address only.
            let port = if i.is_multiple_of(2) {
                mapping("tcp", 8080, 80)
            } else {
                mapping_on(here, "tcp", 8080, 80)
            };
            scope.spawn(move || world.try_add(&format!("c{i}"), &json!([port])))
        };
        let all: Vec<_> = (0..20).map(start).collect();
        all.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let winners: Vec<&Pod> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    for answer in results.iter().filter_map(|r| r.as_ref().err()) {
        refused(answer, &format!("{} eth0", winners[0].id));
    }
    assert!(world.elements().iter().all(|line| line.contains(&format!(" {} eth0", winners[0].id))));
    assert_eq!((world.node.records().len(), world.node.used_addresses()), (2, 4));
    let _server = winners[0].serve(80);
    assert!(connect(&world.outside.ns, world.ip(true), 8080).is_ok());
}

#[test]
fn many_pods_at_once_get_their_own_ports() {
    let world = World::new();
    let add = |i: u16| world.add(&format!("c{i}"), &json!([mapping("tcp", 9000 + i, 80)]));
    let pods: Vec<Pod> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|i| scope.spawn(move || add(i))).collect();
        all.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    // Two ports and two hairpins each; nft breaks long lists into lines.
    let ruleset = command(&world.node.ns, "nft list ruleset");
    assert_eq!(ruleset.matches(" comment \"fn").count(), 80, "{ruleset}");
    assert_eq!(ruleset.matches("chain hostports-in {").count(), 1);
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| world.del(pod));
        }
    });
    assert_eq!(world.elements(), [""; 0]);
}

/// Neither record nor interface: whoever it was, it is gone.
#[test]
fn a_port_of_a_pod_that_is_gone_is_free() {
    let world = World::new();
    let dead = world.add("dead", &json!([mapping("tcp", 8080, 80)]));
    let link = dead.result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    std::fs::remove_file(&world.node.records()[0]).unwrap();
    let ports = json!([mapping("tcp", 8080, 81)]);
    refused(&world.try_add("next", &ports).unwrap_err(), "dead eth0");
    drop(command(&world.node.ns, &format!("ip link del {link}")));
    let next = world.add("next", &ports);
    let _server = next.serve(81);
    assert!(connect(&world.outside.ns, world.ip(true), 8080).is_ok());
    assert!(world.elements().iter().any(|line| line.contains("hairpin") || line.contains("next eth0")));
    // The late DEL of the dead one takes nothing from the living.
    world.del(&dead);
    assert!(connect(&world.outside.ns, world.ip(true), 8080).is_ok());
    assert!(world.elements().iter().all(|line| line.contains("next eth0")), "{:?}", world.elements());
}

#[test]
fn gc_frees_ports_of_the_unlisted_and_of_the_dead() {
    let world = World::new();
    let stays = world.add("stays", &json!([mapping("tcp", 8000, 80)]));
    let _unlisted = world.add("unlisted", &json!([mapping("tcp", 8001, 80)]));
    let dead = world.add("dead", &json!([mapping("tcp", 8002, 80)]));
    let link = dead.result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    let records = world.node.records();
    std::fs::remove_file(records.iter().find(|path| path.to_string_lossy().contains(&link)).unwrap())
        .unwrap();
    drop(command(&world.node.ns, &format!("ip link del {link}")));
    let mut conf = world.node.conf("1.1.0");
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "stays", "ifname": "eth0" }]);
    let answer = world.node.run(&world.node.call("GC", "", &stays.ns.path(), &conf));
    assert!(answer.ok, "{}", answer.json);
    let left = world.elements();
    assert!(!left.is_empty() && left.iter().all(|line| line.contains("stays eth0")), "{left:?}");
}

#[test]
fn del_needs_no_list_no_record_and_no_name() {
    let world = World::new();
    let ports = json!([mapping("tcp", 8080, 80), mapping_on("127.0.0.1", "udp", 53, 53)]);
    let beside = world.add("beside", &json!([mapping("tcp", 8081, 80)]));
    let kept = world.elements();
    let spoils: [(&str, &dyn Fn()); 4] = [
        ("nothing", &|| {}),
        ("a damaged record", &|| spoil(&world, b"{ not a record")),
        ("an empty record", &|| spoil(&world, b"")),
        ("no record", &|| {
            let records = world.node.records();
            std::fs::remove_file(of(&records, "web")).unwrap();
        }),
    ];
    for (what, spoil) in spoils {
        let pod = world.add("web", &ports);
        assert_ne!(world.elements(), kept);
        spoil();
        world.del(&pod);
        assert_eq!(world.elements(), kept, "{what}");
        world.del(&pod);
        assert_eq!(world.elements(), kept, "{what}, twice");
    }
    // Renamed in between, and without its namespace.
    let pod = world.add("web", &ports);
    let mut renamed = world.node.conf("1.1.0");
    renamed["name"] = json!("other");
    let answer =
        world.node.run(&world.node.call("DEL", "web", &pod.ns.path(), &renamed).var("CNI_NETNS", None));
    assert!(answer.ok, "{}", answer.json);
    assert_eq!(world.elements(), kept);
    world.del(&beside);
    assert_eq!((world.elements(), world.node.used_addresses()), (Vec::new(), 0));
}

fn of(records: &[std::path::PathBuf], container: &str) -> std::path::PathBuf {
    let wanted = format!("\"container\":\"{container}\"");
    records.iter().find(|path| std::fs::read_to_string(path).unwrap().contains(&wanted)).unwrap().clone()
}

fn spoil(world: &World, content: &[u8]) {
    std::fs::write(of(&world.node.records(), "web"), content).unwrap();
}

#[test]
fn check_notices_what_is_missing_and_what_was_changed() {
    let world = World::new();
    let ports = json!([mapping("tcp", 8080, 80)]);
    let pod = world.add("web", &ports);
    assert!(world.check(&pod, &ports).ok, "{}", world.check(&pod, &ports).json);
    let ip = pod.ip(true);
    let spoils = [
        ("nft flush map inet flatnet hostports4".to_owned(), "tcp port 8080 (IPv4)".to_owned()),
        ("nft flush map inet flatnet hostports6".to_owned(), "tcp port 8080 (IPv6)".to_owned()),
        ("nft flush set inet flatnet hairpin4".to_owned(), format!("hairpin of {ip}")),
        ("nft flush chain inet flatnet hostports-in".to_owned(), "hostports-in".to_owned()),
        ("nft flush chain inet flatnet hostports-out".to_owned(), "hostports-out".to_owned()),
        ("nft flush chain inet flatnet hairpin".to_owned(), "chain hairpin".to_owned()),
        ("nft flush chain inet flatnet guard".to_owned(), "chain guard".to_owned()),
    ];
    let mut world = world;
    let mut pod = pod;
    for (spoil, word) in spoils {
        drop(command(&world.node.ns, &spoil));
        let answer = world.check(&pod, &ports);
        let msg = answer.json["msg"].as_str().unwrap_or_default().to_owned();
        assert!(!answer.ok && answer.json["code"] == 102 && msg.contains(&word), "{spoil}: {}", answer.json);
        world = World::new();
        pod = world.add("web", &ports);
    }
}

/// What containerd and podman do: the same container again, after its interface went with its namespace.
#[test]
fn the_same_container_again_may_ask_for_other_ports() {
    let world = World::new();
    let first = world.add("web", &json!([mapping("tcp", 8080, 80), mapping("tcp", 8081, 80)]));
    let link = first.result["interfaces"][0]["name"].as_str().unwrap();
    drop(command(&world.node.ns, &format!("ip link del {link}")));
    let again = world.add("web", &json!([mapping("tcp", 8080, 90)]));
    let lines = world.elements();
    assert!(!lines.iter().any(|line| line.contains("8081") || line.contains(". 80 ")), "{lines:?}");
    let _server = again.serve(90);
    assert!(connect(&world.outside.ns, world.ip(true), 8080).is_ok());
}
