//! The agent as a service: what it tells its manager, with how little it makes do, and whether its health is
//! the truth.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use flatnet_tests::agent::{Agents, SOON, Underlay};
use flatnet_tests::oracle::command;
use netns_fixtures::{KillOnDrop, NetNs, wait_until};

fn unit() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/flatnetd.service");
    std::fs::read_to_string(path).expect("the unit")
}

/// Everything the manager is told until `wanted` comes.
fn told(manager: &UnixDatagram, wanted: &str) -> String {
    let mut all = String::new();
    let heard = wait_until(wanted, SOON, || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).ok()?;
        all.push_str(&String::from_utf8_lossy(&buffer[..length]));
        all.push('\n');
        all.contains(wanted).then_some(())
    });
    assert!(heard.is_ok(), "{wanted}: {all}");
    all
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    // Linux keeps abstract names per network namespace, so that one is bound where the agent runs.
    for abstract_name in [false, true] {
        let mut agents = Agents::prepare("type: vxlan", Underlay::V4);
        let (manager, name) = if abstract_name {
            let bind = || {
                let at = SocketAddr::from_abstract_name("flatnet-notify").unwrap();
                UnixDatagram::bind_addr(&at).unwrap()
            };
            (agents.node(1).ns().run(bind).unwrap(), "@flatnet-notify".to_owned())
        } else {
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string())
        };
        manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        agents.node_mut(1).start_with(&[("NOTIFY_SOCKET", name.as_str()), ("WATCHDOG_USEC", "400000")]);
        let first = told(&manager, "READY=1");
        assert!(first.contains("STATUS=not ready: store: "), "{first}");
        agents.write_cluster(&agents.cluster(&[1, 2, 3]));
        told(&manager, "STATUS=ready, 2 peers");
        for _ in 0..3 {
            told(&manager, "WATCHDOG=1");
        }
        agents.node_mut(1).stop();
        assert_eq!(told(&manager, "STOPPING=1").matches("READY=1").count(), 0, "said once");
    }
}

/// A process in `pod` that has no capability: whoever has one may open its namespace by its number.
fn hold(pod: &NetNs) -> KillOnDrop {
    #[expect(clippy::disallowed_methods, reason = "a pod's process")]
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--no-new-privs", "sleep", "1000"]).stdin(Stdio::null());
    pod.enter_for_child(&mut command).expect("enter the pod");
    let holder = KillOnDrop::new(command.spawn().expect("start the pod's process"));
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", holder.id())).ok();
    wait_until("the pod's process", SOON, || name().filter(|name| name.trim() == "sleep")).expect("it runs");
    holder
}

/// With exactly the capabilities of the unit: makes everything, heals it, and changes a running pod.
#[test]
fn the_units_capabilities_suffice() {
    let unit = unit();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set: String =
        line.split(' ').map(|cap| format!(",+{}", cap.trim_start_matches("CAP_").to_lowercase())).collect();
    let mut agents = Agents::prepare("type: auto", Underlay::V6);
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    let bounding = format!("--bounding-set=-all{set}");
    for i in 1..=3 {
        agents.node_mut(i).start_through(&["setpriv", "--no-new-privs", &bounding]);
    }
    agents.nodes.iter().for_each(flatnet_tests::agent::AgentNode::wait_ready);
    let node = agents.node(1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    // Bits 12 and 21, include/uapi/linux/capability.h.
    assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 12 | 1 << 21, "{status}");
    agents.all_reach_all();
    drop(command(node.ns(), "ip link del flat6.1"));
    drop(command(node.ns(), "nft flush ruleset"));
    drop(command(node.ns(), "sysctl -w net.ipv4.ip_forward=0"));
    agents.all_reach_all();
    node.wait_ready();
    let pod = NetNs::new().unwrap();
    let holder = hold(&pod);
    node.plugin_at("ADD", "pod", Path::new(&format!("/proc/{}/ns/net", holder.id())));
    agents.write_cluster(&agents.cluster(&[1, 2]));
    node.ns().set_segment_sizes("eth0", 131_072).unwrap();
    drop(command(node.ns(), "ip link set eth0 alias larger"));
    let followed = || (pod.segment_sizes("eth0").unwrap() == [131_072; 4]).then_some(());
    wait_until("the pod follows", SOON, followed).unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
}

#[test]
fn the_unit_is_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flatnetd.service");
    let program = flatnet_tests::program("flatnetd");
    let text = unit().replace("/usr/local/bin/flatnetd", &program.display().to_string());
    std::fs::write(&path, text).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the witness is systemd itself")]
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("flatnetd"), "{said}");
}

/// Runs the agent's system calls on `path` (or all, where it is empty) through strace's fault injection.
fn inject(pid: u32, path: &str, fault: &str) -> KillOnDrop {
    #[expect(clippy::disallowed_methods, reason = "a test injects faults with strace")]
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", fault]);
    if !path.is_empty() {
        strace.args(["-P", path]);
    }
    strace.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    KillOnDrop::new(strace.spawn().expect("start strace"))
}

/// A turn that hangs: liveness says so, and readiness does not repeat what it said before.
#[test]
fn a_stuck_loop_is_neither_healthy_nor_ready() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200"));
    let strace = inject(node.pid(), "/proc/sys/net/ipv4/ip_forward", "inject=openat:delay_enter=90000000");
    let stuck = wait_until("the loop is stuck", Duration::from_secs(80), || {
        // Makes it look, and hang.
        drop(command(node.ns(), "ip link set eth0 alias look"));
        Some(()).filter(|()| node.get("/healthz").starts_with("HTTP/1.1 503"))
    });
    drop(strace);
    assert!(stuck.is_ok(), "{}\n{}", node.get("/healthz"), node.log());
    // Let go, it goes on.
    node.wait_status("it is well", |status| status["ready"] == true);
    wait_until("healthy", SOON, || node.get("/healthz").starts_with("HTTP/1.1 200").then_some(())).unwrap();
}

/// No netlink sockets to be had: not ready, with the reason; and ready again afterwards.
#[test]
fn failing_netlink_is_not_ready() {
    let agents = Agents::start("type: vxlan", Underlay::V4);
    let node = agents.node(1);
    let strace = inject(node.pid(), "", "inject=socket:error=ENOBUFS");
    wait_until("not ready", SOON, || {
        drop(command(node.ns(), "ip link set eth0 alias look"));
        node.get("/readyz").starts_with("HTTP/1.1 503").then_some(())
    })
    .unwrap_or_else(|e| panic!("{e}\n{}", node.log()));
    let why = node.get("/readyz");
    assert!(why.contains("no buffer space available"), "{why}");
    assert!(node.get("/healthz").starts_with("HTTP/1.1 200"), "the loop comes round");
    drop(strace);
    wait_until("ready again", Duration::from_secs(40), || {
        node.get("/readyz").starts_with("HTTP/1.1 200").then_some(())
    })
    .unwrap();
}
