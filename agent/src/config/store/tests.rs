use super::super::tests::check;
use super::*;

fn etcd(inside: &str) -> Result<EtcdConfig, String> {
    let config = check(&format!("store: {{ etcd: {{ {inside} }} }}")).map_err(|e| e.to_string())?;
    match config.store {
        StoreConfig::Etcd(etcd) => Ok(etcd),
        other => panic!("{other:?}"),
    }
}

#[test]
fn endpoints_are_all_that_is_needed() {
    let config = etcd("endpoints: [\"http://192.0.2.10\", \"http://[2001:db8::1]:4001/\", \"http://[::1]\"]");
    let config = config.unwrap();
    assert_eq!(
        config.endpoints,
        ["http://192.0.2.10:2379", "http://[2001:db8::1]:4001", "http://[::1]:2379"]
    );
    assert_eq!((config.prefix.as_str(), config.lease.as_secs()), ("/coreos.com/network", 86_400));
    assert_eq!((config.tls, config.user, config.asked), (None, None, Asked::default()));
}

#[test]
fn what_is_set_here_is_asked_of_the_network() {
    let text = "backend: { vni: 7 }\nstore: { etcd: { endpoints: [\"http://a\"] } }";
    let StoreConfig::Etcd(config) = check(text).unwrap().store else { panic!() };
    assert_eq!((config.asked.vni.map(|vni| vni.get()), config.asked.port), (Some(7), None));
}

#[test]
fn files_must_be_there_and_be_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).display().to_string()
    };
    let ca = put("ca.pem", "-----BEGIN CERTIFICATE-----\n");
    let key = put("key.pem", "-----BEGIN RSA PRIVATE KEY-----\n");
    let password = put("password", "secret\n");
    let https = "endpoints: [\"https://a\"]";
    let good =
        etcd(&format!("{https}, ca: {ca}, cert: {ca}, key: {key}, username: u, passwordFile: {password}"));
    let good = good.unwrap();
    assert_eq!(good.user.unwrap().1.read().unwrap(), "secret");
    assert_eq!(good.tls.unwrap().identity.unwrap().1, PathBuf::from(&key));
    for (inside, part) in [
        (https.to_owned(), "store.etcd.ca: is missing"),
        (format!("{https}, ca: {ca}, cert: {ca}"), "store.etcd.key: is missing"),
        (format!("{https}, ca: {ca}, key: {key}"), "store.etcd.cert: is missing"),
        (format!("{https}, ca: {key}"), "holds no PEM CERTIFICATE"),
        (format!("{https}, ca: /nowhere/ca.pem"), "store.etcd.ca: /nowhere/ca.pem: No such file"),
        (format!("endpoints: [\"http://a\"], ca: {ca}"), "ca is given, but no endpoint is https"),
        ("endpoints: []".to_owned(), "store.etcd.endpoints: is missing"),
        ("endpoints: [a]".to_owned(), "\"a\" is not http://"),
        ("endpoints: [\"http://a/b\"]".to_owned(), "is not http://HOST"),
        ("endpoints: [\"http://a\"], prefix: x".to_owned(), "store.etcd.prefix: \"x\""),
        ("endpoints: [\"http://a\"], leaseSeconds: 1".to_owned(), "store.etcd.leaseSeconds: 1"),
        ("endpoints: [\"http://a\"], username: u".to_owned(), "without password"),
        ("endpoints: [\"http://a\"], password: p".to_owned(), "without username"),
        (
            "endpoints: [\"http://a\"], username: u, passwordFile: /nowhere".to_owned(),
            "passwordFile: /nowhere",
        ),
        ("endpoint: [\"http://a\"]".to_owned(), "endpoint"),
    ] {
        let e = etcd(&inside).unwrap_err();
        assert!(e.contains(part), "{inside}: {e}");
    }
}

#[test]
fn there_is_one_store_and_flags_choose_it() {
    let both = "store: { file: { path: /c }, etcd: { endpoints: [\"http://a\"] } }";
    assert!(check(both).unwrap_err().to_string().contains("both given"));
    let raw = || RawStore {
        etcd: Some(RawEtcdStore { endpoints: vec!["http://a".to_owned()], ..RawEtcdStore::default() }),
        ..RawStore::default()
    };
    let over = || EtcdOverrides { endpoints: Some(vec!["http://b".to_owned()]), ..EtcdOverrides::default() };
    let chosen = |file: Option<PathBuf>, over: EtcdOverrides| {
        let mut raw = raw();
        raw.merge(file, over, KubernetesOverrides::default());
        let mut errors = Errors::default();
        raw.check(Asked::default(), &mut errors).ok_or(errors.0)
    };
    assert_eq!(chosen(Some("/c".into()), EtcdOverrides::default()), Ok(StoreConfig::File("/c".into())));
    assert_eq!(chosen(None, over()).unwrap().to_string(), "http://b:2379/coreos.com/network");
    assert!(chosen(Some("/c".into()), over()).is_err());
}

#[test]
fn a_password_is_never_shown() {
    let text = "endpoints: [\"http://a\"], username: u, password: topsecret";
    assert!(!format!("{:?}", etcd(text).unwrap()).contains("topsecret"));
}
