//! Images from local files: what is loaded runs as it was made, and what would do harm is not loaded.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod archive;
mod lab;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Output, Stdio},
};

use archive::{Layer, Layout, config, digest, docker_archive, gzip, hex, layout, zstd};
use lab::{Lab, SOON, status, text};
use netns_fixtures::wait_until;
use serde_json::{Value, json};
use tar::EntryType;

/// A pod `p` of one container `c`.
fn pod(container: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, {container}}}]{more}}}}}"
    )
}

fn spawn(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs flatpod with something to read.
fn feed(lab: &Lab, args: &[&str], bytes: &[u8]) -> Output {
    let mut child = spawn(lab, args);
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

fn load(lab: &Lab, bytes: &[u8]) -> Output {
    feed(lab, &["image", "load", "-"], bytes)
}

/// Loads what must not be, and answers what was said.
fn refused(lab: &Lab, bytes: &[u8]) -> String {
    let output = load(lab, bytes);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(left(lab, "layers"), [] as [String; 0], "{told}");
    assert_eq!(left(lab, "tmp"), [] as [String; 0], "{told}");
    told
}

/// What is below a directory of the store.
fn left(lab: &Lab, name: &str) -> Vec<String> {
    let entries = fs::read_dir(lab.root().join("images").join(name)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_image_of_several_layers_is_what_they_make_together() {
    let lab = Lab::new();
    let below = Layer::base()
        .dir("dir")
        .file("dir/kept", b"1", 0o644)
        .file("dir/gone", b"1", 0o644)
        .file("dir/changed", b"1", 0o644)
        .dir("emptied")
        .file("emptied/old", b"1", 0o644)
        .file("out/x", b"1", 0o644)
        .tar();
    let above = Layer::new()
        .file("dir/.wh.gone", b"", 0)
        .file("dir/changed", b"2", 0o644)
        .file("dir/.wh.never-was", b"", 0)
        .file("emptied/.wh..wh..opq", b"", 0)
        .file("emptied/new", b"2", 0o4755)
        .link(EntryType::Link, "emptied/again", "emptied/new")
        .tar();
    let run = json!({ "Entrypoint": ["/bin/sh", "-c"], "Env": ["COLOUR=green"], "User": "bird", "WorkingDir": "/dir",
        "Cmd": ["id -u; id -g; readlink /proc/self/cwd; echo $COLOUR; trap 'echo asked >&2; exit' USR1; while :; do sleep 0.1; done"],
        "StopSignal": "SIGUSR1", "Volumes": null, "Labels": { "a": "b" } });
    let mut image = Layout::new(lab.path().join("layout"));
    let manifest = image.manifest(&config(&run, &[&below, &above]), &[&gzip(&below), &zstd(&above)]);
    image.name(manifest, "registry.test/bird:v1");
    assert_eq!(text(&load(&lab, &gzip(&image.tar())).stdout), "image/registry.test/bird:v1 loaded\n");

    lab.apply(&pod("image: 'registry.test/bird:v1'", ", restartPolicy: Never"));
    lab.wait_ready("p");
    wait_until("its output", SOON, || (lab.logs("p", "c").lines().count() == 4).then_some(())).unwrap();
    assert_eq!(lab.logs("p", "c"), "1234\n1235\n/dir\ngreen\n");
    let see = |command: &str| lab.exec("p", "c", &["sh", "-c", command]);
    assert_eq!(see("cd /; ls dir emptied out"), "dir:\nchanged\nkept\n\nemptied:\nagain\nnew\n\nout:\nx\n");
    assert_eq!(see("cat /dir/changed"), "2");
    assert_eq!(see("stat -c '%a %h %Y' /emptied/again"), "4755 2 1000000000\n");
    // Only the image's own signal ends it before its time.
    let log = lab.pod_dir("p").join("logs/c/0.log");
    let kept = lab.path().join("log");
    fs::hard_link(log, &kept).unwrap();
    lab.ok(&["delete", "p"]);
    assert!(fs::read_to_string(kept).unwrap().contains("asked"));
}

#[test]
fn r30_the_four_rows_of_command_and_arguments_of_an_image_that_docker_saved() {
    let lab = Lab::new();
    let say: &[u8] = b"#!/bin/sh\necho \"$0 $@\"\n";
    let tars = [Layer::base().tar(), Layer::new().file("ep-1", say, 0o755).file("ep-2", say, 0o755).tar()];
    let run =
        json!({ "Entrypoint": ["/ep-1"], "Cmd": ["foo", "bar"], "Env": null, "User": "", "WorkingDir": "" });
    let saved = docker_archive("rows:1.27", &run, &[&tars[0], &tars[1]]);
    let file = lab.path().join("rows.tar");
    fs::write(&file, &saved).unwrap();
    assert_eq!(lab.ok(&["image", "load", "-i", path(&file)]), "image/rows:1.27 loaded\n");
    let one =
        |name: &str, more: &str| format!("{{name: {name}, image: 'docker.io/library/rows:1.27'{more}}}");
    let all = [
        one("neither", ""),
        one("command", ", command: [/ep-2]"),
        one("args", ", args: [zoo, boo]"),
        one("both", ", command: [/ep-2], args: [zoo, boo]"),
    ];
    lab.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{restartPolicy: Never, containers: [{}]}}}}",
        all.join(", ")
    ));
    lab.wait_phase("p", "Succeeded");
    let said = ["neither", "command", "args", "both"].map(|name| lab.logs("p", name));
    assert_eq!(said, ["/ep-1 foo bar\n", "/ep-2 \n", "/ep-1 zoo boo\n", "/ep-2 zoo boo\n"]);
}

#[test]
fn of_an_index_this_machines_image_is_taken() {
    let lab = Lab::bare();
    let tar = Layer::base().tar();
    let mut image = Layout::new(lab.path().join("layout"));
    let mut own = image.manifest(&config(&json!({}), &[&tar]), &[&tar]);
    own["platform"] = json!({ "architecture": archive::arch(), "os": "linux" });
    // The other one's files are not even there.
    let mut other = json!({ "mediaType": own["mediaType"], "digest": digest(b"not here"), "size": 8,
        "platform": { "architecture": "s390x", "os": "linux" } });
    let index = json!({ "schemaVersion": 2, "manifests": [other, own] });
    let index = image.blob("index.v1+json", index.to_string().as_bytes());
    image.name(index.clone(), "many:v1");
    lab.ok(&["image", "load", path(&image.dir)]);
    let shown: Value = serde_json::from_str(&lab.ok(&["image", "inspect", "many:v1"])).unwrap();
    let mut digests =
        [&own, &index].map(|entry| format!("docker.io/library/many@{}", entry["digest"].as_str().unwrap()));
    digests.sort();
    assert_eq!(shown[0]["RepoDigests"], json!(digests));
    assert_eq!(shown[0]["RootFS"]["Layers"], json!([digest(&tar)]));
    for digest in &digests {
        assert_eq!(lab.ok(&["image", "inspect", digest]), lab.ok(&["image", "inspect", "many:v1"]));
    }
    assert!(!lab.flatpod(&["image", "inspect", &format!("many@{}", digest(b"other"))]).status.success());

    let mut only = Layout::new(lab.path().join("only"));
    only.name(other.take(), "many:v2");
    let told = text(&lab.flatpod(&["image", "load", path(&only.dir)]).stderr);
    assert!(told.contains(&format!("no image for linux/{}: it has linux/s390x", archive::arch())), "{told}");
}

#[test]
fn names_come_from_the_archive_or_from_the_user() {
    let lab = Lab::bare();
    let tar = Layer::base().tar();
    let image = layout(&lab.path().join("layout"), "latest", &json!({}), &[&tar]);
    let told = text(&lab.flatpod(&["image", "load", path(&image.dir)]).stderr);
    assert!(told.contains("has no name there: say --tag NAME"), "{told}");
    lab.ok(&["image", "load", path(&image.dir), "--tag", "mine"]);
    let listed: Value = serde_json::from_str(&lab.ok(&["image", "ls", "-o", "json"])).unwrap();
    let mine =
        listed["images"].as_array().unwrap().iter().find(|one| one["repoTags"] == json!(["mine:latest"]));
    let id = digest(&config(&json!({}), &[&tar]));
    assert_eq!(mine.unwrap()["id"], id.as_str());
    let table = lab.ok(&["image", "ls"]);
    let row = table.lines().find(|line| line.starts_with("mine ")).unwrap();
    assert!(row.contains("latest") && row.contains(&id[7..19]) && row.contains("MB"), "{table}");
    assert_eq!(lab.flatpod(&["image", "load", path(&image.dir), "--tag", "Mine"]).status.code(), Some(2));
    let told = text(&feed(&lab, &["image", "load", "-"], &tar).stderr);
    assert!(told.contains("flatpod image import NAME standard input"), "{told}");
}

#[test]
fn damage_is_found_and_leaves_nothing() {
    let lab = Lab::bare();
    let (tar, run) = (Layer::base().tar(), json!({}));
    let image = |name: &str| layout(&lab.path().join(name), "broken:v1", &run, &[&tar]);
    let spoil = |image: &Layout, digest: &str| {
        let mut bytes = fs::read(image.file(digest)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(image.file(digest), bytes).unwrap();
    };
    let broken = image("layer");
    spoil(&broken, &digest(&tar));
    let told = refused(&lab, &broken.tar());
    assert!(told.contains(&format!("layer {}: the file is damaged", digest(&tar))), "{told}");
    let broken = image("config");
    let of_config = digest(&config(&run, &[&tar]));
    spoil(&broken, &of_config);
    let told = refused(&lab, &broken.tar());
    assert!(told.contains("is damaged: its digest is") && told.contains(&of_config), "{told}");
    // The right file, of which the configuration says something else.
    let mut broken = Layout::new(lab.path().join("diff"));
    let manifest = broken.manifest(&config(&run, &[b"other"]), &[&gzip(&tar)]);
    broken.name(manifest, "broken:v1");
    let told = refused(&lab, &broken.tar());
    assert!(told.contains("what it unpacks to is damaged") && told.contains(&digest(&tar)), "{told}");
    let mut saved = docker_archive("broken:v1", &run, &[&tar]);
    let at = saved.windows(8).position(|bytes| bytes == b"bird:x:1").unwrap();
    saved[at] = b'B';
    assert!(refused(&lab, &saved).contains("what it unpacks to is damaged"));
    saved.truncate(at);
    refused(&lab, &saved);
    assert!(!lab.ok(&["image", "ls"]).contains("broken"));
}

#[test]
fn a_layer_that_leads_out_of_the_image_is_not_loaded() {
    let lab = Lab::bare();
    let outside = lab.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = path(&outside);
    let cases = [
        (Layer::new().file("../../../../../../../../tmp/x", b"x", 0o644), "../../../../../../../../tmp/x"),
        (Layer::new().file(&format!("{target}/x"), b"x", 0o644), "x"),
        (Layer::new().link(EntryType::Symlink, "way", "/").file(&format!("way{target}/x"), b"x", 0o644), "x"),
        (Layer::new().link(EntryType::Symlink, "way", target).file("way/x", b"x", 0o644), "way/x"),
        (Layer::new().link(EntryType::Symlink, "way", target).file("way/.wh.x", b"", 0), "way/.wh.x"),
        (Layer::new().link(EntryType::Link, "x", "/etc/shadow"), "x"),
    ];
    for (layer, name) in cases {
        let tar = layer.tar();
        let saved = docker_archive("evil:v1", &json!({}), &[&tar]);
        let told = refused(&lab, &saved);
        assert!(told.contains(&format!("layer {}: path \"", digest(&tar))), "{told}");
        assert!(told.contains(&format!("{name}\": ")), "{told}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{told}");
    }
}

#[test]
fn a_killed_load_is_swept_and_done_again() {
    let lab = Lab::new();
    let big = vec![7; 4 << 20];
    let tar = Layer::base().file("first", b"1", 0o644).file("big", &big, 0o644).tar();
    let started = || {
        let mut child = spawn(&lab, &["image", "import", "halved:v1", "-", "--cmd", "sh"]);
        child.stdin.as_mut().unwrap().write_all(&tar[..tar.len() - (1 << 20)]).unwrap();
        let unpacking = || {
            let dirs = left(&lab, "tmp").into_iter().map(|name| lab.root().join("images/tmp").join(name));
            { dirs }.any(|dir| dir.join("fs/first").exists()).then_some(())
        };
        wait_until("it to unpack", SOON, unpacking).unwrap();
        child
    };
    let mut killed = started();
    // What others do meanwhile does not disturb it.
    lab.ok(&["image", "import", "other:v1", path(&lab.path().join("busybox"))]);
    assert!(!left(&lab, "tmp").is_empty(), "it is still loading");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!left(&lab, "tmp").is_empty() && left(&lab, "layers").is_empty(), "it was killed half-way");
    assert!(!lab.ok(&["image", "ls"]).contains("halved"));
    let again =
        feed(&lab, &["image", "import", "halved:v1", "-", "--cmd=sh", "--cmd=-c", "--cmd=ls /"], &gzip(&tar));
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!((left(&lab, "tmp"), left(&lab, "layers")), (vec![], vec![hex(&tar)]));
    lab.ok(&["run", "p", "--image", "halved:v1", "--restart", "Never"]);
    lab.wait_phase("p", "Succeeded");
    assert!(lab.logs("p", "p").contains("\nfirst\n"));
}

#[test]
fn eight_loads_at_once_make_one_image() {
    let lab = Lab::bare();
    let tars = [Layer::base().tar(), Layer::new().file("a", &vec![1; 1 << 20], 0o644).tar()];
    let image = layout(&lab.path().join("layout"), "same:v1", &json!({}), &[&tars[0], &tars[1]]);
    let children: Vec<_> = (0..8).map(|_| spawn(&lab, &["image", "load", path(&image.dir)])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let mut layers = vec![hex(&tars[0]), hex(&tars[1])];
    layers.sort();
    assert_eq!((left(&lab, "tmp"), left(&lab, "layers")), (vec![], layers));
}

#[test]
fn an_image_that_is_used_is_not_removed_and_its_layers_go_with_their_last_user() {
    let lab = Lab::new();
    let tars = [
        Layer::base().tar(),
        Layer::new().file("a", b"a", 0o644).tar(),
        Layer::new().file("b", b"b", 0o644).tar(),
    ];
    let run = json!({ "Cmd": ["sleep", "1000"] });
    for (name, above) in [("one:v1", &tars[1]), ("two:v1", &tars[2])] {
        assert!(load(&lab, &docker_archive(name, &run, &[&tars[0], above])).status.success());
    }
    let layers = |which: &[usize]| {
        let mut all: Vec<_> = which.iter().map(|at| hex(&tars[*at])).collect();
        all.sort();
        all
    };
    assert_eq!(left(&lab, "layers"), layers(&[0, 1, 2]), "what two images share is there once");
    lab.apply(&pod("image: one:v1", ", terminationGracePeriodSeconds: 0"));
    lab.wait_ready("p");
    let told = text(&lab.flatpod(&["image", "rm", "one:v1"]).stderr);
    assert!(told.contains("image one:v1 is used by default/p"), "{told}");
    assert_eq!(lab.ok(&["image", "rm", "two:v1"]), "image/two:v1 removed\n");
    assert_eq!(left(&lab, "layers"), layers(&[0, 1]));
    lab.ok(&["image", "rm", "one:v1", "--force"]);
    assert_eq!(lab.exec("p", "c", &["cat", "/a"]), "a", "what runs goes on");
    assert_eq!(left(&lab, "layers"), layers(&[0, 1]));
    assert_eq!(lab.flatpod(&["image", "rm", "one:v1"]).status.code(), Some(1), "there is none any more");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(lab.pid("p", "c")), nix::sys::signal::SIGKILL).unwrap();
    lab.wait("p", "no image", |pod| status(pod, "c")["state"]["waiting"]["reason"] == "ErrImageNeverPull");
    assert!(load(&lab, &docker_archive("two:v1", &run, &[&tars[0], &tars[2]])).status.success());
    assert_eq!(left(&lab, "layers"), layers(&[0, 2]), "nobody uses the other one any more");
    fs::remove_dir_all(lab.root().join("images/refs")).unwrap();
    lab.ok(&["gc"]);
    assert_eq!(left(&lab, "layers"), layers(&[]));
    assert_eq!(lab.flatpod(&["image", "rm", "builtin/tools:v1"]).status.code(), Some(1));
}

/// Root file systems of machines have such links, and configurations name directories that no layer has.
#[test]
fn links_in_etc_and_missing_directories_are_no_obstacle_and_lead_nowhere() {
    let lab = Lab::new();
    let outside = lab.path().join("outside");
    let link = |layer: Layer, name: &str, target: &str| layer.link(EntryType::Symlink, name, target);
    let layer = link(Layer::base(), "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    let layer = link(link(layer, "etc/hosts", path(&outside)), "way", path(lab.path()));
    let run = json!({ "Cmd": ["sh", "-c", "cat /etc/hosts /etc/resolv.conf; readlink /proc/self/cwd"], "WorkingDir": "/way/a/b" });
    assert!(load(&lab, &docker_archive("links:v1", &run, &[&layer.tar()])).status.success());
    lab.apply(&pod(
        "image: 'links:v1', workingDir: /made/here",
        ", restartPolicy: Never, hostAliases: [{ip: 192.0.2.7, hostnames: [a]}]",
    ));
    lab.wait_phase("p", "Succeeded");
    let said = lab.logs("p", "c");
    assert!(
        said.contains("192.0.2.7") && said.contains("nameserver") && said.ends_with("\n/made/here\n"),
        "{said}"
    );
    lab.ok(&["delete", "p"]);
    lab.apply(&pod("image: 'links:v1'", ", restartPolicy: Never"));
    let over = lab.wait_phase("p", "Failed");
    assert_eq!(status(&over, "c")["state"]["terminated"]["reason"], "StartError");
    assert!(!outside.exists() && !lab.path().join("a").exists());
}

#[test]
fn an_image_that_is_saved_can_be_loaded_elsewhere() {
    let (lab, other) = (Lab::bare(), Lab::new());
    let below = Layer::base().dir("dir").file("dir/gone", b"1", 0o644).file("dir/kept", b"1", 0o4755).tar();
    let above = Layer::new().file("dir/.wh.gone", b"", 0).file("new", b"2", 0o644).tar();
    let run = json!({ "Entrypoint": ["ls"], "Cmd": ["/dir", "/new"], "User": "bird" });
    assert!(load(&lab, &docker_archive("registry.test/a:v1", &run, &[&below, &above])).status.success());
    let file = lab.path().join("saved.tar");
    lab.ok(&["image", "save", "registry.test/a:v1", "-o", path(&file)]);
    let saved = lab.flatpod(&["image", "save", "registry.test/a:v1"]).stdout;
    assert!(saved == fs::read(&file).unwrap(), "the same every time");
    assert_eq!(text(&load(&other, &saved).stdout), "image/registry.test/a:v1 loaded\n");
    other.ok(&["run", "p", "--image", "registry.test/a:v1", "--restart", "Never"]);
    other.wait_phase("p", "Succeeded");
    assert_eq!(other.logs("p", "p"), "/new\n\n/dir:\nkept\n");
    assert_eq!(lab.flatpod(&["image", "save", "builtin/host:v1"]).status.code(), Some(1));
}

#[test]
fn an_image_may_have_as_many_layers_as_docker_makes() {
    let lab = Lab::new();
    let above = |at: usize| {
        Layer::new().file(&format!("file-{at}"), b"x", 0o644).file("top", at.to_string().as_bytes(), 0o644)
    };
    let mut tars: Vec<_> = (1..127).map(|at| above(at).tar()).collect();
    tars.insert(0, Layer::base().tar());
    // The same layer twice, as empty ones often are.
    tars[60] = tars[30].clone();
    let all: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let loaded = load(
        &lab,
        &docker_archive("high:v1", &json!({ "Cmd": ["sh", "-c", "cat /top; ls / | wc -l"] }), &all),
    );
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    lab.ok(&["run", "p", "--image", "high:v1", "--restart", "Never"]);
    lab.wait_phase("p", "Succeeded");
    assert_eq!(lab.logs("p", "p"), "126132\n");
}

#[test]
fn what_cannot_be_found_says_why() {
    let lab = Lab::new();
    let cases = [
        (
            "image: 'nginx:1.27', imagePullPolicy: Never",
            "ErrImageNeverPull",
            "docker save nginx:1.27 | flatpod image load -",
        ),
        ("image: nginx, imagePullPolicy: Always", "ErrImageNeverPull", "nothing is pulled from registries"),
        ("image: 'Nginx:1.27'", "InvalidImageName", "\"Nginx:1.27\" is no image name"),
        ("image: 'busybox:v1:v2'", "InvalidImageName", "busybox:v1:v2"),
    ];
    for (container, reason, word) in cases {
        lab.apply(&pod(container, ""));
        let waiting = lab.wait("p", reason, |pod| status(pod, "c")["state"]["waiting"]["reason"] == reason);
        let message = &status(&waiting, "c")["state"]["waiting"]["message"];
        assert!(message.as_str().unwrap().contains(word), "{message}");
        lab.ok(&["delete", "p"]);
    }
    let pulled = lab.flatpod(&["image", "pull", "nginx:1.27"]);
    assert_eq!(pulled.status.code(), Some(1));
    for word in ["--features registry", "docker save nginx:1.27 | flatpod image load -"] {
        assert!(text(&pulled.stderr).contains(word), "{}", text(&pulled.stderr));
    }
    let told = lab.try_apply(&pod("image: 'busybox:v1'", ", imagePullSecrets: [{name: pass}]")).stderr;
    assert!(
        text(&told).contains("imagePullSecrets: no effect here: without the feature registry"),
        "{}",
        text(&told)
    );
    lab.ok(&["delete", "p"]);
    // Asked to pull always, the local image is taken, however its name is written.
    lab.apply(&pod(
        "image: 'docker.io/library/busybox:v1', imagePullPolicy: Always, command: [sleep, '1000']",
        ", terminationGracePeriodSeconds: 0",
    ));
    lab.wait_ready("p");
}

#[test]
fn the_machines_own_programs_run_without_what_is_the_machines_own() {
    let lab = Lab::new();
    lab.apply(&pod(
        "image: 'builtin/host:v1', command: [sleep, '1000']",
        ", terminationGracePeriodSeconds: 0",
    ));
    lab.wait_ready("p");
    let see = |command: &str| lab.exec("p", "c", &["bash", "-c", command]);
    assert_eq!(see("id -un; awk 'BEGIN { print 6 * 7 }'"), "root\n42\n");
    assert_eq!(see("ls /home /root | wc -l; ls /etc/shadow /etc/ssh 2>/dev/null | wc -l"), "3\n0\n");
    assert_eq!(see("cat /etc/passwd | wc -l"), "2\n");
    let written = lab.flatpod(&["exec", "p", "--", "touch", "/usr/new"]);
    assert!(text(&written.stderr).contains("Read-only file system"), "{}", text(&written.stderr));
    see("touch /etc/new /tmp/new");
    assert_eq!(lab.exec_code("p", "c", &["mount", "-o", "remount,rw,bind", "/usr"]), Some(32));
    let built: Vec<PathBuf> = left(&lab, "")
        .iter()
        .filter(|name| name.starts_with("host-"))
        .map(|name| lab.root().join("images").join(name))
        .collect();
    assert!(!built[0].join("etc/new").exists(), "the next one begins anew");
}
