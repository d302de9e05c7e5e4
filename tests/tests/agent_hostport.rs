//! The agent keeps the host ports of its node's pods as the plugin's records say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use flatnet_tests::agent::{Agents, SOON, Underlay};
use flatnet_tests::host_ports::{elements, mapping};
use flatnet_tests::oracle::command;
use netns_fixtures::probe::{TcpServer, tcp_probe};
use netns_fixtures::{NetNs, wait_until};
use serde_json::{Value, json};

/// One agent with one pod that has a host port.
struct World {
    agents: Agents,
    pod: NetNs,
    result: Value,
}

fn world() -> World {
    let agents = Agents::start("type: direct", Underlay::V4);
    let pod = NetNs::new().unwrap();
    let ports = json!({ "portMappings": [mapping("tcp", 8080, 80)] });
    let result = agents.node(1).plugin_with("ADD", "web", &pod, &ports);
    World { agents, pod, result }
}

impl World {
    fn ns(&self) -> &NetNs {
        self.agents.node(1).ns()
    }

    fn rules(&self) -> String {
        command(self.ns(), "nft list ruleset")
    }

    fn wait(&self, what: &str, look: impl Fn() -> bool) {
        let seen = wait_until(what, SOON, || look().then_some(()));
        assert!(seen.is_ok(), "{what}: {}\n{}", self.rules(), self.agents.node(1).log());
    }
}

/// The rules of one table in any order of their elements and chains.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_flushed_ruleset_is_whole_again_and_the_port_works() {
    let world = world();
    let whole = sorted(&world.rules());
    let ip = flatnet_tests::plugin::addresses(&world.result)[0];
    let _server = TcpServer::start(&world.pod, (ip, 80).into()).unwrap();
    let to = (world.agents.node(1).node.v4().unwrap(), 8080).into();
    let client = world.agents.node(2).ns();
    assert!(tcp_probe(client, None, to, SOON).unwrap().is_untranslated());
    for spoil in [
        "nft flush ruleset",
        "nft delete table inet flatnet",
        "nft flush map inet flatnet hostports4",
        "nft flush set inet flatnet hairpin6",
        "nft flush chain inet flatnet hostports-in",
        "nft flush chain inet flatnet guard",
    ] {
        drop(command(world.ns(), spoil));
        world.wait(spoil, || sorted(&world.rules()) == whole);
    }
    assert!(tcp_probe(client, None, to, SOON).is_ok());
}

#[test]
fn what_belongs_to_nobody_goes_and_what_is_recorded_stays() {
    let world = world();
    let whole = sorted(&world.rules());
    for foreign in [
        "nft add element inet flatnet hostports4 { tcp . 9999 : 10.244.1.77 . 80 }",
        "nft add element inet flatnet hostports4 { tcp . 9998 comment \"fnaaaaaaaaaaaaa\" : 10.244.1.77 . 80 }",
        "nft delete element inet flatnet hostports4 { tcp . 8080 }",
    ] {
        // Words in, as the shell would hand them over.
        drop(world.ns().run(|| nft(foreign)).unwrap());
        world.wait(foreign, || sorted(&world.rules()) == whole);
    }
    // A record that cannot be read is a reason to leave the pod alone.
    let records = world.agents.node(1).state.join("attachments");
    let record = std::fs::read_dir(records).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&record).unwrap();
    std::fs::write(&record, b"{").unwrap();
    drop(command(world.ns(), "nft flush chain inet flatnet guard"));
    world.wait("the guard is back", || sorted(&world.rules()) == whole);
    std::fs::write(&record, good).unwrap();
}

fn nft(line: &str) -> std::process::Output {
    #[expect(clippy::disallowed_methods, reason = "somebody else changes the table")]
    let output = std::process::Command::new("nft").arg(line.strip_prefix("nft ").unwrap()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Pods come and go while the agent looks again and again: nothing is lost and nothing is left.
#[test]
fn pods_coming_and_going_beside_the_agent_end_right() {
    let world = world();
    let before = elements(world.ns());
    std::thread::scope(|scope| {
        for worker in 0..4u16 {
            let node = world.agents.node(1);
            scope.spawn(move || {
                for round in 0..6 {
                    let pod = NetNs::new().unwrap();
                    let port = mapping("tcp", 9000 + worker, 80);
                    let ports = json!({ "portMappings": [port] });
                    let id = format!("w{worker}r{round}");
                    drop(node.plugin_with("ADD", &id, &pod, &ports));
                    let mine = format!("{id} eth0");
                    assert!(elements(node.ns()).iter().any(|line| line.contains(&mine)));
                    drop(node.plugin("DEL", &id, &pod));
                }
            });
        }
        for _ in 0..5 {
            drop(command(world.ns(), "nft flush set inet flatnet hairpin6"));
            #[expect(clippy::disallowed_methods, reason = "the moment is what is varied")]
            std::thread::sleep(Duration::from_millis(60));
        }
    });
    world.wait("only the one that stayed", || {
        sorted(&elements(world.ns()).join("\n")) == sorted(&before.join("\n"))
    });
}

#[test]
fn stopping_leaves_the_ports_and_cleanup_removes_the_table() {
    let mut world = world();
    let whole = world.rules();
    world.agents.node_mut(1).stop();
    assert_eq!(world.rules(), whole);
    let done = world.agents.node(1).run("cleanup");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(world.rules(), "");
}
