//! Killed in the middle: whatever the moment, DEL leaves nothing, and the pod beside is not touched.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use flatnet_tests::oracle;
use flatnet_tests::plugin::{PluginNode, addresses};
use flatnet_tests::program;
use netns_fixtures::{NetNs, probe};

/// Starts ADD and kills it after `delay`. Answers whether it had finished before.
fn killed_add(node: &PluginNode, pod: &NetNs, container: &str, delay: Duration) -> bool {
    let call = node.call("ADD", container, &pod.path(), &node.conf("1.1.0"));
    let status = node.ns.run(|| {
        #[expect(clippy::disallowed_methods, reason = "a runtime executes plugins")]
        let mut command = Command::new(program("flatnet"));
        command.env_clear().envs(call.env).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("start the plugin");
        child.stdin.take().expect("piped").write_all(&call.stdin).expect("hand over the configuration");
        #[expect(clippy::disallowed_methods, reason = "the moment of the kill is what is varied")]
        std::thread::sleep(delay);
        // Fails only when it has ended already.
        let _ = child.kill();
        child.wait().expect("wait")
    });
    status.expect("enter the node").success()
}

#[test]
fn d11_killed_at_any_moment_then_del_leaves_nothing() {
    let (node, beside) = (PluginNode::new(), NetNs::new().unwrap());
    let neighbour = addresses(&node.add("beside", &beside))[0];
    let before = oracle::everything(&node.ns);
    let mut unfinished = 0;
    for step in 0..60 {
        let pod = NetNs::new().unwrap();
        let delay = Duration::from_micros(step * 50);
        unfinished += u32::from(!killed_add(&node, &pod, "victim", delay));
        let answer = node.del("victim", &pod.path());
        assert!(answer.ok, "after {delay:?}: {}", answer.json);
        oracle::assert_same(&before, &oracle::everything(&node.ns), &format!("after {delay:?}"));
        assert_eq!((node.records().len(), node.used_addresses()), (1, 2), "after {delay:?}");
    }
    assert!(unfinished > 5, "the kills came too late to show anything ({unfinished} of 60)");
    probe::ping(&node.ns, neighbour, Duration::from_secs(2)).unwrap();
}

/// The runtime tries again without a DEL in between: the remains are no obstacle, or the error says what is.
#[test]
fn killed_add_then_add_again_works_after_one_del() {
    let node = PluginNode::new();
    for step in 0..20 {
        let pod = NetNs::new().unwrap();
        killed_add(&node, &pod, "c1", Duration::from_micros(step * 100));
        let again = node.run(&node.call("ADD", "c1", &pod.path(), &node.conf("1.1.0")));
        assert!(again.ok || again.json["code"] == 101, "{}", again.json);
        assert!(node.del("c1", &pod.path()).ok);
        drop(node.add("c1", &pod));
        assert!(node.del("c1", &pod.path()).ok);
        assert_eq!((oracle::links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
    }
}
