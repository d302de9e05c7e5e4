//! `flatpod apply` and `flatpod explain` as a user calls them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(clippy::disallowed_methods, reason = "the program under test is run")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

/// Runs flatpod, which only checks: the directory that it would keep pods in must not be made.
fn flatpod(arguments: &[&str], stdin: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut child = Command::new(env!("CARGO_BIN_EXE_flatpod"))
        .env("FLATPOD_ROOT", &root)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may refuse its arguments without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(!root.exists(), "{arguments:?} made something");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");
const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: i:1}]}\n";

#[test]
fn a_valid_object_has_one_line() {
    for dry_run in ["--dry-run", "--dry-run=client"] {
        let done = flatpod(&["apply", dry_run, "-f", "-"], POD);
        assert_eq!(
            (text(&done.stdout), text(&done.stderr)),
            ("pod/web valid (dry run)\n".to_owned(), String::new())
        );
        assert_eq!(done.status.code(), Some(0));
    }
}

#[test]
fn a_directory_is_checked_whole() {
    let done = flatpod(&["apply", "--dry-run", "-f", MANIFESTS], "");
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(0));
    assert!(out.starts_with("pod/nginx valid (dry run)\npod/two-containers valid (dry run)\n"), "{out}");
    assert!(out.contains("secret/mysecret valid") && out.contains("configmap/in-list valid"), "{out}");
    assert!(err.contains("Warning: pod/with-preferences: spec.tolerations: no effect here: "), "{err}");
    assert!(
        out.contains("deployment.apps/nginx-deployment valid") && out.contains("job.batch/pi valid"),
        "{out}"
    );
    assert!(!err.contains("error: "), "{err}");
}

#[test]
fn what_is_wrong_goes_to_stderr_and_the_exit_code() {
    let wrong = POD.replace("image", "imagee").replace("name: web", "name: web, restartPolicy: Never");
    let done =
        flatpod(&["apply", "--dry-run", "-f", "-"], &format!("{wrong}---\n{}", POD.replace("web", "good")));
    assert_eq!(text(&done.stdout), "pod/good valid (dry run)\n");
    assert_eq!(
        text(&done.stderr),
        "error: stdin:3: pod/web: metadata.restartPolicy: unknown field; did you mean spec.restartPolicy?\n\
         error: stdin:4: pod/web: spec.containers[0].imagee: unknown field; did you mean image?\n"
    );
    assert_eq!(done.status.code(), Some(1));
}

/// What is printed must be read again as the same object, by flatpod and by anything that reads YAML 1.1.
#[test]
fn printed_yaml_and_json_are_manifests_again() {
    let strange = [
        "yes",
        "y",
        "Off",
        "null",
        "~",
        "",
        "0644",
        "0x1F",
        "1e3",
        "1_000",
        ".5",
        "+1",
        ".inf",
        "8080",
        "2026-01-02",
        "a: b",
        "- x",
        "#",
        " a ",
        "a\nb\n",
        "a\n\n",
        "\ttab",
        "ä😀",
        "\"",
        "'",
        "%",
        "@x",
        "{",
        "<<",
        "=",
        "!x",
        "&a",
        "*a",
        "\u{1}",
    ];
    let data: serde_json::Map<String, serde_json::Value> =
        strange.iter().enumerate().map(|(index, text)| (format!("k{index}"), (*text).into())).collect();
    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}, "data": data});
    for format in ["yaml", "json"] {
        let first = flatpod(&["apply", "--dry-run", "-o", format, "-f", "-"], &map.to_string());
        assert_eq!(text(&first.stderr), "");
        let again = flatpod(&["apply", "--dry-run", "-o", "json", "-f", "-"], &text(&first.stdout));
        assert_eq!(text(&again.stderr), "", "{}", text(&first.stdout));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&again.stdout).unwrap(),
            map,
            "{}",
            text(&first.stdout)
        );
    }
    let two = format!("{POD}---\n{}", POD.replace("web", "two"));
    let list = flatpod(&["apply", "--dry-run", "-o", "json", "-f", "-"], &two);
    let yaml = flatpod(&["apply", "--dry-run", "-o", "yaml", "-f", "-"], &text(&list.stdout));
    let names = flatpod(&["apply", "--dry-run", "-o", "name", "-f", "-"], &text(&yaml.stdout));
    assert_eq!(text(&names.stdout), "pod/web\npod/two\n");
}

#[test]
fn explain_shows_a_part_of_the_table_or_all_of_it() {
    let done = flatpod(&["explain", "pod.spec.containers.lifecycle"], "");
    let out = text(&done.stdout);
    assert!(
        out.contains(
            "spec.containers[].lifecycle.stopSignal  string            honoured   needs spec.os.name"
        ),
        "{out}"
    );
    assert_eq!(out.lines().count(), 4);
    let page = flatpod(&["explain", "--markdown"], "");
    assert_eq!(
        text(&page.stdout),
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifests.md")).unwrap()
    );
    let wrong = flatpod(&["explain", "pod.spec.contaners"], "");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("PodSpec has no field \"contaners\""));
}
