//! Images from registries: what is pulled is what the registry has, or nothing; and what pods wait for says why.
#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::disallowed_methods, reason = "the program under test is started")]

#[expect(dead_code, reason = "other tests use the rest")]
mod archive;
mod lab;
mod registry;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use archive::{Layer, arch, digest, gzip};
use lab::{Lab, SOON, status, text};
use netns_fixtures::{NetNs, gate, wait_until};
use registry::{Door, Fault, Registry, parts};
use serde_json::{Value, json};

/// `bird:feather`, in base64.
const PASSWORD: &str = "YmlyZDpmZWF0aGVy";

/// The size of a layer that is larger than all that flatpod needs.
const LARGE: usize = 96 << 20;

fn start() -> (Lab, Registry) {
    gate::require();
    let net = NetNs::new().unwrap();
    (Lab::apart(&net), Registry::start(&net, "127.0.0.1:0"))
}

/// A layer with programs, and one with a file that says what is in it.
fn layers(said: &str) -> [Vec<u8>; 2] {
    [Layer::base().tar(), Layer::new().file("said", said.as_bytes(), 0o644).tar()]
}

fn slices(layers: &[Vec<u8>]) -> Vec<&[u8]> {
    layers.iter().map(Vec::as_slice).collect()
}

fn sleeper() -> Value {
    json!({ "Entrypoint": ["/bin/sh", "-c", "cat /said; echo; trap exit TERM; while :; do sleep 0.1; done"] })
}

/// A pod `p` of one container `c`.
fn pod(image: &str, container: &str, more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: '{image}'{container}}}]\
         {more}}}}}"
    )
}

/// The files below a directory of the store, without the locks.
fn left(lab: &Lab, name: &str) -> Vec<String> {
    let entries = fs::read_dir(lab.root().join("images").join(name)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let is_image = |name: &String| {
        !name.ends_with(".lock") && !name.starts_with("busybox") && !name.contains("%busybox")
    };
    let mut names: Vec<_> = names.filter(is_image).collect();
    names.sort();
    names
}

/// Pulls what cannot be had, and answers what was said. Under the name there is nothing.
fn refused(lab: &Lab, name: &str) -> String {
    let output = lab.flatpod(&["image", "pull", name]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(left(lab, "refs"), [] as [String; 0], "{told}");
    assert_eq!(left(lab, "layers"), [] as [String; 0], "{told}");
    assert_eq!(left(lab, "tmp"), [] as [String; 0], "{told}");
    told
}

/// Why a container waits.
fn waits(lab: &Lab, reason: &str) -> String {
    let is = |pod: &Value| status(pod, "c")["state"]["waiting"]["reason"] == reason;
    let pod = lab.wait("p", reason, is);
    status(&pod, "c")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned()
}

/// The most memory that a process has had.
fn peak(of: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", of.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

fn put_config(lab: &Lab, auths: &Value) {
    fs::write(lab.path().join("config.json"), json!({ "auths": auths }).to_string()).unwrap();
}

#[test]
fn what_was_saved_is_pulled_by_tag_and_by_digest_and_runs() {
    let (lab, registry) = start();
    let (mut config, mut tars) = parts(&lab.flatpod(&["image", "save", "builtin/tools:v1"]).stdout);
    let small = Layer::new().file("said", b"pulled", 0o644).tar();
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest(&small)));
    config["architecture"] = json!(arch());
    tars.push(gzip(&small));
    let index = registry.publish("v1", config.to_string().as_bytes(), &slices(&tars));
    let (tag, by_digest) = (registry.name(":v1"), registry.name(&format!("@{index}")));

    assert_eq!(lab.ok(&["image", "pull", &tag]), format!("image/{tag} pulled\n"));
    assert_eq!(registry.sent(&digest(&tars[0])), 1);
    // What is here already does not come again: neither the image nor, under another name, its layers.
    assert_eq!(lab.ok(&["image", "pull", &tag]), format!("image/{tag} is up to date\n"));
    assert_eq!(registry.asked(), ["HEAD /v2/team/web/manifests/v1"]);
    assert_eq!(lab.ok(&["image", "pull", &by_digest]), format!("image/{by_digest} is up to date\n"));
    assert_eq!(registry.asked(), [] as [String; 0], "a digest is always the same image's");
    lab.ok(&["image", "rm", &tag]);
    registry.asked();
    assert_eq!(lab.ok(&["image", "pull", &by_digest]), format!("image/{by_digest} pulled\n"));
    assert_eq!(left(&lab, "blobs/sha256"), [] as [String; 0]);
    assert_eq!(left(&lab, "tmp"), [] as [String; 0]);
    let shown: Value = serde_json::from_str(&lab.ok(&["image", "inspect", &by_digest])).unwrap();
    assert_eq!(shown[0]["RootFS"]["Layers"], config["rootfs"]["diff_ids"]);

    lab.apply(&pod(&by_digest, ", args: [cat, /said]", ", restartPolicy: Never"));
    lab.wait_phase("p", "Succeeded");
    assert_eq!(lab.logs("p", "c"), "pulled");
}

#[test]
fn pods_pull_as_their_policies_say() {
    let (lab, registry) = start();
    registry.publish_plain("v1", &sleeper(), &slices(&layers("old")));
    let name = registry.name(":v1");
    let run = |policy: &str| {
        lab.apply(&pod(&name, &format!(", imagePullPolicy: {policy}"), ""));
        lab.wait_ready("p");
        wait_until("its output", SOON, || Some(lab.logs("p", "c")).filter(|log| !log.is_empty())).unwrap()
    };
    lab.apply(&pod(&name, ", imagePullPolicy: Never", ""));
    let told = waits(&lab, "ErrImageNeverPull");
    assert!(told.contains("imagePullPolicy is Never"), "{told}");
    lab.ok(&["delete", "p"]);
    assert_eq!(registry.asked(), [] as [String; 0]);
    // By the tag, an image that is not here is pulled.
    lab.apply(&pod(&name, "", ""));
    lab.wait_ready("p");
    let events = lab.events("p");
    assert!(events.contains(&format!("Pulling image \"{name}\"")), "{events}");
    assert!(events.contains(&format!("Successfully pulled image \"{name}\"")), "{events}");
    lab.ok(&["delete", "p"]);
    registry.publish_plain("v1", &sleeper(), &slices(&layers("new")));
    registry.asked();
    for policy in ["IfNotPresent", "Never"] {
        assert_eq!(run(policy), "old\n", "{policy}");
        lab.ok(&["delete", "p"]);
        assert_eq!(registry.asked(), [] as [String; 0], "{policy}");
    }
    assert_eq!(run("Always"), "new\n");
    assert_eq!(registry.sent(&digest(&layers("new")[0])), 0, "that layer is in both");
    lab.ok(&["delete", "p"]);
    assert_eq!(run("Always"), "new\n");
    assert_eq!(registry.asked(), ["HEAD /v2/team/web/manifests/v1"]);
}

#[test]
fn a_registry_is_told_who_asks_and_nobody_else_is() {
    let (lab, registry) = start();
    registry.publish_plain("v1", &sleeper(), &slices(&layers("x")));
    registry.shelf().elsewhere = true;
    let (name, host) = (registry.name(":v1"), registry.address.to_string());
    for door in [Door::Token, Door::Basic] {
        registry.shelf().door = door;
        put_config(&lab, &json!({ "https://elsewhere.test": { "auth": PASSWORD } }));
        let told = refused(&lab, &name);
        assert!(
            told.contains("401 Unauthorized") && told.contains(&format!("docker login {host}")),
            "{told}"
        );
        put_config(&lab, &json!({ &host: { "auth": PASSWORD }, format!("{host}/team"): { "auth": "eDp5" } }));
        let told = refused(&lab, &name);
        assert!(told.contains(&format!("the password for {host} is not taken")), "{told}");
        put_config(&lab, &json!({ &host: { "auth": "eDp5" }, format!("{host}/team"): { "auth": PASSWORD } }));
        lab.ok(&["image", "pull", &name]);
        lab.ok(&["image", "rm", &name]);
    }
    assert!(registry.asked().iter().any(|line| line.starts_with("GET /cdn/")));
    fs::remove_file(lab.path().join("config.json")).unwrap();
    // A pod brings its own.
    lab.apply(&pod(&name, "", ", imagePullSecrets: [{name: pass}]"));
    let told = waits(&lab, "ErrImagePull");
    assert!(told.contains("without imagePullSecret \"pass\" (there is no such secret)"), "{told}");
    lab.ok(&["delete", "p"]);
    let document = json!({ "auths": { &host: { "username": "bird", "password": "feather" } } });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pass" },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": document.to_string() } });
    lab.apply(&secret.to_string());
    let output = lab.try_apply(&pod(&name, "", ", imagePullSecrets: [{name: pass}]"));
    assert_eq!(text(&output.stderr), "", "it is no notice any more");
    lab.wait_ready("p");
}

#[test]
fn what_is_damaged_is_not_kept() {
    let (lab, registry) = start();
    let tars = layers("x");
    let name = registry.name(":v1");
    let index = registry.publish_plain("v1", &sleeper(), &slices(&tars));
    let good = registry.shelf().content.clone();
    let above = digest(&tars[1]);
    let mut other = tars[1].clone();
    *other.last_mut().unwrap() ^= 1;
    let longer = [tars[1].as_slice(), b"more"].concat();
    for (bytes, word) in
        [(other, "its digest is"), (longer, "more than"), (tars[1][1..].to_vec(), "bytes came, not")]
    {
        registry.shelf().content.insert(above.clone(), bytes);
        let told = refused(&lab, &name);
        assert!(told.contains("damaged") && told.contains(word) && told.contains(&above[7..]), "{told}");
        assert!(!left(&lab, "blobs/sha256").contains(&above[7..].to_owned()));
    }
    // Nor is what leads to the layers.
    for (what, bytes) in good.iter().filter(|(what, bytes)| what.starts_with("sha256:") && bytes[0] == b'{') {
        registry.shelf().content = good.clone();
        let spoilt = [bytes.as_slice(), b" "].concat();
        registry.shelf().content.insert(what.clone(), spoilt);
        let told = refused(&lab, &registry.name(&format!("@{index}")));
        assert!(told.contains("damaged") && told.contains(what), "{told}");
    }
    registry.shelf().content = good;
    lab.ok(&["image", "pull", &name]);
}

#[test]
fn a_pull_that_was_cut_or_killed_goes_on_where_it_was() {
    let (lab, registry) = start();
    let large = Layer::base().file("large", &vec![0; LARGE], 0o644).tar();
    let tars = [large, Layer::new().file("said", b"x", 0o644).tar()];
    let (below, above) = (digest(&tars[0]), digest(&tars[1]));
    let name = registry.name(":v1");
    registry.publish_plain("v1", &sleeper(), &slices(&tars));
    registry.shelf().faults.insert(below.clone(), Fault::Cut);
    refused(&lab, &name);
    assert_eq!(left(&lab, "blobs/sha256"), [&above[7..]], "what came whole stays");
    registry.asked();
    registry.shelf().faults.insert(below.clone(), Fault::Stall);
    let mut killed = lab.command(&["image", "pull", &name]).stdout(Stdio::null()).spawn().unwrap();
    let half = tars[0].len() as u64 / 2;
    let tmp = lab.root().join("images/tmp");
    wait_until("half of it to come", SOON, || {
        let sizes = fs::read_dir(&tmp)
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.metadata().map_or(0, |meta| meta.len()));
        { sizes }.any(|size| size > half / 2).then_some(())
    })
    .unwrap();
    let peak = peak(&killed);
    assert!(peak < LARGE / 5 * 2, "{peak} bytes: it goes into a file as it comes");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!((left(&lab, "refs"), left(&lab, "layers")), (vec![], vec![]));
    registry.repair();
    lab.ok(&["image", "pull", &name]);
    assert_eq!(registry.sent(&above), 0, "it was here");
    assert_eq!((left(&lab, "blobs/sha256"), left(&lab, "tmp")), (vec![], vec![]));
    lab.ok(&["run", "p", "--image", &name]);
    lab.wait_ready("p");
    assert_eq!(lab.exec("p", "p", &["cat", "/said"]), "x");
}

#[test]
fn two_who_pull_the_same_share_what_comes() {
    let (lab, registry) = start();
    let tars = layers("x");
    let digests = [digest(&tars[0]), digest(&tars[1])];
    let name = registry.name(":v1");
    registry.publish_plain("v1", &sleeper(), &slices(&tars));
    registry.shelf().faults.insert(digests[0].clone(), Fault::Stall);
    let pulls = [(); 2].map(|()| {
        let mut pull = lab.command(&["image", "pull", &name]);
        pull.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let configs = || {
        registry
            .shelf()
            .asked
            .iter()
            .filter(|line| line.contains("/blobs/") && digests.iter().all(|one| !line.ends_with(one)))
            .count()
    };
    wait_until("both to know what they want", SOON, || (configs() == 2).then_some(())).unwrap();
    registry.repair();
    for pull in pulls {
        let output = pull.wait_with_output().unwrap();
        assert_eq!(text(&output.stdout), format!("image/{name} pulled\n"), "{}", text(&output.stderr));
    }
    let asked = registry.asked();
    for digest in &digests {
        assert_eq!(asked.iter().filter(|line| line.ends_with(digest)).count(), 1, "{asked:#?}");
    }
    lab.ok(&["run", "p", "--image", &name]);
    lab.wait_ready("p");
}

#[test]
fn a_missing_image_is_asked_for_again_and_again() {
    let (lab, registry) = start();
    let name = registry.name(":v1");
    lab.apply(&pod(&name, "", ""));
    let told = waits(&lab, "ErrImagePull");
    assert!(told.contains("404 Not Found: manifest unknown"), "{told}");
    let told = waits(&lab, "ImagePullBackOff");
    assert!(told.starts_with(&format!("Back-off pulling image \"{name}\": ErrImagePull: ")), "{told}");
    let shown = lab.ok(&["get", "pods"]);
    assert!(shown.contains("ImagePullBackOff"), "{shown}");
    registry.publish_plain("v1", &sleeper(), &slices(&layers("x")));
    lab.wait_ready("p");
    let file = fs::read_to_string(lab.pod_dir("p").join("events.jsonl")).unwrap();
    let events: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    let first = reasons.iter().position(|reason| *reason == "Pulling").unwrap();
    let again = ["Pulling", "Failed", "Failed", "BackOff", "Failed", "Pulling"];
    assert_eq!(reasons[first..first + 6], again, "{reasons:?}");
    assert!(reasons.ends_with(&["Pulling", "Pulled", "Started"]), "{reasons:?}");
    let at = |event: &Value| event["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let waited = at(&events[first + 5]).duration_since(at(&events[first + 1])).as_secs_f64();
    assert!((9.9..20.0).contains(&waited), "{waited}");
}

#[test]
fn a_pod_that_goes_takes_its_pull_along() {
    let (lab, registry) = start();
    let tars = layers("x");
    let name = registry.name(":v1");
    registry.publish_plain("v1", &sleeper(), &slices(&tars));
    registry.shelf().faults.insert(digest(&tars[0]), Fault::Stall);
    lab.apply(&pod(&name, "", ""));
    let pull = wait_until("a pull", SOON, || lab.process(&["image pull"])).unwrap();
    lab.ok(&["delete", "p", "--grace-period", "0", "--force"]);
    let gone = || (!Path::new(&format!("/proc/{pull}")).exists()).then_some(());
    wait_until("the end of the pull", SOON, gone).unwrap();
}

#[test]
fn without_tls_is_spoken_to_whom_the_user_names() {
    gate::require();
    let net = NetNs::new().unwrap();
    net.own(&["192.0.2.1".parse().unwrap()]).unwrap();
    let (lab, registry) = (Lab::apart(&net), Registry::start(&net, "192.0.2.1:0"));
    registry.publish_plain("v1", &sleeper(), &slices(&layers("x")));
    let (name, host) = (registry.name(":v1"), registry.address.to_string());
    let told = refused(&lab, &name);
    assert!(told.contains("https://"), "{told}");
    assert!(!registry.asked().iter().any(|line| line.contains("/v2/")), "nothing was asked in the clear");
    lab.ok(&["image", "pull", "--insecure-registry", &host, &name]);
    lab.ok(&["image", "rm", &name]);
    // Pods' pulls know it from the environment.
    let mut run = lab.command(&["run", "p", "--image", &name]);
    assert!(
        run.env("FLATPOD_INSECURE_REGISTRY", format!("other:1,{host}")).output().unwrap().status.success()
    );
    lab.wait_ready("p");
}

/// Runs openssl in a directory.
fn openssl(dir: &Path, line: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(line.split_whitespace());
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(done.unwrap().success(), "openssl {line}");
}

#[test]
fn with_tls_is_spoken_to_who_has_a_certificate() {
    gate::require();
    let net = NetNs::new().unwrap();
    net.own(&["192.0.2.1".parse().unwrap()]).unwrap();
    let (lab, registry) = (Lab::apart(&net), Registry::start(&net, "192.0.2.1:0"));
    registry.publish_plain("v1", &sleeper(), &slices(&layers("x")));
    let dir = lab.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    fs::write(dir.join("names"), "subjectAltName=IP:192.0.2.1").unwrap();
    openssl(dir, &format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(dir, &format!("req {key} -subj /CN=server -keyout server.key -out server.csr"));
    openssl(
        dir,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    let address = registry.behind_tls(&net, &dir.join("server.pem"), &dir.join("server.key"));
    let name = format!("{address}/team/web:v1");
    let told = refused(&lab, &name);
    assert!(told.contains("invalid peer certificate"), "{told}");
    assert_eq!(registry.asked(), [] as [String; 0]);
    let mut pull = lab.command(&["image", "pull", &name]);
    let output = pull.env("SSL_CERT_FILE", dir.join("ca.pem")).output().unwrap();
    assert_eq!(text(&output.stdout), format!("image/{name} pulled\n"), "{}", text(&output.stderr));
}
