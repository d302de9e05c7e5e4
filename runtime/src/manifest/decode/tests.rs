use super::super::{
    document,
    problem::{Place, Report},
    schema::{CONFIG_MAP, POD},
};
use super::*;

/// What is wrong, as `line path: message`, and the notices as `path`.
fn read(root: &'static Object, text: &str) -> (Json, Vec<String>, Vec<String>) {
    let mut report = Report::default();
    let json = decode(&document::read(text).unwrap()[0], root, &mut report);
    let (problems, notices) = report.finish(&Place::default());
    let line = |line: Option<usize>| line.map(|line| line.to_string()).unwrap_or_default();
    (
        json,
        problems.iter().map(|p| format!("{} {}: {}", line(p.line), p.path, p.message)).collect(),
        notices.iter().map(|notice| notice.path.to_string()).collect(),
    )
}

fn pod(spec: &str) -> (Json, Vec<String>, Vec<String>) {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    read(&POD, &format!("metadata: {{name: a}}\nspec:\n  containers: [{{name: a, image: b}}]\n{spec}"))
}

#[test]
fn nothing_is_absent() {
    let (json, problems, notices) = pod(
        "volumes:\ntolerations: ~\nhostPID: null\nruntimeClassName: \"\"\nreadinessGates: []\ntolerations_:\n",
    );
    assert_eq!(problems, ["9 spec.tolerations_: unknown field; did you mean tolerations?"]);
    assert_eq!(json["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["containers"]);
    assert!(notices.is_empty());
}

#[test]
fn a_key_given_twice_names_both_lines() {
    let (_, problems, _) = pod("hostname: a\nhostname: b\n");
    assert_eq!(problems, ["5 spec.hostname: given twice: also on line 4"]);
    let (_, problems, _) = read(&CONFIG_MAP, "metadata: {name: a}\ndata:\n  k: a\n  k: b\n");
    assert_eq!(problems, ["4 data[k]: given twice: also on line 3"]);
}

#[test]
fn policies_sort_the_values() {
    let (json, problems, notices) =
        pod("hostIPC: false\nhostUsers: true\nenableServiceLinks: true\nschedulerName: default-scheduler\n");
    assert_eq!((problems.len(), notices.len()), (0, 0), "{problems:?} {notices:?}");
    assert_eq!(json["spec"]["hostUsers"], true);
    let (json, problems, notices) =
        pod("schedulerName: mine\npriority: 7\nhostUsers: false\nruntimeClassName: gvisor\n");
    assert_eq!(notices, ["spec.schedulerName", "spec.priority"]);
    assert_eq!(json["spec"]["schedulerName"], "mine");
    assert_eq!(
        problems,
        [
            "6 spec.hostUsers: \"false\" is not supported: user namespaces are not made here; leave it out (supported: \"true\")",
            "7 spec.runtimeClassName: not supported: there is one runtime here; leave it out",
        ]
    );
}

#[test]
fn scalars_are_read_by_the_type_of_the_field() {
    let (json, problems, _) = pod(
        "hostNetwork: yes\nterminationGracePeriodSeconds: 1e2\nactiveDeadlineSeconds: 0x10\nvolumes:\n- name: v\n  \
         configMap: {name: c, defaultMode: 0644}\n- name: w\n  emptyDir: {sizeLimit: 1024}\n",
    );
    assert!(problems.is_empty(), "{problems:?}");
    let spec = &json["spec"];
    assert_eq!(
        (&spec["hostNetwork"], &spec["terminationGracePeriodSeconds"]),
        (&Json::from(true), &Json::from(100))
    );
    assert_eq!(
        (&spec["activeDeadlineSeconds"], &spec["volumes"][0]["configMap"]["defaultMode"]),
        (&Json::from(16), &Json::from(420))
    );
    assert_eq!(spec["volumes"][1]["emptyDir"]["sizeLimit"], "1024");
}

#[test]
fn wrong_types_say_what_was_found() {
    let (_, problems, _) = pod(
        "hostname: 8080\nsubdomain: on\nhostNetwork: \"true\"\nactiveDeadlineSeconds: 1.5\nvolumes: {}\ndnsConfig: x\npriority: 3000000000\n",
    );
    assert_eq!(
        problems,
        [
            "4 spec.hostname: expected a string, found the number 8080; write \"8080\"",
            "5 spec.subdomain: expected a string, found on (a boolean in YAML 1.1); write \"on\"",
            "6 spec.hostNetwork: expected true or false, found the string \"true\"",
            "7 spec.activeDeadlineSeconds: expected a whole number, found the number 1.5",
            "8 spec.volumes: expected a list, found an object",
            "9 spec.dnsConfig: expected an object, found the string \"x\"",
            "10 spec.priority: 3000000000 is not between -2147483648 and 2147483647",
        ]
    );
}

#[test]
fn required_values_are_asked_for_once() {
    let (_, problems, _) =
        read(&POD, "spec:\n  containers:\n  - image: a\n  - name: \"\"\n  hostAliases:\n  -\n");
    assert_eq!(
        problems,
        [
            "1 metadata: Required value",
            "3 spec.containers[0].name: Required value",
            "4 spec.containers[1].name: Required value",
            "6 spec.hostAliases[0]: nothing after the dash",
        ]
    );
}
