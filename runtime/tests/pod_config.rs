//! What a manifest says about a container is so in the container.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

mod lab;

use lab::{Lab, status};

/// A pod `p` with these containers and more in its spec.
fn pod(containers: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: web}}, annotations: {{note: 'a b'}}}},
           spec: {{terminationGracePeriodSeconds: 0, containers: [{containers}]{more}}}}}"
    )
}

const SLEEP: &str = "image: 'busybox:v1', command: [sleep, '1000']";

/// Reads `/proc/PID/status` of a container's first process.
fn proc_status(lab: &Lab, container: &str, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", lab.pid("p", container))).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
}

#[test]
fn the_environment_is_what_the_manifest_says() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {color: blue, size: '7'}}\n---\n\
               {apiVersion: v1, kind: Secret, metadata: {name: key}, data: {word: c2VzYW1l}}",
    );
    let container = format!(
        "{{name: c, {SLEEP}, envFrom: [{{prefix: C_, configMapRef: {{name: conf}}}}], env: [
        {{name: A, value: x}}, {{name: B, value: '$(A)y $(C_color) $(NOPE) $$(A)'}},
        {{name: WORD, valueFrom: {{secretKeyRef: {{name: key, key: word}}}}}},
        {{name: NONE, valueFrom: {{secretKeyRef: {{name: key, key: absent, optional: true}}}}}},
        {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}},
        {{name: LABEL, valueFrom: {{fieldRef: {{fieldPath: \"metadata.labels['app']\"}}}}}},
        {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}},
        {{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}},
        {{name: MEM, valueFrom: {{resourceFieldRef: {{resource: limits.memory, divisor: 1Mi}}}}}}],
        resources: {{limits: {{memory: 64Mi}}}}}}"
    );
    lab.apply(&pod(&container, ""));
    let ip = lab.wait_ready("p")["status"]["podIP"].as_str().unwrap().to_owned();
    let env = lab.exec("p", "c", &["env"]);
    let expected = [
        "C_color=blue",
        "C_size=7",
        "A=x",
        "B=xy blue $(NOPE) $(A)",
        "WORD=sesame",
        "POD=p",
        "LABEL=web",
        "NODE=n1",
        &format!("IP={ip}"),
        "MEM=64",
        "HOSTNAME=p",
    ];
    for line in expected {
        assert!(env.lines().any(|one| one == line), "{line} is missing in\n{env}");
    }
    assert!(!env.contains("NONE="));
}

#[test]
fn what_is_missing_makes_a_container_wait_and_says_so() {
    let lab = Lab::new();
    let cases = [
        (
            format!("{{name: c, {SLEEP}, envFrom: [{{configMapRef: {{name: later}}}}]}}"),
            "CreateContainerConfigError",
            "later",
        ),
        ("{name: c, image: 'nginx:1.27'}".to_owned(), "ErrImageNeverPull", "flatpod image import nginx:1.27"),
        (
            format!("{{name: c, {SLEEP}, securityContext: {{runAsNonRoot: true}}}}"),
            "CreateContainerConfigError",
            "runAsNonRoot",
        ),
    ];
    for (container, reason, word) in cases {
        lab.apply(&pod(&container, ""));
        let waiting = lab.wait("p", reason, |pod| status(pod, "c")["state"]["waiting"]["reason"] == reason);
        let message = status(&waiting, "c")["state"]["waiting"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(word), "{message}");
        lab.ok(&["delete", "p"]);
    }
    lab.apply(&pod(&format!("{{name: c, {SLEEP}, envFrom: [{{configMapRef: {{name: later}}}}]}}"), ""));
    lab.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: later}, data: {K: v}}");
    lab.wait_ready("p");
}

#[test]
fn volumes_are_filled_and_mounted() {
    let lab = Lab::new();
    lab.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: one, b: two}}\n---\n\
               {apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {word: sesame}}",
    );
    let host = lab.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the node").unwrap();
    std::os::unix::fs::symlink("/etc", host.join("out")).unwrap();
    let mounts = "[{name: conf, mountPath: /conf}, {name: some, mountPath: /some}, {name: key, mountPath: /key},
        {name: host, mountPath: /host, readOnly: true}, {name: mem, mountPath: /mem}, {name: down, mountPath: /down},
        {name: disk, mountPath: /sub, subPath: deep/er}, {name: all, mountPath: /all}]";
    let volumes = format!(", volumes: [{{name: conf, configMap: {{name: conf}}}},
        {{name: some, configMap: {{name: conf, items: [{{key: b, path: x/y, mode: 256}}]}}}},
        {{name: key, secret: {{secretName: key, defaultMode: 256}}}}, {{name: host, hostPath: {{path: {}, type: Directory}}}},
        {{name: mem, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}, {{name: disk, emptyDir: {{}}}},
        {{name: down, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}},
        {{name: all, projected: {{sources: [{{configMap: {{name: conf}}}}, {{secret: {{name: key}}}}]}}}}]", host.display());
    lab.apply(&pod(&format!("{{name: c, {SLEEP}, volumeMounts: {mounts}}}"), &volumes));
    lab.wait_ready("p");
    let cat = |file: &str| lab.exec("p", "c", &["cat", file]);
    assert_eq!(
        [cat("/conf/a"), cat("/some/x/y"), cat("/key/word"), cat("/host/file")],
        ["one", "two", "sesame", "of the node"]
    );
    assert_eq!([cat("/down/labels"), cat("/all/b"), cat("/all/word")], ["app=\"web\"", "two", "sesame"]);
    assert_eq!(lab.exec("p", "c", &["ls", "/conf", "/some"]), "/conf:\na\nb\n\n/some:\nx\n");
    assert_eq!(lab.exec("p", "c", &["stat", "-L", "-c", "%a", "/key/word"]).trim(), "400");
    let denied = lab.flatpod(&["exec", "p", "--", "touch", "/host/new"]);
    assert!(lab::text(&denied.stderr).contains("Read-only file system"), "{}", lab::text(&denied.stderr));
    assert!(lab.exec("p", "c", &["mount"]).contains("on /mem type tmpfs"));
    assert_eq!(
        lab.exec_code("p", "c", &["sh", "-c", "cat /dev/zero > /mem/x"]),
        Some(1),
        "no more than 1 MiB"
    );
    lab.exec("p", "c", &["touch", "/sub/here"]);
    assert!(lab.pod_dir("p").join("volumes/disk/deep/er/here").exists());
    lab.ok(&["delete", "p"]);
    let out = format!(", volumes: [{{name: host, hostPath: {{path: {}}}}}]", host.display());
    lab.apply(&pod(
        &format!("{{name: c, {SLEEP}, volumeMounts: [{{name: host, mountPath: /x, subPath: out}}]}}"),
        &out,
    ));
    let waiting = lab.wait("p", "refused", |pod| status(pod, "c")["state"]["waiting"]["message"].is_string());
    let message = status(&waiting, "c")["state"]["waiting"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("leads out of the volume"), "{message}");
}

#[test]
fn users_capabilities_and_root_file_systems() {
    let lab = Lab::new();
    let all = [
        format!("{{name: plain, {SLEEP}}}"),
        format!(
            "{{name: user, {SLEEP}, securityContext: {{runAsUser: 1234, allowPrivilegeEscalation: false}}}}"
        ),
        format!(
            "{{name: none, {SLEEP}, securityContext: {{readOnlyRootFilesystem: true, capabilities: {{drop: [ALL], add: [NET_ADMIN]}}}}}}"
        ),
        format!(
            "{{name: dir, {SLEEP}, workingDir: /tmp, securityContext: {{privileged: true, runAsUser: 0, runAsGroup: 7}}}}"
        ),
    ];
    lab.apply(&pod(&all.join(", "), ", securityContext: {supplementalGroups: [9]}"));
    lab.wait_ready("p");
    assert_eq!(lab.exec("p", "user", &["id", "-u"]).trim(), "1234");
    assert_eq!(lab.exec("p", "user", &["id", "-G"]).trim(), "1235 9", "the image knows the user's group");
    assert_eq!(lab.exec("p", "dir", &["id", "-G"]).trim(), "7 9");
    assert_eq!(lab.exec("p", "dir", &["readlink", "/proc/self/cwd"]).trim(), "/tmp");
    assert_eq!(
        (proc_status(&lab, "user", "NoNewPrivs:"), proc_status(&lab, "plain", "NoNewPrivs:")),
        ("1".into(), "0".into())
    );
    assert_eq!(proc_status(&lab, "plain", "CapEff:"), "00000000a80425fb", "the set that containerd gives");
    assert_eq!(proc_status(&lab, "none", "CapBnd:"), format!("{:016x}", 1 << 12));
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
    assert_eq!(proc_status(&lab, "dir", "CapBnd:"), own, "no more than flatpod itself may");
    for file in ["/tmp/x", "/etc/hosts"] {
        let denied = lab.flatpod(&["exec", "p", "-c", "none", "--", "touch", file]);
        assert!(
            lab::text(&denied.stderr).contains("Read-only file system"),
            "{file}: {}",
            lab::text(&denied.stderr)
        );
    }
    let (init, exec) =
        (proc_status(&lab, "none", "CapEff:"), lab.exec("p", "none", &["cat", "/proc/self/status"]));
    assert!(exec.contains(&format!("CapEff:\t{init}")), "exec is as the container: {exec}");
}

#[test]
fn limits_are_the_kernels() {
    let lab = Lab::new();
    let limits = "resources: {limits: {memory: 24Mi, cpu: 500m}, requests: {cpu: 250m}}";
    let all = format!(
        "{{name: c, {SLEEP}, {limits}}}, {{name: eats, image: 'builtin/tools:v1', args: [alloc, '64'], {limits}}}"
    );
    lab.apply(&pod(&all, ", restartPolicy: Never"));
    let after = lab.wait("p", "killed", |pod| status(pod, "eats")["state"]["terminated"].is_object());
    let ended = &status(&after, "eats")["state"]["terminated"];
    assert_eq!((ended["exitCode"].as_i64(), ended["reason"].as_str()), (Some(137), Some("OOMKilled")));
    assert!(status(&after, "c")["state"]["running"].is_object(), "the limit is the container's");
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", lab.pid("p", "c"))).unwrap();
    // The container's, and the pod's, of both together.
    assert_eq!(memory_limits(&cgroups), [24 << 20, 48 << 20].map(|bytes: u64| bytes.to_string()));
    assert_eq!(cpu_quotas(&cgroups), ["50000 100000", "100000 100000"]);
    assert_eq!(pod_weight(&cgroups), 512);
}

/// A file of a container's cgroup and of its pod's, in the version that has the controller.
fn limits(cgroups: &str, controller: &str, [one, two]: [&str; 2]) -> [String; 2] {
    let version_1 = cgroups.lines().find_map(|line| line.split_once(&format!(":{controller}:")));
    let (mount, path, file) = match version_1 {
        Some((_, path)) => (format!("/sys/fs/cgroup/{controller}"), path, one),
        None => ("/sys/fs/cgroup".to_owned(), cgroups.trim().trim_start_matches("0::"), two),
    };
    ["", "../"].map(|above| {
        let file = format!("{mount}{path}/{above}{file}");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}")).trim().to_owned()
    })
}

fn memory_limits(cgroups: &str) -> [String; 2] {
    limits(cgroups, "memory", ["memory.limit_in_bytes", "memory.max"])
}

/// In microseconds, and of how many.
fn cpu_quotas(cgroups: &str) -> [String; 2] {
    let whole = |quota: String| if quota.contains(' ') { quota } else { format!("{quota} 100000") };
    limits(cgroups, "cpu", ["cpu.cfs_quota_us", "cpu.max"]).map(whole)
}

/// In shares of version 1; version 2 rounds.
fn pod_weight(cgroups: &str) -> u64 {
    let [container, pod] = limits(cgroups, "cpu", ["cpu.shares", "cpu.weight"]);
    let [container, pod]: [u64; 2] = [container, pod].map(|text| text.parse().unwrap());
    match (container, pod) {
        (256, pod) => pod,
        // The launcher has a formula of its own, which gives more weight to little.
        (container, 20) if container < 100 => 512,
        other => panic!("{other:?}"),
    }
}

/// Whoever starts flatpod: nohup ignores SIGHUP, shells have their background jobs ignore SIGINT.
#[test]
fn signals_are_as_the_kernel_has_them_at_first() {
    let lab = Lab::new();
    let ignoring = |args: &[&str]| {
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", "trap '' INT QUIT HUP PIPE USR1; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_flatpod")]);
        let output = sh.args(args).env("FLATPOD_ROOT", lab.root()).output().unwrap();
        assert!(output.status.success(), "{}", lab::text(&output.stderr));
        lab::text(&output.stdout)
    };
    let file = lab.path().join("p.yaml");
    std::fs::write(&file, pod(&format!("{{name: c, {SLEEP}}}"), "")).unwrap();
    ignoring(&["apply", "-f", file.to_str().unwrap()]);
    lab.wait_ready("p");
    let executed = ignoring(&["exec", "p", "--", "cat", "/proc/self/status"]);
    // Those with names: the C library keeps 32 and 33 to itself, and whoever started the test may ignore them.
    let named = |bits: &str| u64::from_str_radix(bits, 16).unwrap() & ((1 << 31) - 1);
    for key in ["SigIgn:", "SigBlk:"] {
        let of_exec = executed.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        assert_eq!((named(&proc_status(&lab, "c", key)), named(of_exec)), (0, 0), "{key}");
    }
}

#[test]
fn last_words_are_told() {
    let lab = Lab::new();
    let say = "{name: file, image: 'busybox:v1', command: [sh, -c, 'echo -n bye > /dev/termination-log; exit 1']},
        {name: log, image: 'busybox:v1', terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo one; echo two >&2; exit 1']},
        {name: none, image: 'busybox:v1', terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo fine']}";
    lab.apply(&pod(say, ", restartPolicy: Never"));
    let over = lab.wait_phase("p", "Failed");
    let message = |name: &str| status(&over, name)["state"]["terminated"]["message"].clone();
    assert_eq!(message("file"), "bye");
    assert!(
        ["one\ntwo", "two\none"].map(serde_json::Value::from).contains(&message("log")),
        "{}",
        message("log")
    );
    assert!(message("none").is_null());
}

#[test]
fn a_pod_on_the_nodes_network_has_the_nodes_interfaces() {
    let lab = Lab::new();
    lab.apply(&pod(&format!("{{name: c, {SLEEP}}}"), ", hostNetwork: true"));
    lab.wait_ready("p");
    let node = std::fs::metadata(lab.root().join("nodes/n1/net")).unwrap();
    let inside = std::fs::metadata(format!("/proc/{}/ns/net", lab.pid("p", "c"))).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&inside), std::os::unix::fs::MetadataExt::ino(&node));
    assert_eq!(lab.exec("p", "c", &["ls", "/sys/class/net"]), "lo\n");
    assert_eq!(lab.exec("p", "c", &["hostname"]), "n1\n");
    assert!(
        lab.exec("p", "c", &["cat", "/etc/hosts"])
            .starts_with("# Kubernetes-managed hosts file (host network).")
    );
}

/// Settings of the namespaces that this process is in.
fn sysctls() -> Vec<(std::path::PathBuf, String)> {
    let files = ["net/ipv4", "net/ipv4/conf/all", "net/ipv4/conf/default", "net/ipv6/conf/all", "net/core"];
    let files =
        files.iter().flat_map(|dir| std::fs::read_dir(format!("/proc/sys/{dir}")).into_iter().flatten());
    let files = files.flatten().map(|entry| entry.path());
    let kernel = ["hostname", "domainname", "shm_rmid_forced", "shmmax", "msgmax", "sem", "core_pattern"];
    let kernel = kernel.map(|name| format!("/proc/sys/kernel/{name}").into());
    let all =
        files.chain(kernel).filter_map(|file| Some((file.clone(), std::fs::read_to_string(file).ok()?)));
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

#[test]
fn sysctls_names_and_resolvers() {
    let lab = Lab::new();
    let more = ", hostname: boss, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: '0'},
        {name: kernel.shm_rmid_forced, value: '1'}]}, dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.1], searches: [x.test]},
        hostAliases: [{ip: 192.0.2.7, hostnames: [a, b]}]";
    let machine = sysctls();
    lab.apply(&pod(&format!("{{name: c, {SLEEP}}}"), more));
    lab.wait_ready("p");
    assert_eq!(sysctls(), machine, "the machine's own are as they were");
    let sysctl = |name: &str| lab.exec("p", "c", &["cat", &format!("/proc/sys/{name}")]).trim().to_owned();
    assert_eq!(
        (sysctl("net/ipv4/tcp_syncookies"), sysctl("kernel/shm_rmid_forced")),
        ("0".into(), "1".into())
    );
    assert_eq!(sysctl("net/ipv4/ip_unprivileged_port_start"), "0");
    assert_eq!(lab.exec("p", "c", &["hostname"]), "boss\n");
    assert_eq!(lab.exec("p", "c", &["cat", "/etc/resolv.conf"]), "nameserver 192.0.2.1\nsearch x.test\n");
    assert!(lab.exec("p", "c", &["cat", "/etc/hosts"]).contains("\n192.0.2.7\ta\tb\n"));
}
