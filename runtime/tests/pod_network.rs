//! How pods get their network: any CNI plugin, called by the book.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use lab::{Lab, json_file, text};
use serde_json::{Value, json};

/// A plugin that writes down how it was called: environment and stdin, one JSON object a file.
const RECORDER: &str = r#"#!/bin/sh
at=$(date +%s%N)
dir=RECORDS
conf=$(cat)
printf '{"type":"%s","verb":"%s","id":"%s","netns":"%s","ifname":"%s","args":"%s","path":"%s","sys":"%s","conf":%s}' \
  "${0##*/}" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH" \
  "$(ls /sys/class/net | tr '\n' ' ')" "$conf" > "$dir/$at.json"
if [ "$CNI_COMMAND" = VERSION ]; then echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0"]}'; exit 0; fi
if [ -e "$dir/fail-${0##*/}-$CNI_COMMAND" ]; then echo '{"code":11,"msg":"try again","details":"later"}'; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then
  echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.9.8.7/24","interface":0}],"from":"'${0##*/}'"}'
fi
"#;

const CHAIN: &str = r#"{"name":"rec","cniVersion":"0.4.0","cniVersions":["0.4.0","1.0.0","1.1.0"],"plugins":[
  {"type":"first","own":{"key":1},"capabilities":{"portMappings":true,"bandwidth":true,"mac":true}},
  {"type":"second"}]}"#;

const POD: &str =
    "{apiVersion: v1, kind: Pod, metadata: {name: p, annotations: {kubernetes.io/ingress-bandwidth: 1M}},
  spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'builtin/tools:v1',
    ports: [{containerPort: 80, hostPort: 8080}]}]}}";

/// A lab whose node has the recording plugin as `first` and `second`.
struct Recorded {
    lab: Lab,
    records: PathBuf,
    conf: PathBuf,
}

impl Recorded {
    fn new() -> Self {
        let lab = Lab::bare();
        let bin = lab.path().join("bin");
        let records = lab.path().join("records");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&records).unwrap();
        let script = RECORDER.replace("RECORDS", records.to_str().unwrap());
        for name in ["first", "second"] {
            fs::write(bin.join(name), &script).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab.ok(&["node", "create", "n1", "--cni-bin-dir", bin.to_str().unwrap()]);
        let conf = lab.root().join("nodes/n1/cni/net.d/10-rec.conflist");
        fs::write(&conf, CHAIN).unwrap();
        Self { lab, records, conf }
    }

    /// Every call so far, in order, but for those that ask for versions or readiness.
    fn calls(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.records).unwrap().flatten().map(|e| e.path()).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "json"));
        files.sort();
        let calls = files.iter().map(|file| json_file(file));
        calls.filter(|call| !["VERSION", "STATUS"].contains(&call["verb"].as_str().unwrap())).collect()
    }

    fn fail(&self, what: &str) -> PathBuf {
        let file = self.records.join(format!("fail-{what}"));
        fs::write(&file, "").unwrap();
        file
    }
}

fn order(calls: &[Value]) -> Vec<String> {
    calls
        .iter()
        .map(|call| format!("{} {}", call["verb"].as_str().unwrap(), call["type"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_chain_is_called_by_the_book() {
    let r = Recorded::new();
    r.lab.apply(POD);
    let pod = r.lab.wait_ready("p");
    assert_eq!(pod["status"]["podIP"], "10.9.8.7");
    // A container that is started again has the network that the pod has: there is one ADD only.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(r.lab.pid("p", "c")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    r.lab.wait("p", "restarted", |pod| {
        lab::status(pod, "c")["restartCount"] == 1 && lab::condition(pod, "Ready")
    });
    // What is edited while the pod runs does not matter to it.
    fs::write(&r.conf, CHAIN.replace("\"own\":{\"key\":1}", "\"own\":{\"key\":2}")).unwrap();
    let cache: Vec<_> = fs::read_dir(r.lab.root().join("nodes/n1/cni/cache/results"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    let cached = json_file(&cache[0]);
    r.lab.ok(&["check", "p"]);
    r.lab.ok(&["delete", "p"]);
    let calls = r.calls();
    assert_eq!(
        order(&calls),
        ["ADD first", "ADD second", "CHECK first", "CHECK second", "DEL second", "DEL first"]
    );
    let (uid, id) = (pod["metadata"]["uid"].as_str().unwrap(), calls[0]["id"].as_str().unwrap());
    assert_eq!(id.len(), 64);
    for call in &calls {
        assert_eq!((call["id"].as_str(), call["ifname"].as_str()), (Some(id), Some("eth0")));
        assert_eq!(call["netns"], json!(r.lab.root().join("pods").join(uid).join("net")));
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
        );
        assert_eq!(call["args"], json!(args));
        assert_eq!(call["conf"]["cniVersion"], "1.0.0", "the newest that configuration and plugins know");
        assert_eq!(call["conf"]["name"], "rec");
        assert_eq!(call["conf"].get("capabilities"), None);
        assert_eq!(call["sys"], "lo ", "/sys shows the node's interfaces");
        let first = call["type"] == "first";
        assert_eq!(call["conf"]["own"], if first { json!({ "key": 1 }) } else { Value::Null });
        let asked = json!({
            "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" }],
            "bandwidth": { "ingressRate": 1_000_000, "ingressBurst": u32::MAX },
        });
        assert_eq!(call["conf"]["runtimeConfig"], if first { asked } else { Value::Null });
    }
    let previous: Vec<_> = calls.iter().map(|call| call["conf"]["prevResult"]["from"].clone()).collect();
    let last = json!("second");
    assert_eq!(previous, [Value::Null, json!("first"), last.clone(), last.clone(), last.clone(), last]);
    let name = cache[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("rec-{id}-eth0"));
    assert_eq!((cached["kind"].as_str(), cached["containerId"].as_str()), (Some("cniCacheV1"), Some(id)));
    assert_eq!(cached["result"]["from"], "second");
    assert!(!cache[0].exists(), "forgotten after DEL");
}

#[test]
fn a_failed_add_is_taken_back_and_tried_again() {
    let r = Recorded::new();
    let failing = r.fail("second-ADD");
    r.lab.apply(POD);
    r.lab.wait("p", "an event", |_| r.lab.events("p").contains("FailedCreatePodSandBox"));
    let told = r.lab.events("p");
    assert!(told.contains("code 11: try again later"), "{told}");
    let calls = order(&r.calls());
    assert_eq!(calls.get(..4).unwrap(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    fs::remove_file(failing).unwrap();
    r.lab.wait_ready("p");
    let ids: BTreeSet<_> = r.calls().iter().map(|call| call["id"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() >= 2, "every attempt has an id of its own");
}

#[test]
fn a_pod_stays_until_the_network_lets_go() {
    let r = Recorded::new();
    r.lab.apply(POD);
    r.lab.wait_ready("p");
    let failing = r.fail("first-DEL");
    r.lab.ok(&["delete", "p", "--wait=false"]);
    r.lab.wait("p", "an event", |_| r.lab.events("p").contains("FailedKillPod"));
    assert!(r.lab.ok(&["get", "pods"]).contains("Terminating"));
    fs::remove_file(failing).unwrap();
    r.lab.ok(&["delete", "p"]);
    assert!(!r.lab.flatpod(&["get", "pod", "p"]).status.success());
}

/// Claim 31's other half: what is over has no network any more.
#[test]
fn a_completed_pod_is_detached() {
    let r = Recorded::new();
    r.lab.apply(
        &POD.replace("spec: {", "spec: {restartPolicy: Never, ")
            .replace("name: c,", "name: c, args: [exit, '0'],"),
    );
    r.lab.wait_phase("p", "Succeeded");
    assert_eq!(order(&r.calls()), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    r.lab.ok(&["delete", "p"]);
    assert_eq!(r.calls().len(), 4, "not a second time");
}

#[test]
fn gc_detaches_what_belongs_to_no_pod() {
    let r = Recorded::new();
    fs::write(
        &r.conf,
        CHAIN.replace("\"cniVersions\":[\"0.4.0\",\"1.0.0\",\"1.1.0\"],", "").replace("0.4.0", "1.1.0"),
    )
    .unwrap();
    r.lab.apply(POD);
    r.lab.wait_ready("p");
    let results = r.lab.root().join("nodes/n1/cni/cache/results");
    let own: PathBuf = fs::read_dir(&results).unwrap().flatten().next().unwrap().path();
    let mut stale = json_file(&own);
    stale["containerId"] = json!("stale");
    fs::write(results.join("rec-stale-eth0"), stale.to_string()).unwrap();
    let told = r.lab.ok(&["gc"]);
    assert_eq!(told, "node/n1: 1 attachments removed\n");
    let calls = r.calls();
    let last = calls.get(2..).unwrap();
    assert_eq!(order(last), ["DEL second", "DEL first", "GC first", "GC second"]);
    assert_eq!(last[0]["id"], "stale");
    let valid = json!([{ "containerID": calls[0]["id"], "ifname": "eth0" }]);
    assert_eq!(last[2]["conf"]["cni.dev/valid-attachments"], valid);
    assert_eq!(last[2]["conf"]["cni.dev/attachments"], valid);
}

#[test]
fn host_ports_need_a_plugin_for_them() {
    let lab = Lab::bare();
    lab.node(
        "n1",
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ptp","ipam":{"type":"host-local",
        "ranges":[[{"subnet":"10.30.0.0/24"}]]}}]}"#,
    );
    lab.apply(POD);
    lab.wait("p", "an event", |_| lab.events("p").contains("portMappings"));
    assert!(lab.get("p")["status"]["podIP"].is_null());
}

/// Claims 19, 21 and 22 on one node, with Debian's plugins: nothing here is our own network's doing.
#[test]
fn r19_r21_r22_pods_meet_through_other_peoples_plugins() {
    assert!(Path::new("/usr/lib/cni/bridge").exists(), "containernetworking-plugins is installed");
    let lab = Lab::bare();
    lab.node("n1", r#"{"cniVersion":"1.0.0","name":"deb","plugins":[
        {"type":"bridge","bridge":"br0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.31.0.0/24"}]],
         "routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#);
    pods_meet(&lab);
    let net = |name: &str| format!("--net={}", lab.root().join("nodes/n1").join(name).display());
    let links =
        std::process::Command::new("nsenter").args([&net("net"), "ip", "-br", "link"]).output().unwrap();
    assert!(text(&links.stdout).contains("br0"), "{}", text(&links.stdout));
}

/// The same with our own plugin.
#[test]
fn r19_r21_r22_pods_meet_through_flatnet() {
    let lab = Lab::new();
    pods_meet(&lab);
}

fn pods_meet(lab: &Lab) {
    for name in ["client", "server"] {
        let ports = if name == "server" { ", ports: [{containerPort: 80, hostPort: 8888}]" } else { "" };
        lab.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [
              {{name: c, image: 'builtin/tools:v1', args: [netexec, --http-port=80]{ports}}},
              {{name: sh, image: 'busybox:v1', command: [sleep, '1000']}}]}}}}"
        ));
    }
    let ip = |name: &str| {
        let pod = lab.wait_ready(name);
        lab.wait(name, "serving", |_| lab.logs(name, "c").contains("serving"));
        pod["status"]["podIP"].as_str().unwrap().to_owned()
    };
    let (client, server) = (ip("client"), ip("server"));
    assert_ne!(client, server);
    for (name, ip) in [("client", &client), ("server", &server)] {
        let shown = lab.exec(name, "sh", &["ip", "-4", "-o", "addr", "show", "scope", "global"]);
        assert_eq!(shown.lines().count(), 1, "{shown}");
        assert!(shown.contains(&format!("inet {ip}/")), "{shown}");
    }
    // The server says who asked: the client's own address.
    let ask = |to: &str| {
        let line = format!("printf 'GET /clientip HTTP/1.0\\r\\n\\r\\n' | nc {to} 80");
        lab.exec("client", "sh", &["sh", "-c", &line])
    };
    let told = ask(&server);
    assert!(told.contains(&format!("\r\n\r\n{client}:")), "{told}");
    // And to itself.
    let told = ask(&client);
    assert!(told.contains(&format!("\r\n\r\n{client}:")), "{told}");
    assert_eq!(lab.exec_code("client", "sh", &["ping", "-c", "1", "-W", "5", &server]), Some(0));
    lab.ok(&["check", "client"]);
    lab.ok(&["delete", "pod", "client", "server"]);
}
