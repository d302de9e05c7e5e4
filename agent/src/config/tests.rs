use super::*;

pub(super) fn check(text: &str) -> Result<Config, ConfigErrors> {
    let raw = yaml::read(text).map_err(|e| ConfigErrors(vec![e]))?;
    Config::check(raw, &|| Some("host-a".to_owned()))
}

#[test]
fn a_store_is_all_that_is_needed() {
    let config = check("store: { file: { path: /etc/flatnet/cluster.yaml } }").unwrap();
    assert_eq!(config.settings.node.as_str(), "host-a");
    assert_eq!(config.settings.backend, Backend::Auto);
    assert_eq!((config.settings.vni.get(), config.settings.port), (1, 8472));
    assert_eq!(config.listen.unwrap().port(), 9473);
    assert!(config.masquerade);
    assert_eq!(config.gc, Gc { interval: Some(Duration::from_secs(60)), grace: 60 });
}

#[test]
fn the_documented_example_is_taken() {
    let text = "node: n1\ninterface: auto\nstateDir: /run/flatnet\nlisten: \"off\"\n\
                backend:\n  type: vxlan\n  vni: 7\n  port: 4789\nmasquerade: false\n\
                store:\n  file: { path: /etc/flatnet/cluster.yaml }\n";
    let config = check(text).unwrap();
    assert_eq!(config.listen, None);
    assert_eq!(config.settings.vni.get(), 7);
}

#[test]
fn all_errors_come_at_once() {
    let text = "node: a/b\ninterface: sixteen-bytes-xx\nlisten: nowhere\n\
                backend: { type: gre, vni: 16777216, port: 0 }\nstateDir: \"\"\nmaxRemoveShare: 101\nuplinkSegmentSize: 9\n\
                gc: { interval: -1 }\n";
    let e = check(text).unwrap_err().to_string();
    for part in [
        "node: node name \"a/b\"",
        "interface: interface name \"sixteen-bytes-xx\"",
        "listen: \"nowhere\"",
        "backend.type: \"gre\"",
        "backend.vni: VNI 16777216",
        "backend.port: 0",
        "stateDir: \"\"",
        "store: none is given",
        "maxRemoveShare: 101",
        "uplinkSegmentSize: 9 is outside",
        "gc.interval: -1",
    ] {
        assert!(e.contains(part), "{part}: {e}");
    }
    assert!(e.contains("11 errors"), "{e}");
}

#[test]
fn unknown_keys_are_named() {
    assert!(check("backned: {}").unwrap_err().to_string().contains("backned"));
    assert!(check("store: { zookeeper: {} }").unwrap_err().to_string().contains("zookeeper"));
}

#[test]
fn collecting_can_be_turned_off() {
    let config = check("gc: { interval: 0, grace: 5 }\nstore: { file: { path: /c.yaml } }").unwrap();
    assert_eq!(config.gc, Gc { interval: None, grace: 5 });
}

#[test]
fn flags_win() {
    let raw: RawConfig = yaml::read("node: n1\nstore: { etcd: {} }").unwrap();
    let over =
        Overrides { node: Some("n2".to_owned()), store_file: Some("/c.yaml".into()), ..Overrides::default() };
    let config = Config::check(merge(raw, over), &|| None).unwrap();
    assert_eq!(config.settings.node.as_str(), "n2");
    assert_eq!(config.store, StoreConfig::File("/c.yaml".into()));
}

/// The sample says what the defaults are.
#[test]
fn the_sample_is_the_default() {
    let sample = check(include_str!("../../../deploy/systemd/agent.yaml")).unwrap();
    let least = check("store: { file: { path: /etc/flatnet/cluster.yaml } }").unwrap();
    assert_eq!(sample, least);
}

#[test]
fn the_runtimes_configuration_is_the_agents_business_only_when_told() {
    let store = "store: { file: { path: /etc/flatnet/cluster.yaml } }\n";
    assert_eq!(check(store).unwrap().install, None);
    let wish =
        check(&format!("{store}stateDir: /run/x\ninstall: {{ confDir: /host/net.d, takeOver: true }}"));
    let wish = wish.unwrap().install.unwrap();
    assert_eq!((wish.conf_dir.as_path(), wish.others), (Path::new("/host/net.d"), Others::TakeOver));
    assert_eq!(wish.state_dir, Path::new("/run/x"));
    let e = check(&format!("{store}install: {{ takeOver: true }}")).unwrap_err().to_string();
    assert!(e.contains("install: takeOver means nothing without confDir"), "{e}");
}
