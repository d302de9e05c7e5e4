//! What the containers of a pod share, and what they do not.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use lab::{Lab, ns, status};
use nix::sys::signal::Signal;

/// What the kernel answers to a second bind (errno(3)).
const EADDRINUSE: i32 = 98;

/// Two pods of two containers with a shell.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - {name: a, image: 'busybox:v1', command: [sh, -c, 'echo from a; exec sleep 1000'],
     securityContext: {capabilities: {add: [SYS_ADMIN]}}, volumeMounts: [{name: shared, mountPath: /data}]}
  - {name: b, image: 'busybox:v1', command: [sh, -c, 'echo from b; exec sleep 1000'],
     volumeMounts: [{name: shared, mountPath: /www}]}
  - {name: c, image: 'busybox:v1', command: [sleep, '1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: a, image: 'busybox:v1', command: [sleep, '1000']}
";

fn pods() -> Lab {
    let lab = Lab::new();
    lab.apply(PODS);
    lab.wait_ready("one");
    lab.wait_ready("two");
    lab
}

/// Claims 3, 4, 9, 12, 14.
#[test]
fn r09_r12_r14_namespaces_are_shared_or_not() {
    let lab = pods();
    let (a, b, other) = (lab.pid("one", "a"), lab.pid("one", "b"), lab.pid("two", "a"));
    let own = i32::try_from(std::process::id()).unwrap();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(ns(a, kind), ns(b, kind), "{kind} is the pod's");
        assert_ne!(ns(a, kind), ns(other, kind), "{kind} is not another pod's");
        assert_ne!(ns(a, kind), ns(own, kind), "{kind} is not the machine's");
    }
    for kind in ["pid", "mnt"] {
        assert_ne!(ns(a, kind), ns(b, kind), "{kind} is the container's own");
        assert_ne!(ns(a, kind), ns(own, kind), "{kind} is not the machine's");
    }
    let cgroup = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let pod = format!("/n1/pod{}/", lab.get("one")["metadata"]["uid"].as_str().unwrap());
    assert!(
        cgroup(a).contains(&format!("{pod}a")) && cgroup(b).contains(&format!("{pod}b")),
        "{}",
        cgroup(a)
    );
}

/// Claim 10.
#[test]
fn r10_containers_have_one_host_name() {
    let lab = pods();
    for container in ["a", "b"] {
        assert_eq!(lab.exec("one", container, &["hostname"]).trim(), "one");
        assert_eq!(lab.exec("one", container, &["cat", "/etc/hostname"]).trim(), "one");
        assert!(lab.exec("one", container, &["env"]).contains("HOSTNAME=one\n"));
        let ip = lab.get("one")["status"]["podIP"].as_str().unwrap().to_owned();
        assert!(lab.exec("one", container, &["cat", "/etc/hosts"]).contains(&format!("\n{ip}\tone\n")));
    }
    lab.exec("one", "a", &["hostname", "changed"]);
    assert_eq!(lab.exec("one", "b", &["hostname"]).trim(), "changed");
    assert_eq!(lab.exec("two", "a", &["hostname"]).trim(), "two");
}

/// Claim 11.
#[test]
fn r11_containers_share_memory_and_queues() {
    let lab = pods();
    lab.exec("one", "a", &["sh", "-c", "echo hello > /dev/shm/x"]);
    assert_eq!(lab.exec("one", "b", &["cat", "/dev/shm/x"]), "hello\n");
    assert_eq!(lab.exec_code("two", "a", &["cat", "/dev/shm/x"]), Some(1));
    lab.exec("one", "a", &["touch", "/dev/mqueue/q"]);
    assert_eq!(lab.exec("one", "b", &["ls", "/dev/mqueue"]), "q\n");
    assert_eq!(lab.exec("two", "a", &["ls", "/dev/mqueue"]), "");
}

/// Claim 12.
#[test]
fn r12_a_container_sees_its_own_processes_only() {
    let lab = pods();
    let seen = lab.exec("one", "a", &["ps"]);
    assert!(seen.contains("    1 root     sleep 1000"), "{seen}");
    assert_eq!(seen.lines().count(), 3, "header, the app and ps: {seen}");
}

/// Claim 14.
#[test]
fn r14_files_and_mounts_are_the_containers_own() {
    let lab = pods();
    lab.exec("one", "a", &["touch", "/tmp/here"]);
    assert_eq!(lab.exec_code("one", "b", &["ls", "/tmp/here"]), Some(1));
    assert!(!lab.path().join("busybox/tmp/here").exists(), "the image is not written to");
    lab.exec("one", "a", &["mount", "-t", "tmpfs", "inner", "/tmp"]);
    assert!(lab.exec("one", "a", &["mount"]).contains("inner"));
    assert!(!lab.exec("one", "b", &["mount"]).contains("inner"));
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("inner"));
    assert_eq!(lab.exec("one", "a", &["ls", "/sys/class/net"]), "eth0\nlo\n");
    let told = lab.exec("one", "b", &["sh", "-c", "(echo x > /proc/sys/kernel/hostname) 2>&1 || :"]);
    assert!(told.contains("Read-only file system"), "{told}");
    assert_eq!(lab.exec("one", "b", &["sh", "-c", "cat /proc/kcore | wc -c"]).trim(), "0");
    assert_eq!(lab.exec("one", "b", &["ls", "/sys/firmware"]), "");
    let numbers = lab.exec("one", "b", &["ls", "/proc"]);
    let numbers = numbers.lines().filter(|name| name.parse::<i32>().is_ok()).count();
    assert_eq!(numbers, 2, "the app and ls: /proc is the container's");
}

/// Claim 15.
#[test]
fn r15_volumes_share_directories() {
    let lab = pods();
    lab.exec("one", "a", &["sh", "-c", "echo data > /data/x"]);
    assert_eq!(lab.exec("one", "b", &["cat", "/www/x"]), "data\n");
    assert_eq!(lab.exec("one", "c", &["ls", "/data"]), "", "the image's own, empty directory");
}

/// Claim 16, and that a restart touches nothing of the pod.
#[test]
fn r16_volumes_and_sandbox_outlive_containers_but_not_the_pod() {
    let lab = pods();
    lab.exec("one", "a", &["sh", "-c", "echo data > /data/x; echo shm > /dev/shm/x"]);
    lab.exec("one", "a", &["hostname", "changed"]);
    let before = lab.get("one");
    let card = || lab.exec("one", "a", &["cat", "/sys/class/net/eth0/address"]);
    let (address, net) = (card(), ns(lab.pid("one", "b"), "net"));
    for restarts in 1..=3 {
        // One after the other, and what is not killed runs on.
        for (name, other) in [("a", "b"), ("b", "c"), ("c", "a")] {
            let others = lab.pid("one", other);
            kill(lab.pid("one", name), Signal::SIGKILL);
            let after = lab.wait("one", "restarted", |pod| {
                let one = status(pod, name);
                one["restartCount"] == restarts && one["state"]["running"].is_object()
            });
            assert_eq!(after["status"]["podIP"], before["status"]["podIP"]);
            assert_eq!(status(&after, name)["lastState"]["terminated"]["exitCode"], 137);
            assert_eq!(lab.pid("one", other), others);
            assert_eq!(ns(lab.pid("one", name), "net"), net);
        }
    }
    assert_eq!(lab.exec("one", "a", &["cat", "/data/x", "/dev/shm/x"]), "data\nshm\n");
    assert_eq!((card(), lab.exec("one", "b", &["hostname"])), (address, "changed\n".to_owned()));
    lab.ok(&["delete", "pod", "one"]);
    lab.apply(PODS);
    let again = lab.wait_ready("one");
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(lab.exec("one", "a", &["ls", "/data", "/dev/shm"]), "/data:\n\n/dev/shm:\n");
}

/// Sends a signal from outside, as the kernel would: the first process of a container is not spared.
fn kill(pid: i32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// An executed command is where the container's first process is, and may do what that may.
#[test]
fn an_executed_command_is_inside_as_its_container_is() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, containers: [
          {name: c, image: 'busybox:v1', command: [sleep, '1000'], env: [{name: WORD, value: sesame}], securityContext:
            {runAsUser: 1234, runAsGroup: 7, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}}]}}",
    );
    lab.wait_ready("p");
    let init = lab.pid("p", "c");
    for kind in ["net", "ipc", "uts", "pid", "mnt", "cgroup"] {
        let inside = lab.exec("p", "c", &["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_eq!(inside.trim(), ns(init, kind), "{kind}");
    }
    let of_init = |file: &str| std::fs::read_to_string(format!("/proc/{init}/{file}")).unwrap();
    let inside = lab.exec("p", "c", &["cat", "/proc/self/status"]);
    let lines = |text: &str| -> Vec<String> {
        let kept = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"];
        text.lines().filter(|line| kept.iter().any(|key| line.starts_with(key))).map(str::to_owned).collect()
    };
    assert_eq!(lines(&inside), lines(&of_init("status")));
    assert!(inside.contains("Uid:\t1234\t"), "{inside}");
    assert!(lab.exec("p", "c", &["env"]).contains("WORD=sesame\n"));
    // Its cgroup is looked at from outside: a namespace of cgroups would hide where it is.
    let child = lab.command(&["exec", "p", "--", "sleep", "4321"]).spawn().unwrap();
    let child = netns_fixtures::KillOnDrop::new(child);
    let cgroups = of_init("cgroup");
    let same = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut of_sleep = pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == b"sleep\x004321\x00"
        });
        of_sleep.find_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok())
    };
    assert_eq!(netns_fixtures::wait_until("the command", lab::SOON, same).unwrap(), cgroups);
    drop(child);
}

/// Claim 13.
#[test]
fn r13_processes_are_shared_when_the_pod_says_so() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {shareProcessNamespace: true, terminationGracePeriodSeconds: 5,
          restartPolicy: OnFailure, containers: [
            {name: a, image: 'busybox:v1', command: [sh, -c, 'sleep 1111 & exec sleep 1000']},
            {name: b, image: 'busybox:v1', command: [sleep, '2000']},
            {name: c, image: 'builtin/tools:v1', command: [/bin/spawn-orphan]}]}}",
    );
    lab.wait("p", "c ended", |pod| status(pod, "c")["state"]["terminated"]["exitCode"] == 0);
    let (a, b) = (lab.pid("p", "a"), lab.pid("p", "b"));
    assert_eq!(ns(a, "pid"), ns(b, "pid"));
    let seen = lab.exec("p", "b", &["ps"]);
    assert!(
        seen.contains("tools pause") && seen.contains("sleep 2000") && seen.contains("sleep 1000"),
        "{seen}"
    );
    assert!(seen.lines().any(|line| line.trim_start().starts_with("1 ") && line.contains("pause")), "{seen}");
    // What c left behind was ended with it; b is as it was.
    assert!(!seen.contains("3600") && !seen.lines().any(|line| line.contains(" Z ")), "{seen}");
    assert_eq!(lab.pid("p", "b"), b);
    // Not being PID 1, sleep is ended by SIGTERM at once.
    let begun = std::time::Instant::now();
    lab.exec("p", "a", &["kill", "-TERM", &in_pod(b)]);
    let after = lab.wait("p", "b restarted", |pod| {
        status(pod, "b")["restartCount"] == 1 && status(pod, "b")["state"]["running"].is_object()
    });
    assert_eq!(status(&after, "b")["lastState"]["terminated"]["exitCode"], 143);
    // Of a container that ends nothing is left, and its neighbour is not touched.
    let b = lab.pid("p", "b");
    assert!(seen.contains("sleep 1111"), "{seen}");
    kill(a, Signal::SIGKILL);
    lab.wait("p", "a restarted", |pod| {
        status(pod, "a")["restartCount"] == 1 && status(pod, "a")["state"]["running"].is_object()
    });
    let once = || (lab.exec("p", "b", &["ps"]).matches("sleep 1111").count() == 1).then_some(());
    netns_fixtures::wait_until("one sleep of a, the new one", lab::SOON, once).unwrap();
    assert_eq!(lab.pid("p", "b"), b);
    lab.ok(&["delete", "pod", "p", "--grace-period", "60"]);
    assert!(begun.elapsed() < lab::SOON, "nothing waited for the grace");
}

/// A process's id in its innermost PID namespace.
fn in_pod(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

/// Claim 18.
#[test]
fn r18_logs_and_restarts_are_per_container() {
    let lab = pods();
    assert_eq!(lab.logs("one", "a"), "from a\n");
    assert_eq!(lab.logs("one", "b"), "from b\n");
    let record = std::fs::read_to_string(lab.pod_dir("one").join("logs/a/0.log")).unwrap();
    assert!(record.ends_with("Z stdout F from a\n"), "{record}");
}

/// Claims 20 and 21.
#[test]
fn r20_r21_localhost_and_ports_are_the_pods() {
    let lab = Lab::new();
    let pod = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [
              {{name: server, image: 'builtin/tools:v1', args: [netexec, --address=127.0.0.1]}},
              {{name: all, image: 'builtin/tools:v1', args: [bind, '80']}},
              {{name: client, image: 'builtin/tools:v1'}}]}}}}"
        )
    };
    lab.apply(&pod("one"));
    lab.apply(&pod("two").replace("--address=127.0.0.1", "--http-port=9999"));
    for name in ["one", "two"] {
        lab.wait_ready(name);
        lab.wait(name, "port 80 bound", |_| lab.logs(name, "all") == "listening on 80\n");
    }
    lab.wait("one", "serving", |_| lab.logs("one", "server").contains("serving"));
    assert_eq!(lab.exec_code("one", "client", &["/bin/connect", "127.0.0.1:8080"]), Some(0));
    let refused = lab.flatpod(&["exec", "two", "-c", "client", "--", "/bin/connect", "127.0.0.1:8080"]);
    assert_eq!(lab::text(&refused.stderr), "REFUSED\n");
    let in_use = lab.exec_code("one", "client", &["/bin/bind", "80"]);
    assert_eq!(in_use, Some(EADDRINUSE), "EADDRINUSE is the exit code");
}
