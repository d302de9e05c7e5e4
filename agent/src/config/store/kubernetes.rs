//! How to get at Kubernetes' API server, and the network that its nodes are part of.

#[cfg(feature = "kubernetes")]
use std::fmt;
use std::path::PathBuf;

use flatnet_core::overlay::flannel::Asked;
#[cfg(feature = "kubernetes")]
use flatnet_core::overlay::flannel::Network;
use serde::Deserialize;

use super::Errors;
#[cfg(feature = "kubernetes")]
use super::absolute;

/// Nodes that Kubernetes knows.
#[cfg(feature = "kubernetes")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KubernetesConfig {
    /// Where the API server is and who we are; `None`: as a pod's service account.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The pods' networks, which Kubernetes tells no node.
    pub(crate) network: Network,
    /// What the configuration asks of the network.
    pub(crate) asked: Asked,
}

#[cfg(feature = "kubernetes")]
impl fmt::Display for KubernetesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kubeconfig {
            Some(path) => path.display().fmt(f),
            None => f.write_str("service account"),
        }
    }
}

/// What flags and environment say about Kubernetes.
#[derive(Debug, Default)]
pub(crate) struct KubernetesOverrides {
    pub(crate) kubeconfig: Option<PathBuf>,
    /// JSON.
    pub(crate) network: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKubernetesStore {
    kubeconfig: Option<PathBuf>,
    /// flannel's `net-conf.json`, as it is or as text.
    network: Option<serde_json::Value>,
}

impl RawKubernetesStore {
    pub(super) fn merge(&mut self, over: KubernetesOverrides) {
        self.kubeconfig = over.kubeconfig.or(self.kubeconfig.take());
        self.network = over.network.map(serde_json::Value::String).or(self.network.take());
    }

    #[cfg(feature = "kubernetes")]
    pub(super) fn check(self, asked: Asked, errors: &mut Errors) -> Option<KubernetesConfig> {
        let kubeconfig = self.kubeconfig.map(|path| absolute(&path)).transpose();
        let kubeconfig = errors.keep("store.kubernetes.kubeconfig", kubeconfig);
        let network = match self.network {
            None => Err(
                "is missing: the pods' network and how packets travel, as in flannel's net-conf.json, like \
                 { Network: 10.244.0.0/16, Backend: { Type: vxlan } }; Network is kube-controller-manager's \
                 --cluster-cidr"
                    .to_owned(),
            ),
            Some(serde_json::Value::String(text)) => {
                Network::read(text.as_bytes()).map_err(|e| e.to_string())
            }
            Some(value) => Network::read(value.to_string().as_bytes()).map_err(|e| e.to_string()),
        };
        let network = errors.keep("store.kubernetes.network", network);
        Some(KubernetesConfig { kubeconfig: kubeconfig?, network: network?, asked })
    }

    #[cfg(not(feature = "kubernetes"))]
    pub(super) fn refuse(&self, asked: Asked, errors: &mut Errors) {
        let Self { kubeconfig, network } = self;
        let text = format!("kubernetes is not in this build ({kubeconfig:?}, {network:?}, {asked:?})");
        errors.keep("store", Err::<(), _>(text));
    }
}

#[cfg(all(test, feature = "kubernetes"))]
mod tests {
    use super::super::super::tests::check;
    use super::super::{EtcdOverrides, RawStore, StoreConfig};
    use super::*;

    #[test]
    fn a_network_is_all_that_is_needed_and_may_be_flannels_file() {
        let flannels = r#"store: { kubernetes: { network: { "Network": "10.244.0.0/16", "Backend": { "Type": "vxlan" } } } }"#;
        let as_text = r#"store: { kubernetes: { network: '{ "Network": "10.244.0.0/16", "Backend": { "Type": "vxlan" } }' } }"#;
        let [a, b] = [flannels, as_text].map(|text| check(text).unwrap());
        assert_eq!(a, b);
        assert_eq!(a.settings.backend.to_string(), "vxlan", "the network decides");
        let StoreConfig::Kubernetes(store) = a.store else { panic!() };
        assert_eq!(store.network.networks, ["10.244.0.0/16".parse().unwrap()]);
        assert_eq!(store.to_string(), "service account");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (inside, part) in [
            ("{}", "store.kubernetes.network: is missing"),
            ("{ network: { Network: 10.244.0.0/16 } }", "Backend is missing"),
            ("{ network: { Network: ten, Backend: { Type: vxlan } } }", "\"ten\" is not a network"),
            ("{ networks: {} }", "networks"),
            ("{ kubeconfig: \"\", network: '{}' }", "store.kubernetes.kubeconfig"),
        ] {
            let e = check(&format!("store: {{ kubernetes: {inside} }}")).unwrap_err().to_string();
            assert!(e.contains(part), "{inside}: {e}");
        }
        let text = "backend: { type: direct }\n\
                    store: { kubernetes: { network: { Network: 10.244.0.0/16, Backend: { Type: vxlan } } } }";
        let e = check(text).unwrap_err().to_string();
        assert!(e.contains("store.kubernetes.network: this node's backend.type is direct"), "{e}");
        let two = "store: { file: { path: /a }, kubernetes: { network: '{}' } }";
        assert!(check(two).unwrap_err().to_string().contains("file and kubernetes are both given"));
    }

    #[test]
    fn a_network_by_flag_takes_the_place_of_another_store() {
        let mut raw: RawStore = crate::yaml::read("file: { path: /c.yaml }").unwrap();
        let over = KubernetesOverrides {
            kubeconfig: Some("/k".into()),
            network: Some(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}"#.to_owned()),
        };
        raw.merge(None, EtcdOverrides::default(), over);
        let mut errors = Errors::default();
        let Some(StoreConfig::Kubernetes(store)) = raw.check(Asked::default(), &mut errors) else { panic!() };
        assert_eq!(store.kubeconfig, Some("/k".into()));
        // A kubeconfig alone is of no use to another store.
        let mut raw: RawStore = crate::yaml::read("file: { path: /c.yaml }").unwrap();
        let over = KubernetesOverrides { kubeconfig: Some("/k".into()), network: None };
        raw.merge(None, EtcdOverrides::default(), over);
        assert!(matches!(raw.check(Asked::default(), &mut errors), Some(StoreConfig::File(_))));
    }
}
