//! Pods by Debian's containerd and runc through its own interface (CRI), as kubelet makes them: what a
//! real runtime sends, and what it expects back.

#![expect(clippy::unwrap_used, reason = "a test")]

mod installed;
mod shipped;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flatnet_tests::containerd::{Containerd, cri, image};
use flatnet_tests::oracle::{self, links};
use netns_fixtures::{NetNs, probe};

const DUAL: [&str; 2] = ["10.22.0.0/24", "fd00:22::/64"];
const SERVER: [&str; 6] = ["httpd", "-f", "-p", "8080", "-h", "/www"];
const SLEEPER: [&str; 2] = ["sleep", "86400"];

/// Runs `args` in a container, which must succeed; what it printed.
fn inside(containerd: &Containerd, container: &str, args: &[&str]) -> String {
    let (status, said) = containerd.cri.exec(container, args).unwrap();
    assert_eq!(status, 0, "{args:?}: {said}");
    said
}

/// A pod with a web server and a second container beside it: ids of the sandbox and of the second one.
fn pod(containerd: &Containerd, name: &str) -> (String, String) {
    let cri = &containerd.cri;
    let id = cri.run_pod(name).unwrap_or_else(|e| panic!("{e}\n{}", containerd.log()));
    cri.run_container(&id, name, "server", &SERVER).unwrap();
    let beside = cri.run_container(&id, name, "beside", &SLEEPER).unwrap();
    (id, beside)
}

/// A machine next to the node, with the node as its gateway.
fn outside(containerd: &Containerd) -> NetNs {
    let (node, outside) = (&containerd.node.ns, NetNs::new().unwrap());
    let path = outside.path().display().to_string();
    for line in [
        format!("ip link add out0 type veth peer name in0 netns {path}").as_str(),
        "ip link set out0 up",
        "ip addr add 198.51.100.1/24 dev out0",
        "ip addr add 2001:db8:1::1/64 dev out0 nodad",
    ] {
        drop(oracle::command(node, line));
    }
    for line in [
        "ip link set in0 up",
        "ip addr add 198.51.100.2/24 dev in0",
        "ip addr add 2001:db8:1::2/64 dev in0 nodad",
        "ip route add default via 198.51.100.1",
        "ip -6 route add default via 2001:db8:1::1",
    ] {
        drop(oracle::command(&outside, line));
    }
    // The kernel makes routes of these addresses in its own time.
    for node in ["198.51.100.1", "2001:db8:1::1"] {
        probe::ping(&outside, node.parse().unwrap(), Duration::from_secs(10)).unwrap();
    }
    outside
}

/// What a web server answers, or why it does not.
fn get(address: SocketAddr) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(address).and_then(|mut server| {
        server.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        server.read_to_string(&mut answer)
    });
    asked.map_or_else(|e| e.to_string(), |_| answer)
}

/// Removes every sandbox that containerd remembers.
fn remove_all(containerd: &Containerd) {
    for id in containerd.cri.pods().unwrap() {
        containerd.cri.remove_pod(&id).unwrap();
    }
}

#[test]
fn pods_reach_each_other_and_leave_nothing() {
    let containerd = Containerd::start(&DUAL);
    let before = containerd.census();
    let outside = outside(&containerd);
    let (a, in_a) = pod(&containerd, "a");
    let (b, in_b) = pod(&containerd, "b");
    let (ips_a, ips_b) = (containerd.cri.addresses(&a).unwrap(), containerd.cri.addresses(&b).unwrap());
    assert_eq!((ips_a.len(), ips_b.len()), (2, 2), "one address of each family: {ips_a:?} {ips_b:?}");
    // Containers of a pod share its loopback, which the plugin set up under its other name.
    assert_eq!(inside(&containerd, &in_a, &["wget", "-qO-", "http://127.0.0.1:8080/"]), image::PAGE);
    for (from, to) in [(&in_a, &ips_b), (&in_b, &ips_a)] {
        inside(&containerd, from, &["ping", "-c", "2", "-W", "5", &to[0]]);
        inside(&containerd, from, &["ping6", "-c", "2", "-W", "5", &to[1]]);
        for url in [format!("http://{}:8080/", to[0]), format!("http://[{}]:8080/", to[1])] {
            assert_eq!(inside(&containerd, from, &["wget", "-qO-", &url]), image::PAGE, "{url}");
        }
    }
    for (name, port) in [("a", cri::host_port("a")), ("b", cri::host_port("b"))] {
        for node in ["192.0.2.1", "2001:db8::1"] {
            let address = SocketAddr::new(node.parse().unwrap(), port);
            for client in [&outside, &containerd.node.ns] {
                let page = client.run(|| get(address)).unwrap();
                assert!(page.contains(image::PAGE), "host port of {name} at {address}: {page}");
            }
            // The other pod, and the pod itself.
            for container in [&in_a, &in_b] {
                let page = inside(&containerd, container, &["wget", "-qO-", &format!("http://{address}/")]);
                assert_eq!(page, image::PAGE, "host port of {name} at {address}");
            }
        }
    }
    let list = containerd.flatnet_list();
    for (name, ips) in [("proofs/a", &ips_a), ("proofs/b", &ips_b)] {
        assert!(list.contains(name) && ips.iter().all(|ip| list.contains(ip)), "{name} {ips:?}: {list}");
    }
    for id in [&a, &b] {
        containerd.cri.stop_pod(id).unwrap();
        containerd.cri.stop_pod(id).unwrap();
        containerd.cri.remove_pod(id).unwrap();
        containerd.cri.remove_pod(id).unwrap();
    }
    drop(oracle::command(&containerd.node.ns, "ip link del out0"));
    containerd.nothing_left(&before);
    let left = oracle::command(&containerd.node.ns, "nft list ruleset");
    assert!(!left.contains("elements"), "{left}");
    assert!(left.contains("chain masquerade-flatnet"), "the node's own chains stay: {left}");
}

/// What ADD answered is remembered by containerd only on disk; the addresses by us only on disk.
#[test]
fn k22_containerd_killed_between_add_and_del() {
    let mut containerd = Containerd::start(&DUAL);
    let before = containerd.census();
    let (a, _) = pod(&containerd, "a");
    let (b, in_b) = pod(&containerd, "b");
    containerd.kill();
    containerd.begin();
    let ips = containerd.cri.addresses(&a).unwrap();
    inside(&containerd, &in_b, &["ping", "-c", "2", "-W", "5", &ips[0]]);
    for id in [&a, &b] {
        containerd.cri.remove_pod(id).unwrap();
    }
    containerd.nothing_left(&before);
}

/// Two pods fill the subnet. The third is refused with the reason, and takes nothing with it.
#[test]
fn a_pod_without_an_address_is_refused_and_leaves_nothing() {
    let containerd = Containerd::start(&["10.22.0.0/30"]);
    let empty = containerd.census();
    let ids = ["a", "b"].map(|name| containerd.cri.run_pod(name).unwrap());
    let before = containerd.census();
    let refused = containerd.cri.run_pod("c").unwrap_err();
    assert!(refused.message().contains("no free address in 10.22.0.0/30"), "{refused}");
    containerd.nothing_left(&before);
    containerd.cri.remove_pod(&ids[0]).unwrap();
    let id = containerd.cri.run_pod("c").unwrap();
    for id in [&ids[1], &id] {
        containerd.cri.remove_pod(id).unwrap();
    }
    containerd.nothing_left(&empty);
}

/// containerd calls a plugin `loopback` for every pod, and takes lists as they come and go.
#[test]
fn without_loopback_or_list_there_are_no_pods_and_no_remains() {
    let containerd = Containerd::start(&DUAL);
    let before = containerd.census();
    let (loopback, hidden) = (containerd.plugin("loopback"), containerd.plugin("hidden"));
    std::fs::rename(&loopback, &hidden).unwrap();
    let refused = containerd.cri.run_pod("a").unwrap_err();
    assert!(refused.message().contains("loopback"), "{refused}");
    // Its DEL failed likewise, so that containerd keeps the sandbox until somebody removes it.
    std::fs::rename(&hidden, &loopback).unwrap();
    remove_all(&containerd);
    containerd.nothing_left(&before);
    containerd.remove_list();
    containerd.wait("the network to be not ready", || !containerd.network_is_ready());
    assert!(containerd.cri.run_pod("a").is_err());
    containerd.write_list(&DUAL);
    containerd.wait("the network to be ready", || containerd.network_is_ready());
    remove_all(&containerd);
    containerd.cri.run_pod("a").unwrap();
    assert_eq!(links(&containerd.node.ns).len(), 1);
    remove_all(&containerd);
    containerd.nothing_left(&before);
}
