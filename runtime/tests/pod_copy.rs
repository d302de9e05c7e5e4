//! Files that are copied into containers and out of them.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use lab::{Lab, text};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
    restartPolicy: Never, volumes: [{name: v, emptyDir: {}}],
    containers: [
      {name: c, image: 'busybox:v1', command: [sleep, '1000'], workingDir: /tmp,
        volumeMounts: [{name: v, mountPath: /v}]},
      {name: bird, image: 'busybox:v1', command: [sh, -c, 'touch /v/begun; sleep 1000'],
        securityContext: {runAsUser: 1234, runAsGroup: 1235}, volumeMounts: [{name: v, mountPath: /v}]},
      {name: over, image: 'busybox:v1', command: ['true']}]}}";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.apply(POD);
    lab.wait("p", "all have begun", |pod| {
        let is = |name: &str, state: &str| lab::status(pod, name)["state"][state].is_object();
        is("c", "running") && is("bird", "running") && is("over", "terminated")
    });
    lab
}

fn str(path: &Path) -> &str {
    path.to_str().expect("a path")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn files_and_directories_go_in_and_come_out_as_they_were() {
    let lab = lab();
    let tree = lab.path().join("a tree");
    fs::create_dir_all(tree.join("sub dir")).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    fs::write(tree.join("large"), &large).unwrap();
    fs::write(tree.join("sub dir/a: b"), "with blanks").unwrap();
    symlink("large", tree.join("link")).unwrap();
    for (name, mode) in [("large", 0o4751), ("sub dir/a: b", 0o640), ("sub dir", 0o710)] {
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    lab.ok(&["cp", str(&tree), "p:/v", "-c", "bird"]);
    let seen = |path: &str| lab.exec("p", "c", &["stat", "-c", "%a %u:%g %s", path]);
    assert_eq!(seen("/v/a tree/large"), "751 1234:1235 3000000\n", "without the set-user-ID bit");
    assert_eq!(seen("/v/a tree/sub dir/a: b"), "640 1234:1235 11\n");
    assert!(seen("/v/a tree/sub dir").starts_with("710 1234:1235 "));
    assert_eq!(lab.exec("p", "c", &["readlink", "/v/a tree/link"]), "large\n");
    // Under a new name, since there is nothing of it yet.
    let back = lab.path().join("back");
    let output = lab.flatpod(&["cp", "p:/v/a tree", str(&back)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/v/a tree/link is a link and was left out"));
    assert!(fs::read(back.join("large")).unwrap() == large);
    assert_eq!(fs::read_to_string(back.join("sub dir/a: b")).unwrap(), "with blanks");
    assert!(fs::symlink_metadata(back.join("link")).is_err());
    assert_eq!([mode(&back.join("sub dir/a: b")), mode(&back.join("sub dir"))], [0o640, 0o710]);
    // Again, into what is there: a file that has become shorter, from a relative path.
    fs::write(tree.join("large"), "short").unwrap();
    lab.ok(&["cp", str(&tree.join("large")), "p:large"]);
    lab.ok(&["cp", str(&tree), "p:/v"]);
    assert_eq!(lab.exec("p", "c", &["cat", "/tmp/large", "/v/a tree/large"]), "shortshort");
    lab.ok(&["cp", "p:large", str(&back)]);
    assert_eq!(fs::read_to_string(back.join("large")).unwrap(), "short");
}

#[test]
fn links_in_a_container_do_not_lead_out_of_it() {
    let lab = lab();
    let ours = lab.path().join("ours");
    fs::create_dir(&ours).unwrap();
    fs::write(ours.join("secret"), "the machine's").unwrap();
    let secret = ours.join("secret");
    let sh = |line: &str| lab.exec("p", "c", &["sh", "-c", line]);
    sh("mkdir /v/d; echo in the pod > /etc/shadow; ln -s /etc/shadow /v/d/shadow");
    for (link, to) in [("file", &secret), ("dir", &ours)] {
        sh(&format!("ln -s {} /v/{link}; ln -s ../../../../../../../..{} /v/up-{link}", str(to), str(to)));
    }
    let out = lab.path().join("out");
    for path in
        ["p:/v/file", "p:/v/up-file", "p:/v/dir/secret", "p:/v/up-dir/secret", "p:/proc/1/root/../secret"]
    {
        let output = lab.flatpod(&["cp", path, str(&out)]);
        assert!(!output.status.success() && !out.exists(), "{path}: {}", text(&output.stderr));
    }
    // The same link, named by itself, is the container's.
    lab.ok(&["cp", "p:/v/d/shadow", str(&out)]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "in the pod\n");
    let fresh = lab.path().join("fresh");
    fs::write(&fresh, "changed").unwrap();
    for path in ["p:/v/file", "p:/v/up-file", "p:/v/dir", "p:/v/dir/new", "p:/v/up-dir/secret"] {
        let output = lab.flatpod(&["cp", str(&fresh), path]);
        assert!(!output.status.success(), "{path}: {}", text(&output.stderr));
    }
    // Nor do those that it meets in a directory that is merged with another.
    let merged = lab.path().join("merged");
    fs::create_dir_all(merged.join("d/dir")).unwrap();
    sh(&format!("ln -s {} /v/d/dir", str(&ours)));
    fs::write(merged.join("d/dir/secret"), "changed").unwrap();
    assert!(!lab.flatpod(&["cp", str(&merged.join("d")), "p:/v"]).status.success());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the machine's");
    assert_eq!(fs::read_dir(&ours).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_copied_is_told() {
    let lab = lab();
    let file = lab.path().join("file");
    fs::write(&file, "x").unwrap();
    let file = str(&file);
    for (line, told) in [
        (&["p:/no/such", "."][..], "/no/such: No such file or directory"),
        (&["./no-such", "p:/tmp"], "./no-such: No such file or directory"),
        (&[file, "p:/no/such"], "/no: No such file or directory"),
        (&[file, "p:/tmp", "-c", "over"], "container over of pod p is not running"),
        (&[file, "p:/tmp", "-c", "x"], "it has: c, bird, over"),
        (&[file, "q:/tmp"], "pods \"q\" not found"),
        (&[file, file], "one of the two has to be in a pod"),
        (&["p:/tmp", "p:/v"], "only one of the two can be in a pod"),
    ] {
        let output = lab.flatpod(&[&["cp"], line].concat());
        assert_eq!(output.status.code(), Some(1), "{line:?}");
        assert!(text(&output.stderr).contains(told), "{line:?}: {}", text(&output.stderr));
    }
    assert_eq!(lab.flatpod(&["cp", file, "p:"]).status.code(), Some(2));
    let device = lab.flatpod(&["cp", "p:/dev/null", &format!("{file}.null")]);
    assert!(text(&device.stderr).contains("/dev/null is a device and was left out"));
    assert!(!Path::new(&format!("{file}.null")).exists());
}
