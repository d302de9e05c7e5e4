//! The manifest for Kubernetes: every field is one that Kubernetes has, and an agent that has what the manifest
//! gives it, and no more, works.
#![expect(clippy::unwrap_used, reason = "a failed test is what a panic here means")]

use flatnet_tests::kubernetes::KubeNodes;
use flatnet_tests::{manifest, program, tool};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What Kubernetes would take of it; a field that it does not know, and would drop or refuse, is an error.
fn strict<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object:#}"));
    let taken = serde_json::to_value(&typed).unwrap();
    let lost = missing(object, &taken, "");
    assert!(lost.is_empty(), "{}: unknown fields {lost:?}", object["kind"]);
    typed
}

fn missing(written: &Value, taken: &Value, path: &str) -> Vec<String> {
    match (written, taken) {
        (Value::Object(written), Value::Object(taken)) => {
            let look = |(key, value): (&String, &Value)| match taken.get(key) {
                None => vec![format!("{path}/{key}")],
                Some(taken) => missing(value, taken, &format!("{path}/{key}")),
            };
            written.iter().flat_map(look).collect()
        }
        (Value::Array(written), Value::Array(taken)) if written.len() == taken.len() => {
            let pairs = written.iter().zip(taken).enumerate();
            pairs.flat_map(|(i, (a, b))| missing(a, b, &format!("{path}/{i}"))).collect()
        }
        (written, taken) if written == taken => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

fn pod() -> PodSpec {
    let set: DaemonSet = strict(&manifest::object("DaemonSet"));
    set.spec.template.spec.unwrap()
}

fn capabilities(container: &Container) -> (Vec<String>, Vec<String>) {
    let context = container.security_context.clone().unwrap();
    assert_ne!(context.privileged, Some(true));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let capabilities = context.capabilities.unwrap();
    (capabilities.drop.unwrap_or_default(), capabilities.add.unwrap_or_default())
}

#[test]
fn every_object_is_one_that_kubernetes_takes() {
    for object in manifest::objects() {
        match object["kind"].as_str().unwrap() {
            "Namespace" => drop(strict::<Namespace>(&object)),
            "ServiceAccount" => drop(strict::<ServiceAccount>(&object)),
            "ClusterRole" => drop(strict::<ClusterRole>(&object)),
            "ConfigMap" => drop(strict::<ConfigMap>(&object)),
            "ClusterRoleBinding" => {
                let binding: ClusterRoleBinding = strict(&object);
                let account = manifest::object("ServiceAccount");
                let subject = binding.subjects.unwrap().remove(0);
                assert_eq!(subject.name, account["metadata"]["name"]);
                assert_eq!(subject.namespace.as_deref(), account["metadata"]["namespace"].as_str());
                assert_eq!(binding.role_ref.name, manifest::object("ClusterRole")["metadata"]["name"]);
            }
            "DaemonSet" => {
                let set: DaemonSet = strict(&object);
                let spec = set.spec;
                assert_eq!(spec.selector.match_labels, spec.template.metadata.unwrap().labels);
            }
            other => panic!("{other}"),
        }
    }
    // The check above would be worthless if it took everything.
    let mut wrong = manifest::object("DaemonSet");
    wrong["spec"]["template"]["spec"]["hostNetwrok"] = true.into();
    let typed: DaemonSet = serde_json::from_value(wrong.clone()).unwrap();
    let lost = missing(&wrong, &serde_json::to_value(typed).unwrap(), "");
    assert_eq!(lost, ["/spec/template/spec/hostNetwrok"]);
}

#[test]
fn the_pod_comes_up_before_anything_else_and_has_little_to_do_harm_with() {
    let set: DaemonSet = strict(&manifest::object("DaemonSet"));
    let update = set.spec.update_strategy.unwrap().rolling_update.unwrap();
    assert_eq!(serde_json::to_value(update.max_unavailable).unwrap(), 1);
    let pod = pod();
    assert_eq!((pod.host_network, pod.host_pid), (Some(true), None));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    let tolerations = pod.tolerations.unwrap();
    let all = |it: &k8s_openapi::api::core::v1::Toleration| {
        it.operator.as_deref() == Some("Exists") && it.key.is_none() && it.effect.is_none()
    };
    assert!(tolerations.iter().any(all), "{tolerations:?}");
    assert_eq!(
        pod.service_account_name.as_deref(),
        manifest::object("ServiceAccount")["metadata"]["name"].as_str()
    );
    let volumes: Vec<String> = pod.volumes.unwrap().into_iter().map(|volume| volume.name).collect();
    let init = pod.init_containers.unwrap();
    let mut used = Vec::new();
    for container in init.iter().chain(&pod.containers) {
        let (dropped, added) = capabilities(container);
        assert_eq!(dropped, ["ALL"]);
        assert!(added.is_empty() || container.name == "flatnetd", "{added:?}");
        used.extend(container.volume_mounts.iter().flatten().map(|mount| mount.name.clone()));
    }
    used.sort();
    used.dedup();
    let mut volumes = volumes;
    volumes.sort();
    assert_eq!(used, volumes, "every volume is mounted, every mount has a volume");
}

#[test]
fn the_base_for_kustomize_names_what_is_there() {
    let base: Value = serde_saphyr::from_str(&manifest::text("kustomization.yaml")).unwrap();
    assert_eq!(base["kind"], "Kustomization");
    for resource in base["resources"].as_array().unwrap() {
        assert!(!manifest::text(resource.as_str().unwrap()).is_empty());
    }
    let image = base["images"][0]["name"].as_str().unwrap();
    let pod = pod();
    let init = pod.init_containers.unwrap();
    for container in init.iter().chain(&pod.containers) {
        let (name, _) = container.image.as_deref().unwrap().rsplit_once(':').unwrap();
        assert_eq!(name, image);
    }
}

/// The configuration is one that the agent takes; what is written in it is what it gets.
#[test]
fn the_shipped_configuration_and_the_init_step_work() {
    let dir = tempfile::tempdir().unwrap();
    let config = manifest::object("ConfigMap");
    let path = dir.path().join("agent.yaml");
    std::fs::write(&path, config["data"]["agent.yaml"].as_str().unwrap()).unwrap();
    let said =
        tool(program("flatnetd"), &["check-config", "--config", path.to_str().unwrap(), "--node", "n1"]);
    assert!(said.contains("good: node n1, backend auto, Kubernetes by service account"), "{said}");

    let command = pod().init_containers.unwrap().remove(0).command.unwrap();
    assert_eq!(command[0], "/bin/flatnetd");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let arguments: Vec<&str> = command[1..]
        .iter()
        .map(|word| if word == "/host/opt/cni/bin" { bin.to_str().unwrap() } else { word })
        .collect();
    drop(tool(program("flatnetd"), &arguments));
    assert!(bin.join("flatnet").exists() && bin.join("loopback").exists());
}

/// As a runtime starts the container: the manifest's configuration and capabilities, a service account, a
/// read-only `/proc/sys` and the host's below `/mnt`, where the manifest mounts it.
#[test]
fn an_agent_with_what_the_manifest_gives_it_makes_the_network() {
    let pod = pod();
    let container = &pod.containers[0];
    let mut all = KubeNodes::prepare("aa");
    for i in 1..=2 {
        all.configure_as_shipped(i);
        let wrapper = as_container(container, &all, i);
        let node = all.node_mut(i);
        let off = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "0");
        node.ns().run(off).unwrap().unwrap();
        node.start_through(&wrapper.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for node in &all.nodes {
        node.wait_ready();
        let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
        assert_eq!(node.ns().run(read).unwrap().unwrap(), "1\n");
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        // CAP_NET_ADMIN is bit 12, CAP_SYS_ADMIN bit 21 (linux/capability.h).
        assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 12 | 1 << 21);
        assert!(node.state.join("net.d/10-flatnet.conflist").exists(), "{}", node.log());
        for probe in [&container.liveness_probe, &container.readiness_probe] {
            let get = probe.as_ref().unwrap().http_get.clone().unwrap();
            assert_eq!(serde_json::to_value(&get.port).unwrap(), 9473);
            let answer = node.get(get.path.as_deref().unwrap());
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    let (from, to) = (all.pod(1, "pod1"), all.pod(2, "pod2"));
    all.reaches(&from.0, &to);
}

/// What starts a program as the container is started on node `i`.
fn as_container(container: &Container, all: &KubeNodes, i: usize) -> Vec<String> {
    let (_, added) = capabilities(container);
    let added: Vec<String> = added.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let settings = container.volume_mounts.iter().flatten().find(|mount| mount.name == "settings").unwrap();
    let at = &settings.mount_path;
    assert!(at.starts_with("/mnt/"), "{at}");
    let variable = &container.env.as_ref().unwrap()[0];
    assert_eq!(variable.value_from.as_ref().unwrap().field_ref.as_ref().unwrap().field_path, "spec.nodeName");
    let account = "/run/secrets/kubernetes.io/serviceaccount";
    let dir = all.dir.path().display();
    let script = format!(
        "mount -t tmpfs tmpfs /mnt && mkdir -p {at} && mount --bind /proc/sys/net {at} && \
         mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && \
         mount -t tmpfs tmpfs /run && mkdir -p {account} && \
         cp {dir}/token {account}/token && cp {dir}/ca.pem {account}/ca.crt && echo -n x >{account}/namespace && \
         ! echo 0 2>/dev/null >/proc/sys/net/ipv4/ip_forward && \
         exec setpriv --bounding-set=-all,{} --no-new-privs \"$@\"",
        added.join(",")
    );
    let host = all.host.v4().unwrap();
    let words = [
        "env",
        &format!("{}=n{i}", variable.name),
        &format!("KUBERNETES_SERVICE_HOST={host}"),
        "KUBERNETES_SERVICE_PORT=6443",
        "unshare",
        "--mount",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    words.map(str::to_owned).to_vec()
}
