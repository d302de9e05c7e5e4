//! State that cannot be used: damaged, on a full disk, or locked by a process that does not go on. DEL
//! succeeds, ADD works or says exactly what is wrong, and nobody waits long.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flatnet_tests::oracle::{self, links};
use flatnet_tests::plugin::{Answer, PluginNode};
use netns_fixtures::{KillOnDrop, NetNs, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn pod() -> NetNs {
    NetNs::new().expect("make a pod's namespace")
}

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

type Damage = (&'static str, fn(&Path));

/// Ways in which a file stops being what it was. `root` reads whatever the mode says, so what cannot be
/// read is a directory in the file's place.
const DAMAGES: [Damage; 6] = [
    ("emptied", |file| fs::write(file, "").expect("write")),
    ("cut in half", |file| {
        let bytes = fs::read(file).expect("read");
        fs::write(file, &bytes[..bytes.len() / 2]).expect("write");
    }),
    ("zeroed", |file| fs::write(file, vec![0; fs::read(file).expect("read").len()]).expect("write")),
    ("garbled", |file| {
        let bytes: Vec<u8> = fs::read(file).expect("read").iter().map(|b| b.wrapping_mul(7) ^ 0x5a).collect();
        fs::write(file, bytes).expect("write");
    }),
    ("unreadable", |file| {
        fs::remove_file(file).expect("remove");
        fs::create_dir(file).expect("make a directory");
    }),
    ("from the future", |file| {
        let text = fs::read(file).expect("read");
        let text = String::from_utf8_lossy(&text).replace("\"version\":1", "\"version\":99");
        fs::write(file, text).expect("write");
    }),
];

fn snapshot_conf(node: &PluginNode) -> Value {
    json!({ "cniVersion": "1.1.0", "name": "flatnet", "type": "flatnet", "stateDir": node.state_dir() })
}

/// A node that lives from a snapshot, with one pod.
fn node_with_a_pod(first: &NetNs) -> PluginNode {
    let node = PluginNode::new();
    let snapshot = json!({
        "version": 1, "node": "n1", "subnets": ["10.22.0.0/28"], "clusterNetworks": ["10.22.0.0/16"],
        "mtu": 1450, "segmentSize": 65536, "masquerade": false,
    });
    fs::write(node.state_dir().join("node.json"), snapshot.to_string()).expect("write the snapshot");
    let answer = node.run(&node.call("ADD", "first", &first.path(), &snapshot_conf(&node)));
    assert!(answer.ok, "{}", answer.json);
    node
}

/// An answer that works, or an error that names `file`.
fn works_or_names(answer: &Answer, file: &Path, what: &str) -> bool {
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let msg = answer.json["msg"].as_str().unwrap_or_default();
    assert!(answer.ok || msg.contains(&name), "{what}: {}", answer.json);
    assert!(!answer.stderr.contains("panicked"), "{what}: {}", answer.stderr);
    answer.ok
}

#[test]
fn every_file_damaged_in_every_way() {
    let count = files(node_with_a_pod(&pod()).state_dir()).len();
    assert_eq!(count, 3, "the snapshot, one record, one pool");
    for number in 0..count {
        for (how, damage) in DAMAGES {
            let (first, second) = (pod(), pod());
            let node = node_with_a_pod(&first);
            let file = files(node.state_dir()).remove(number);
            let what = format!("{} {how}", file.file_name().expect("a name").display());
            damage(&file);
            let conf = snapshot_conf(&node);
            let run = |verb: &str, id: &str, pod: &NetNs| node.run(&node.call(verb, id, &pod.path(), &conf));
            let added = run("ADD", "second", &second);
            let worked = works_or_names(&added, &file, &what);
            assert_eq!(links(&node.ns).len(), 1 + usize::from(worked), "{what}: links");
            for (id, pod) in [("second", &second), ("first", &first), ("first", &first)] {
                let deleted = run("DEL", id, pod);
                assert!(deleted.ok && deleted.json == Value::Null, "{what}: DEL {id}: {}", deleted.json);
            }
            assert_eq!(links(&node.ns), Vec::<String>::new(), "{what}");
            // The same container again: its own record may be the damaged one.
            works_or_names(&run("ADD", "first", &first), &file, &what);
            assert!(run("DEL", "first", &first).ok, "{what}");
        }
    }
}

/// A directory on a tmpfs of 64 KiB in a mount namespace that goes with its holder.
struct Tiny {
    _holder: KillOnDrop,
    path: PathBuf,
    _place: tempfile::TempDir,
}

impl Tiny {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("make a directory");
        let script = "mount -t tmpfs -o size=64k tmpfs \"$0\" && echo mounted && exec sleep 600";
        #[expect(clippy::disallowed_methods, reason = "a private mount needs a process that holds it")]
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(place.path());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start the holder");
        let mut mounted = [0; 8];
        let mut stdout = child.stdout.take().expect("piped");
        std::io::Read::read_exact(&mut stdout, &mut mounted).expect("mount a tmpfs");
        let path = PathBuf::from(format!("/proc/{}/root{}", child.id(), place.path().display()));
        Self { _holder: KillOnDrop::new(child), path, _place: place }
    }

    /// Writes until nothing goes in any more; the file that does it.
    fn fill(&self) -> PathBuf {
        let path = self.path.join("filler");
        let mut file = fs::File::create(&path).expect("make a file");
        while file.write_all(&[1; 512]).is_ok() {}
        path
    }

    fn used(&self) -> usize {
        let pool = fs::read(self.path.join("addresses/10.22.0.0-24")).unwrap_or_default();
        pool.chunks(16).skip(4).filter(|slot| slot[..8] != [0; 8]).count()
    }
}

#[test]
fn a_full_disk_refuses_add_with_code_11_and_never_del() {
    let (node, tiny) = (PluginNode::new(), Tiny::new());
    let conf = json!({ "cniVersion": "1.1.0", "name": "flatnet", "type": "flatnet", "stateDir": tiny.path,
        "subnets": ["10.22.0.0/24"] });
    let (first, second) = (pod(), pod());
    let run = |verb: &str, id: &str, pod: &NetNs| node.run(&node.call(verb, id, &pod.path(), &conf));
    let full_from_the_start = tiny.fill();
    let refused = |answer: Answer| {
        let msg = answer.json["msg"].as_str().unwrap_or_default();
        assert!(answer.json["code"] == 11 && msg.contains("No space left"), "{}", answer.json);
    };
    refused(run("ADD", "first", &first));
    fs::remove_file(full_from_the_start).expect("make room");
    assert!(run("ADD", "first", &first).ok);
    let (before, used) = (oracle::everything(&node.ns), tiny.used());
    let filler = tiny.fill();
    for _ in 0..3 {
        refused(run("ADD", "second", &second));
        oracle::assert_same(&before, &oracle::everything(&node.ns), "node");
        assert_eq!((links(&second), tiny.used()), (Vec::new(), used));
    }
    for _ in 0..2 {
        let answer = run("DEL", "first", &first);
        assert!(answer.ok && answer.stderr.is_empty(), "{} {}", answer.json, answer.stderr);
    }
    assert_eq!((links(&node.ns).len(), tiny.used()), (0, 0));
    assert!(files(&tiny.path.join("attachments")).is_empty());
    fs::remove_file(filler).expect("make room");
    assert!(run("ADD", "second", &second).ok);
    assert!(run("DEL", "second", &second).ok);
}

/// A process that has locked `file`, and is stopped.
fn stopped_holder(file: &Path) -> KillOnDrop {
    #[expect(clippy::disallowed_methods, reason = "a lock needs a process that holds it")]
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(file).args(["sleep", "600"]);
    let holder = KillOnDrop::new(command.spawn().expect("start flock"));
    let held = || fs::File::open(file).expect("open the pool").try_lock().is_err().then_some(());
    wait_until("the lock to be held", Duration::from_secs(60), held).expect("a held lock");
    let pid = Pid::from_raw(i32::try_from(holder.id()).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("stop the holder");
    holder
}

fn is_locked(answer: &Answer) -> bool {
    answer.json["code"] == 11 && answer.json["msg"].as_str().is_some_and(|msg| msg.contains("locked"))
}

#[test]
fn a_stopped_holder_of_the_lock_costs_less_than_a_second() {
    let (node, first, second) = (PluginNode::new(), pod(), pod());
    drop(node.add("first", &first));
    let holder = stopped_holder(&node.state_dir().join("addresses/10.22.0.0-24"));
    let mut quickest = [Duration::MAX; 3];
    for _ in 0..3 {
        for (verb, quickest) in ["ADD", "DEL", "STATUS"].iter().zip(&mut quickest) {
            let start = Instant::now();
            let answer = node.run(&node.call(verb, "second", &second.path(), &node.conf("1.1.0")));
            *quickest = (*quickest).min(start.elapsed());
            if *verb == "ADD" {
                assert!(is_locked(&answer), "{}", answer.json);
            } else {
                // Looking needs no lock, and nothing is to be freed.
                assert!(answer.ok, "{verb}: {}", answer.json);
            }
        }
        assert_eq!((links(&node.ns).len(), links(&second)), (1, Vec::new()));
    }
    let freeing = node.run(&node.call("DEL", "first", &first.path(), &node.conf("1.1.0")));
    assert!(is_locked(&freeing), "{}", freeing.json);
    // A busy machine can make one answer late, but not each of three.
    assert!(quickest.iter().all(|took| *took < Duration::from_secs(1)), "{quickest:?}");
    drop(holder);
    drop(node.add("second", &second));
    for (id, pod) in [("first", &first), ("second", &second)] {
        assert!(node.del(id, &pod.path()).ok);
    }
    assert_eq!((links(&node.ns).len(), node.records().len(), node.used_addresses()), (0, 0, 0));
}
