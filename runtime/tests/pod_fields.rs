//! Fields of a manifest that are easily taken for granted: each has its effect.
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::os::unix::fs::MetadataExt as _;

use lab::Lab;

#[test]
fn the_volumes_group_may_read_and_write() {
    let lab = Lab::new();
    lab.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: one}}");
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
           securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000},
           volumes: [{name: conf, configMap: {name: conf, defaultMode: 0400}}, {name: data, emptyDir: {}},
             {name: mem, emptyDir: {medium: Memory}}],
           containers: [{name: c, image: 'busybox:v1', command: [sleep, '1000'], volumeMounts: [
             {name: conf, mountPath: /conf}, {name: data, mountPath: /data}, {name: mem, mountPath: /mem}]}]}}",
    );
    lab.wait_ready("p");
    assert_eq!(lab.exec("p", "c", &["cat", "/conf/a"]), "one");
    lab.exec("p", "c", &["touch", "/data/mine", "/mem/mine"]);
    assert_eq!(
        lab.exec("p", "c", &["stat", "-c", "%u:%g", "/data/mine", "/mem/mine"]),
        "1000:2000\n1000:2000\n"
    );
    let data = std::fs::metadata(lab.pod_dir("p").join("volumes/data")).unwrap();
    assert_eq!((data.gid(), data.mode() & 0o7777), (2000, 0o2777));
}

#[test]
fn resources_are_told_in_files_and_of_other_containers() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
           volumes: [{name: down, downwardAPI: {items: [{path: cpu,
             resourceFieldRef: {containerName: other, resource: limits.cpu, divisor: 1m}}]}}],
           containers: [
             {name: c, image: 'busybox:v1', command: [sleep, '1000'], volumeMounts: [{name: down, mountPath: /down}],
              env: [{name: MEM, valueFrom: {resourceFieldRef: {containerName: other, resource: limits.memory}}}]},
             {name: other, image: 'busybox:v1', command: [sleep, '1000'],
              resources: {limits: {cpu: 250m, memory: 64Mi}}}]}}",
    );
    lab.wait_ready("p");
    assert_eq!(lab.exec("p", "c", &["cat", "/down/cpu"]), "250");
    assert!(lab.exec("p", "c", &["env"]).contains("MEM=67108864\n"));
}

#[test]
fn a_node_is_selected_and_the_whole_name_is_known() {
    let lab = Lab::new();
    let pod = |node: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{terminationGracePeriodSeconds: 0,
               hostname: web, subdomain: shop, nodeSelector: {{kubernetes.io/hostname: {node}}},
               containers: [{{name: c, image: 'busybox:v1', command: [sleep, '1000']}}]}}}}"
        )
    };
    let refused = lab.try_apply(&pod("n9"));
    let told = lab::text(&refused.stderr);
    assert!(
        !refused.status.success() && told.contains("0/1 nodes are available: 1 node(s) didn't match"),
        "{told}"
    );
    assert!(!lab.ok(&["get", "pods"]).contains("p "), "nothing was made");
    lab.apply(&pod("n1"));
    let ip = lab.wait_ready("p")["status"]["podIP"].as_str().unwrap().to_owned();
    let hosts = lab.exec("p", "c", &["cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{ip}\tweb.shop.default.svc.cluster.local\tweb\n")), "{hosts}");
}

#[test]
fn standard_input_stays_open_for_who_asks() {
    let lab = Lab::new();
    let pod = |name: &str, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0,
               restartPolicy: Never, containers: [{{name: c, image: 'busybox:v1', command: [cat]{more}}}]}}}}"
        )
    };
    lab.apply(&pod("open", ", stdin: true"));
    lab.apply(&pod("closed", ""));
    lab.wait_phase("closed", "Succeeded");
    lab.wait_ready("open");
    // It has as much reason to end as the other one had.
    assert_eq!(lab.get("open")["status"]["phase"], "Running");
}

#[test]
fn a_probe_says_what_it_is_told_to() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
           volumes: [{name: notes, emptyDir: {}}], containers: [{name: c, image: 'busybox:v1',
             volumeMounts: [{name: notes, mountPath: /notes}], command: [sh, -c,
               'while :; do printf \"HTTP/1.1 200 OK\\\\r\\\\n\\\\r\\\\n\" | busybox nc -l -p 8080 >> /notes/all; done'],
             readinessProbe: {periodSeconds: 1, timeoutSeconds: 5, httpGet: {path: /ready, port: 8080,
               httpHeaders: [{name: Host, value: shop.example}, {name: X-Asked-By, value: 'the test'}]}}}]}}",
    );
    let asked = || std::fs::read_to_string(lab.pod_dir("p").join("volumes/notes/all")).unwrap_or_default();
    lab.wait_ready("p");
    assert!(asked().contains("GET /ready"), "{}", asked());
    let request = asked();
    for line in ["Host: shop.example\r\n", "X-Asked-By: the test\r\n", "User-Agent: kube-probe/"] {
        assert!(request.contains(line), "{line:?} in {request:?}");
    }
    assert_eq!(request.matches("Host:").count(), request.matches("GET ").count());
}

#[test]
fn everything_a_manifest_describes_is_deleted() {
    let lab = Lab::new();
    let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: one}}\n---\n\
        {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0,
         containers: [{name: c, image: 'busybox:v1', command: [sleep, '1000']}]}}\n";
    let file = lab.path().join("all.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    lab.ok(&["apply", "-f", file]);
    lab.wait_ready("p");
    let told = lab.ok(&["delete", "-f", file]);
    assert_eq!(told, "pod \"p\" deleted\nconfigmap \"conf\" deleted\n");
    let again = lab.flatpod(&["delete", "configmap", "conf"]);
    assert!(lab::text(&again.stderr).contains("configmap \"conf\" not found"));
}
