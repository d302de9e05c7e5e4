//! `flatpod port-forward`: ports here that lead into pods. Everything listens in namespaces of the test's own.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Stdio},
    sync::{Arc, Barrier},
    thread,
};

use lab::{Lab, SOON, text};
use netns_fixtures::{NetNs, gate, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, \
    containers: [{name: c, image: 'busybox:v1', command: [sleep, '1000'], ports: [{name: web, containerPort: 80}]}]}}";

/// A lab with a pod that runs, where flatpod is started, and the pod's network.
fn start() -> (Lab, NetNs, NetNs) {
    gate::require();
    let net = NetNs::new().unwrap();
    let lab = Lab::apart(&net);
    lab.apply(POD);
    lab.wait_ready("p");
    let pod = NetNs::open(lab.pod_dir("p").join("net")).unwrap();
    (lab, net, pod)
}

/// Takes connections in `net`; `together` of them are heard before the first is answered. Each is read to its end, and
/// then told what it said.
fn echo(net: &NetNs, at: &str, together: usize) {
    let listener = net.run(|| TcpListener::bind(at)).unwrap().unwrap();
    let all_are_there = Arc::new(Barrier::new(together));
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let all_are_there = Arc::clone(&all_are_there);
            thread::spawn(move || -> io::Result<()> {
                assert!(client.peer_addr()?.ip().is_loopback());
                all_are_there.wait();
                let mut said = vec![];
                client.read_to_end(&mut said)?;
                client.write_all(&[b"you said ", said.as_slice()].concat())
            });
        }
    });
}

/// A forward that runs, and what it says.
struct Forward {
    process: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Forward {
    fn start(lab: &Lab, args: &[&str]) -> Self {
        let mut command = lab.command(&[&["port-forward", "p"], args].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// Its exit code and its complaints.
    fn end(self) -> (Option<i32>, String) {
        let output = self.process.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }

    fn asked_to_end(self) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).unwrap()), Signal::SIGINT).unwrap();
        self.end()
    }
}

fn connect(net: &NetNs, at: &str) -> TcpStream {
    let at: SocketAddr = at.parse().unwrap();
    let stream = net.run(|| TcpStream::connect(at)).unwrap().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Says something, has nothing more to say, and answers what comes.
fn ask(mut stream: &TcpStream, said: &str) -> String {
    stream.write_all(said.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn servers_on_a_pods_loopback_are_reached_by_several_at_once() {
    let (lab, net, pod) = start();
    echo(&pod, "127.0.0.1:80", 2);
    echo(&pod, "[::1]:81", 1);
    let mut forward = Forward::start(&lab, &["8080:80", "81"]);
    for line in ["127.0.0.1:8080 -> 80", "[::1]:8080 -> 80", "127.0.0.1:81 -> 81", "[::1]:81 -> 81"] {
        assert_eq!(forward.line(), format!("Forwarding from {line}"));
    }
    let (one, other) = (connect(&net, "127.0.0.1:8080"), connect(&net, "[::1]:8080"));
    for _ in 0..2 {
        assert_eq!(forward.line(), "Handling connection for 8080");
    }
    // The answer comes after the end of the question.
    let long = "x".repeat(1 << 20);
    assert_eq!(ask(&other, &long), format!("you said {long}"));
    assert_eq!(ask(&one, "hello"), "you said hello");
    assert_eq!(ask(&connect(&net, "127.0.0.1:81"), "six"), "you said six");
    assert_eq!(forward.line(), "Handling connection for 81");
    assert_eq!(forward.asked_to_end(), (Some(0), String::new()));
    assert!(net.run(|| TcpStream::connect("127.0.0.1:8080")).unwrap().is_err());
}

#[test]
fn a_refused_connection_ends_and_no_other_one_does() {
    let (lab, net, pod) = start();
    let mut forward = Forward::start(&lab, &[":web"]);
    let first = forward.line();
    let port = first.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.strip_suffix(" -> 80"));
    let port = port.unwrap_or_else(|| panic!("{first}")).to_owned();
    assert_eq!(forward.line(), format!("Forwarding from [::1]:{port} -> 80"));
    let here = format!("127.0.0.1:{port}");
    let mut answer = vec![];
    // Nobody listens there: the connection ends, with or without a reset.
    let read = connect(&net, &here).read_to_end(&mut answer);
    assert!(answer.is_empty(), "{read:?} {answer:?}");
    echo(&pod, "127.0.0.1:80", 1);
    assert_eq!(ask(&connect(&net, &here), "again"), "you said again");
    let (code, told) = forward.asked_to_end();
    assert_eq!(code, Some(0));
    assert!(told.starts_with("flatpod: port 80 of pod p: ") && told.contains("Connection refused"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn it_ends_with_its_pod_and_says_what_cannot_be_done() {
    let (lab, net, _pod) = start();
    let mut forward = Forward::start(&lab, &["8080:80", "--address", "127.0.0.1"]);
    assert_eq!(forward.line(), "Forwarding from 127.0.0.1:8080 -> 80");
    // It is there already for IPv4; localhost is what is left.
    let mut beside = Forward::start(&lab, &["8080:80"]);
    assert_eq!(beside.line(), "Forwarding from [::1]:8080 -> 80");
    for (args, words) in [
        (["8080:80", "--address=127.0.0.1"], ["listen on 127.0.0.1:8080 for port 80 of pod p", "in use"]),
        (["8080:db", "--address=localhost"], ["\"db\" is neither a port", "pod p"]),
    ] {
        let (code, told) = Forward::start(&lab, &args).end();
        assert_eq!(code, Some(1), "{told}");
        assert!(words.iter().all(|word| told.contains(word)), "{told}");
    }
    lab.ok(&["delete", "p"]);
    for forward in [forward, beside] {
        assert_eq!(forward.end(), (Some(1), "flatpod: pod p is gone\n".to_owned()));
    }
    wait_until("the ports to be free", SOON, || {
        net.run(|| TcpListener::bind("127.0.0.1:8080")).unwrap().ok()
    })
    .unwrap();
    lab.apply(&POD.replace("busybox:v1", "missing:v1"));
    let (code, told) = Forward::start(&lab, &["80"]).end();
    assert_eq!(
        (code, told.contains("pod p is not running") && told.contains("Pending")),
        (Some(1), true),
        "{told}"
    );
}

#[test]
fn a_pod_on_its_nodes_network_is_reached_there() {
    gate::require();
    let net = NetNs::new().unwrap();
    let lab = Lab::apart(&net);
    lab.apply(&POD.replace("spec: {", "spec: {hostNetwork: true, "));
    lab.wait_ready("p");
    echo(&NetNs::open(lab.root().join("nodes/n1/net")).unwrap(), "127.0.0.1:80", 1);
    let mut forward = Forward::start(&lab, &["8080:80"]);
    forward.line();
    assert_eq!(ask(&connect(&net, "127.0.0.1:8080"), "hello"), "you said hello");
    assert_eq!(forward.asked_to_end(), (Some(0), String::new()));
}
