//! `flatnetd install` and `uninstall`: what is put where, which network runtimes use then, and what is
//! refused. The reader of the configuration directory (`site`) is not ours.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use flatnet_tests::agent::{Agents, SOON, Underlay};
use flatnet_tests::plugin::PluginNode;
use flatnet_tests::site::{Site, said, version};
use netns_fixtures::{NetNs, wait_until};
use serde_json::{Value, json};

const OURS: &str = "10-flatnet.conflist";
const OTHER: &str = "05-other.conflist";
const SUBNETS: [&str; 2] = ["--subnets", "10.22.0.0/24,fd00:22::/64"];

/// The file that runtimes use; panics where there is none or the first cannot be loaded.
fn used(site: &Site) -> String {
    site.used().unwrap().expect("a network").file
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What became of each file, by its name.
fn results(report: &Value) -> Vec<(String, String)> {
    let name = |file: &Value| file["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let files = report["files"].as_array().unwrap();
    files.iter().map(|file| (name(file), file["result"].as_str().unwrap().to_owned())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(name, result)| (name.to_owned(), result.to_owned())).collect()
}

#[test]
fn install_is_idempotent_and_uninstall_takes_it_back() {
    let site = Site::new();
    site.write_snapshot();
    let before = site.everything();
    let first = json_of(&site.good("install", &["--output", "json"]));
    let three = [("flatnet", "installed"), ("loopback", "installed"), (OURS, "installed")];
    assert_eq!(results(&first), pairs(&three));
    assert_eq!(used(&site), OURS);
    version(&site.bin("flatnet")).unwrap();
    version(&site.bin("loopback")).unwrap();
    let list = json_of(&fs::read_to_string(site.conf(OURS)).unwrap());
    assert_eq!(list["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    assert_eq!(list["plugins"][0]["stateDir"], json!(site.state()));
    let inodes = |site: &Site| {
        let files =
            [site.bin("flatnet"), site.bin("loopback"), site.conf(OURS), site.conf(".flatnet-installed")];
        files.map(|path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap()))
    };
    let there = inodes(&site);
    let again = json_of(&site.good("install", &["--output", "json"]));
    let same = [("flatnet", "unchanged"), ("loopback", "unchanged"), (OURS, "unchanged")];
    assert_eq!(results(&again), pairs(&same));
    assert_eq!(inodes(&site), there, "nothing is rewritten");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(site.bin("flatnet")), mode(site.conf(OURS))), (0o755, 0o644));
    site.good("uninstall", &[]);
    assert!(site.everything() == before, "{:?}", site.everything().keys());
    assert!(site.good("uninstall", &[]).contains("nothing of ours"));
}

/// Downgrade is the same as upgrade: any other content is replaced, also one that nobody recorded.
#[test]
fn any_other_version_is_replaced() {
    let site = Site::small();
    fs::write(site.bin("flatnet"), "copied by hand").unwrap();
    for version in ["1", "2", "1"] {
        fs::write(site.plugin(), version).unwrap();
        let said = site.good("install", &SUBNETS);
        assert!(said.contains("replaced"), "{said}");
        for name in ["flatnet", "loopback"] {
            assert_eq!(fs::read_to_string(site.bin(name)).unwrap(), version);
        }
    }
    // What a killed install left goes; what only looks like it stays.
    fs::write(site.bin(".flatnet.flatnet-tmp"), "half").unwrap();
    fs::write(site.conf(".10-flatnet.conflist.flatnet-tmp"), "half").unwrap();
    fs::write(site.conf(".10-flatnet.conflist.tmp"), "theirs").unwrap();
    // A program that lost its permissions is not "unchanged".
    fs::set_permissions(site.bin("flatnet"), fs::Permissions::from_mode(0o600)).unwrap();
    site.good("install", &SUBNETS);
    assert!(!site.bin(".flatnet.flatnet-tmp").exists());
    assert!(!site.conf(".10-flatnet.conflist.flatnet-tmp").exists());
    assert!(site.conf(".10-flatnet.conflist.tmp").exists());
    assert_eq!(fs::metadata(site.bin("flatnet")).unwrap().permissions().mode() & 0o111, 0o111);
}

#[test]
fn somebody_elses_loopback_stays_and_a_link_to_ours_follows() {
    let site = Site::small();
    fs::write(site.bin("loopback"), "the reference plugin").unwrap();
    let said = site.good("install", &SUBNETS);
    assert!(said.contains("kept") && said.contains("bin/loopback"), "{said}");
    site.good("uninstall", &[]);
    assert_eq!(fs::read_to_string(site.bin("loopback")).unwrap(), "the reference plugin");
    fs::remove_file(site.bin("loopback")).unwrap();
    symlink("flatnet", site.bin("loopback")).unwrap();
    for version in ["1", "2"] {
        fs::write(site.plugin(), version).unwrap();
        site.good("install", &SUBNETS);
        assert_eq!(fs::read_to_string(site.bin("loopback")).unwrap(), version);
    }
}

#[test]
fn the_network_that_wins_is_named_and_taken_over_only_when_asked() {
    let site = Site::small();
    site.write_other(OTHER);
    site.write_other("99-late.conflist");
    let before = site.everything();
    let report = json_of(&site.good("install", &[&SUBNETS[..], &["-o", "json"]].concat()));
    assert_eq!(used(&site), OTHER);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("runtimes use 05-other.conflist (network other)"), "{warnings}");
    let order: Vec<_> =
        report["configurations"].as_array().unwrap().iter().map(|c| (&c["file"], &c["used"])).collect();
    let expected =
        [(json!(OTHER), json!(true)), (json!(OURS), json!(false)), (json!("99-late.conflist"), json!(false))];
    assert_eq!(order, expected.iter().map(|(file, used)| (file, used)).collect::<Vec<_>>());
    let text = site.good("install", &[&SUBNETS[..], &["--take-over"]].concat());
    assert!(text.contains("disabled") && !text.contains("warning"), "{text}");
    assert_eq!(used(&site), OURS);
    assert!(site.conf("99-late.conflist").exists(), "later ones are in nobody's way");
    // Its owner writes it again: taken over again, and the newer one comes back in the end.
    site.write_other(OTHER);
    site.good("install", &[&SUBNETS[..], &["--take-over"]].concat());
    assert_eq!(used(&site), OURS);
    let text = site.good("uninstall", &[]);
    assert!(text.contains("restored"), "{text}");
    assert_eq!(used(&site), OTHER);
    assert!(site.everything() == before, "{:?}", site.everything().keys());
}

#[test]
fn a_file_that_cannot_be_loaded_is_named_and_can_be_taken_over() {
    let site = Site::small();
    fs::write(site.conf("01-torn.conf"), "{\"name\":").unwrap();
    let text = site.good("install", &SUBNETS);
    assert!(text.contains("warning: 01-torn.conf is not a JSON object"), "{text}");
    assert!(site.used().is_err(), "containerd stumbles over it");
    site.good("install", &[&SUBNETS[..], &["--take-over"]].concat());
    assert_eq!(used(&site), OURS);
    // The owner repairs it meanwhile: both versions are there, and nobody chooses for him.
    site.write_other("01-torn.conf");
    let text = site.good("uninstall", &[]);
    assert!(text.contains("01-torn.conf is there again and differs"), "{text}");
    assert!(site.conf("01-torn.conf.flatnet-disabled").exists());
}

#[test]
fn what_stands_in_our_place_is_respected() {
    let site = Site::small();
    // Nobody would load it: replaced.
    fs::write(site.conf(OURS), "").unwrap();
    site.good("install", &SUBNETS);
    let ours = fs::read_to_string(site.conf(OURS)).unwrap();
    // Changed by hand: stays, and an uninstall asks first.
    let edited = ours.replace("10.22.0.0/24", "10.23.0.0/24");
    fs::write(site.conf(OURS), &edited).unwrap();
    let text = site.good("install", &SUBNETS);
    assert!(text.contains("changed by somebody else"), "{text}");
    assert_eq!(fs::read_to_string(site.conf(OURS)).unwrap(), edited);
    let e = site.bad("uninstall", &[]);
    assert!(e.contains("10-flatnet.conflist calls it and is not from an install"), "{e}");
    site.good("uninstall", &["--force"]);
    assert_eq!(site.everything().keys().collect::<Vec<_>>(), [""; 0]);
    // Another network's: refused.
    site.write_other(OURS);
    let e = site.bad("install", &SUBNETS);
    assert!(e.contains("calls other plugins (bridge); rename or remove it"), "{e}");
}

#[test]
fn no_network_is_shown_before_pods_can_start() {
    let site = Site::small();
    let e = site.bad("install", &[]);
    for part in ["node.json is not there", "flatnetd run", "--wait", "--subnets"] {
        assert!(e.contains(part), "{part}: {e}");
    }
    assert!(site.bin("flatnet").exists(), "the plugin is there first");
    assert_eq!(site.used(), Ok(None));
    let e = site.bad("install", &["--wait", "1"]);
    assert!(e.contains("after 1 s"), "{e}");
    fs::write(site.state().join("node.json"), "{}").unwrap();
    let e = site.bad("install", &[]);
    assert!(e.contains("node.json is damaged"), "{e}");
    site.good("install", &["--binaries-only"]);
    assert_eq!(site.used(), Ok(None));
    // A machine without an agent does not become one with an agent that is not there.
    site.good("install", &SUBNETS);
    assert!(site.bad("install", &[]).contains("node.json"));
    site.write_snapshot();
    site.good("install", &[]);
    assert!(!fs::read_to_string(site.conf(OURS)).unwrap().contains("subnets"));
    // After a boot the state directory is empty, and an upgrade need not wait.
    fs::remove_file(site.state().join("node.json")).unwrap();
    site.good("install", &[]);
    let e = site.bad("install", &["--subnets", "10.22.0.7/24"]);
    assert!(e.contains("10.22.0.0/24"), "{e}");
}

/// After a boot the configuration is there before the agent: the plugin says that it is too early.
#[test]
fn a_plugin_before_its_snapshot_says_try_again() {
    let site = Site::new();
    site.write_snapshot();
    site.good("install", &[]);
    fs::remove_file(site.state().join("node.json")).unwrap();
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let list = json_of(&fs::read_to_string(site.conf(OURS)).unwrap());
    let mut conf = list["plugins"][0].clone();
    conf["cniVersion"] = json!("1.1.0");
    conf["name"] = list["name"].clone();
    for (verb, code) in [("STATUS", 50), ("ADD", 11)] {
        let answer = node.execute(&site.bin("flatnet"), &node.call(verb, "pod", &pod.path(), &conf));
        assert!(!answer.ok && answer.json["code"] == code, "{verb}: {}", answer.json);
    }
}

#[test]
fn uninstall_refuses_while_the_plugin_is_needed() {
    let site = Site::new();
    site.good("install", &SUBNETS);
    let (node, pod) = (PluginNode::new(), NetNs::new().unwrap());
    let mut conf = node.conf("1.1.0");
    conf["stateDir"] = json!(site.state());
    let call = |verb| node.execute(&site.bin("flatnet"), &node.call(verb, "pod-7", &pod.path(), &conf));
    assert!(call("ADD").ok);
    let before = site.everything();
    let e = site.bad("uninstall", &[]);
    assert!(e.contains("1 pods are attached (pod-7)") && e.contains("--force"), "{e}");
    assert!(site.everything() == before, "nothing was removed");
    assert!(call("DEL").ok);
    let mine = fs::read_to_string(site.conf(OURS)).unwrap();
    fs::write(site.conf("20-mine.conflist"), mine).unwrap();
    assert!(site.bad("uninstall", &[]).contains("20-mine.conflist calls it"));
    fs::remove_file(site.conf("20-mine.conflist")).unwrap();
    site.good("uninstall", &[]);
    assert_eq!(site.everything().keys().collect::<Vec<_>>(), [""; 0]);
}

/// Runs a shell script in a mount namespace of its own: `$0` is the site, `"$@"` the command.
fn in_mounts(script: &str, site: &Site) -> (Option<i32>, String) {
    #[expect(clippy::disallowed_methods, reason = "a test runs the program under test")]
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(site.path());
    command.arg(flatnet_tests::program("flatnetd")).args(site.words("install", &SUBNETS));
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), said(&output))
}

#[test]
fn refusals_name_the_file_and_the_remedy() {
    let site = Site::small();
    fs::remove_dir(site.bin("")).unwrap();
    fs::remove_dir(site.conf("")).unwrap();
    // Whatever the umask: a runtime's directories are for everybody to read.
    let (status, said) = in_mounts("umask 077; \"$@\"", &site);
    assert_eq!(status, Some(0), "{said}");
    for path in [site.bin(""), site.conf("")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
    }
    for path in [site.bin("loopback"), site.conf(OURS)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o444, 0o444);
    }
    let (status, said) = in_mounts("mount -t tmpfs -o ro tmpfs \"$0/bin\" && \"$@\"", &site);
    assert_eq!(status, Some(1));
    assert!(said.contains("write ") && said.contains("bin/") && said.contains("--bin-dir"), "{said}");
    // Where nothing has to be changed, it does not matter.
    let (status, said) =
        in_mounts("mount -o bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && \"$@\"", &site);
    assert_eq!(status, Some(0), "{said}");
    // A full file system leaves what was there.
    let full =
        "mount -t tmpfs -o size=4k tmpfs \"$0/bin\" && dd if=/dev/zero of=\"$0/bin/z\" 2>/dev/null; \"$@\"";
    let (status, said) = in_mounts(full, &site);
    assert_eq!(status, Some(1));
    assert!(said.contains("make room"), "{said}");
    // Without the right to write where others own the directory.
    std::os::unix::fs::chown(site.bin(""), Some(65_534), None).unwrap();
    fs::write(site.plugin(), "another").unwrap();
    let (status, said) = in_mounts("setpriv --bounding-set=-all --inh-caps=-all \"$@\"", &site);
    assert_eq!(status, Some(1));
    assert!(said.contains("run it as root"), "{said}");
    fs::remove_file(site.plugin()).unwrap();
    let e = site.bad("install", &SUBNETS);
    assert!(e.contains("shipped/flatnet") && e.contains("--plugin"), "{e}");
}

/// `--wait` and the real agent: the network appears once pods can start, not before.
#[test]
fn install_waits_for_the_agent() {
    let site = Site::new();
    let mut agents = Agents::prepare("type: direct", Underlay::V4);
    // The agent's state directory instead of the site's.
    fs::remove_dir(site.state()).unwrap();
    fs::create_dir(&agents.node(1).state).unwrap();
    symlink(&agents.node(1).state, site.state()).unwrap();
    let mut command = site.command(&[], "install", &["--wait", "120"]);
    let mut child = netns_fixtures::KillOnDrop::new(command.stdout(Stdio::null()).spawn().unwrap());
    agents.node_mut(1).start();
    wait_until("the plugin", SOON, || site.bin("loopback").exists().then_some(())).unwrap();
    assert_eq!(site.used(), Ok(None), "no store, no snapshot, no network");
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    let status = wait_until("the end of install", SOON * 6, || child.ended()).unwrap();
    assert!(status.success());
    assert!(agents.node(1).state.join("node.json").exists());
    assert_eq!(used(&site), OURS);
}

/// The agent that keeps the configuration itself: not before it is ready, and again when it was removed.
#[test]
fn an_agent_keeps_the_configuration_when_told() {
    let site = Site::small();
    site.write_other(OTHER);
    let mut agents = Agents::prepare("type: direct", Underlay::V4);
    let conf_dir = site.conf("").display().to_string();
    agents.node(1).configure_more(&format!("install: {{ confDir: {conf_dir} }}"));
    agents.node_mut(1).start();
    agents.node(1).wait_status("it waits for its store", |status| status["pid"].is_u64());
    assert_eq!(used(&site), OTHER);
    assert!(!site.conf(OURS).exists());
    agents.write_cluster(&agents.cluster(&[1, 2, 3]));
    agents.node(1).wait_ready();
    wait_until("ours", SOON, || site.conf(OURS).exists().then_some(())).unwrap();
    agents.node(1).wait_status("the other one is named", |status| {
        status["problems"].to_string().contains("runtimes use 05-other.conflist")
    });
    agents.node_mut(1).stop();
    agents.node(1).configure(1, "type: direct");
    agents.node(1).configure_more(&format!("install: {{ confDir: {conf_dir}, takeOver: true }}"));
    agents.node_mut(1).start();
    let won = || site.used().ok().flatten().filter(|used| used.file == OURS);
    wait_until("ours is used", SOON, won).unwrap_or_else(|e| panic!("{e}\n{}", agents.node(1).log()));
    fs::remove_file(site.conf(OURS)).unwrap();
    drop(flatnet_tests::oracle::command(agents.node(1).ns(), "ip link set eth0 alias look"));
    wait_until("ours is back", SOON * 6, won).unwrap_or_else(|e| panic!("{e}\n{}", agents.node(1).log()));
}
