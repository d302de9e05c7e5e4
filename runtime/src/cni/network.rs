//! A network on a node: chains of plugins, forward to attach, backward to detach.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use super::{
    IFNAME,
    cache::{Cache, Entry},
    call::{CallEnv, call, find, parse},
    capabilities::Capabilities,
    conf::{NetworkConf, VERSIONS},
};
use crate::state::{Lock, NodeRecord};

/// The version that brought STATUS and GC.
const WITH_GC: &str = "1.1.0";
/// The version that brought CHECK.
const WITH_CHECK: &str = "0.4.0";

/// What is attached to what.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) container_id: String,
    pub(crate) netns: PathBuf,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
}

impl Attachment {
    /// CNI_ARGS, as Kubernetes' runtimes give them.
    fn args(&self) -> Vec<[String; 2]> {
        let pair = |key: &str, value: &str| [key.to_owned(), value.to_owned()];
        vec![
            pair("IgnoreUnknown", "1"),
            pair("K8S_POD_NAMESPACE", &self.namespace),
            pair("K8S_POD_NAME", &self.pod),
            pair("K8S_POD_INFRA_CONTAINER_ID", &self.container_id),
            pair("K8S_POD_UID", &self.uid),
        ]
    }
}

/// One attachment to one network in one version.
#[derive(Debug, Clone, Copy)]
struct Chain<'a> {
    conf: &'a NetworkConf,
    version: &'a str,
    entry: &'a Entry,
}

/// The networks of one node.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    node: NodeRecord,
    cache: Cache,
}

impl Network {
    /// The networks of `node`.
    pub(crate) fn of(node: &NodeRecord) -> Self {
        Self { node: node.clone(), cache: Cache::new(&node.cni_cache_dir) }
    }

    /// The node's first network and the files of its plugins, as a user would want to be told.
    pub(crate) fn programs(&self) -> Result<String> {
        let conf = NetworkConf::first_of(&self.node.cni_conf_dir)?;
        let files = conf.plugins.iter().map(|plugin| find(&self.node, type_of(plugin)));
        let files =
            files.map(|file| file.map(|file| file.display().to_string())).collect::<Result<Vec<_>>>()?;
        Ok(format!("network {}: {}", conf.name, files.join(" ")))
    }

    /// Attaches to the node's first network: each plugin gets the result of the one before. When one of them
    /// fails, all are told to take back what they did.
    pub(crate) fn add(&self, to: &Attachment, capabilities: &Capabilities) -> Result<Vec<IpAddr>> {
        let _shared = Lock::share(&self.lock_file()?)?;
        let conf = NetworkConf::first_of(&self.node.cni_conf_dir)?;
        let knows_ports = |plugin: &Map<String, Value>| {
            plugin.get("capabilities").is_some_and(|all| all["portMappings"] == json!(true))
        };
        if capabilities.has_ports() && !conf.plugins.iter().any(knows_ports) {
            bail!(
                "network {} has no plugin for host ports: add one with the capability portMappings",
                conf.name
            );
        }
        let version = self.version(&conf)?;
        let mut entry = Entry::new(&conf.name, &conf.raw);
        entry.container_id.clone_from(&to.container_id);
        entry.netns = to.netns.to_string_lossy().into_owned();
        entry.cni_args = to.args();
        entry.capability_args = capabilities.0.clone();
        // From here on there may be something to take back, whatever happens to us.
        self.cache.put(&entry)?;
        match self.add_chain(&conf, version, &entry) {
            Ok(result) => {
                let addresses = addresses(&result)?;
                entry.result = Some(result);
                self.cache.put(&entry)?;
                Ok(addresses)
            }
            Err(cause) => Err(match self.del_entry(&entry, &entry.netns) {
                Ok(()) => cause,
                Err(also) => cause.context(format!("taking it back did not work either: {also:#}")),
            }),
        }
    }

    /// Detaches from whatever it is attached to, by the configuration that was used to attach.
    pub(crate) fn del(&self, container_id: &str) -> Result<()> {
        let _shared = Lock::share(&self.lock_file()?)?;
        for entry in self.cache.all().iter().filter(|entry| entry.container_id == container_id) {
            // "If the namespace is gone, CNI_NETNS is empty."
            let netns = if Path::new(&entry.netns).exists() { entry.netns.as_str() } else { "" };
            self.del_entry(entry, netns)?;
        }
        self.cache.sweep(container_id)
    }

    /// Asks the plugins whether an attachment is as it should be.
    pub(crate) fn check(&self, container_id: &str) -> Result<()> {
        for entry in self.cache.all().iter().filter(|entry| entry.container_id == container_id) {
            let conf = NetworkConf::parse(entry.config()?)?;
            let version = self.version(&conf)?;
            if conf.disable_check || !at_least(version, WITH_CHECK) {
                continue;
            }
            for plugin in &conf.plugins {
                self.call("CHECK", &Chain { conf: &conf, version, entry }, plugin, entry.result.as_ref())?;
            }
        }
        Ok(())
    }

    /// Removes what belongs to none of the `valid` containers: first what is remembered, then by asking the plugins.
    pub(crate) fn gc(&self, valid: &[String]) -> Result<usize> {
        let _alone = Lock::take(&self.lock_file()?)?;
        let (keep, stale): (Vec<_>, Vec<_>) =
            self.cache.all().into_iter().partition(|entry| valid.contains(&entry.container_id));
        for entry in &stale {
            let netns = if Path::new(&entry.netns).exists() { entry.netns.as_str() } else { "" };
            self.del_entry(entry, netns)?;
        }
        let Ok(conf) = NetworkConf::first_of(&self.node.cni_conf_dir) else {
            return Ok(stale.len());
        };
        let version = self.version(&conf)?;
        if conf.disable_gc || !at_least(version, WITH_GC) {
            return Ok(stale.len());
        }
        let attachment =
            |entry: &Entry| json!({ "containerID": entry.container_id, "ifname": entry.if_name });
        let valid: Vec<_> = keep.iter().filter(|e| e.network_name == conf.name).map(attachment).collect();
        let env = CallEnv { verb: "GC", ..CallEnv::default() };
        for plugin in &conf.plugins {
            let mut stdin = base_conf(&conf, plugin, version);
            // libcni sends both: the second name is an old mistake that plugins were written for.
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                stdin.insert(key.to_owned(), json!(valid));
            }
            call(&self.node, type_of(plugin), &env, &Value::Object(stdin))?;
        }
        Ok(stale.len())
    }

    /// Asks the plugins whether they could attach now.
    pub(crate) fn status(&self) -> Result<()> {
        let conf = NetworkConf::first_of(&self.node.cni_conf_dir)?;
        let version = self.version(&conf)?;
        if !at_least(version, WITH_GC) {
            return Ok(());
        }
        let env = CallEnv { verb: "STATUS", ..CallEnv::default() };
        conf.plugins.iter().try_for_each(|plugin| {
            let stdin = Value::Object(base_conf(&conf, plugin, version));
            call(&self.node, type_of(plugin), &env, &stdin).map(drop)
        })
    }

    /// The node's lock: GC holds it alone, everything else shares it. A container has one supervisor, so no two
    /// operations on one container meet either.
    fn lock_file(&self) -> Result<PathBuf> {
        let dir = &self.node.cni_cache_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir.join("flatpod.lock"))
    }

    fn add_chain(&self, conf: &NetworkConf, version: &str, entry: &Entry) -> Result<Value> {
        let mut result = None;
        for plugin in &conf.plugins {
            let answer = self.call("ADD", &Chain { conf, version, entry }, plugin, result.as_ref())?;
            result = Some(parse(type_of(plugin), &answer)?);
        }
        result.context("a network has at least one plugin")
    }

    fn del_entry(&self, entry: &Entry, netns: &str) -> Result<()> {
        let conf = NetworkConf::parse(entry.config()?)?;
        let version = self.version(&conf)?;
        let mut entry = entry.clone();
        netns.clone_into(&mut entry.netns);
        for plugin in conf.plugins.iter().rev() {
            self.call("DEL", &Chain { conf: &conf, version, entry: &entry }, plugin, entry.result.as_ref())?;
        }
        self.cache.remove(&entry)
    }

    fn call(
        &self,
        verb: &str,
        chain: &Chain<'_>,
        plugin: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let Chain { conf, version, entry } = *chain;
        let mut stdin = base_conf(conf, plugin, version);
        let told = Capabilities(entry.capability_args.clone()).for_plugin(plugin);
        if !told.is_empty() {
            stdin.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        // Before 0.4.0, DEL had no previous result.
        if let Some(previous) = previous.filter(|_| verb == "ADD" || at_least(version, WITH_CHECK)) {
            stdin.insert("prevResult".to_owned(), previous.clone());
        }
        let args: Vec<_> = entry.cni_args.iter().map(|[key, value]| format!("{key}={value}")).collect();
        let env = CallEnv {
            verb,
            container_id: &entry.container_id,
            netns: &entry.netns,
            ifname: &entry.if_name,
            args: args.join(";"),
        };
        call(&self.node, type_of(plugin), &env, &Value::Object(stdin))
    }

    /// The version to speak: the one that the network names, or the newest of several that all plugins know.
    fn version(&self, conf: &NetworkConf) -> Result<&'static str> {
        if let [only] = conf.versions.as_slice() {
            return Ok(only);
        }
        let mut common = conf.versions.clone();
        for plugin in &conf.plugins {
            let env = CallEnv { verb: "VERSION", ..CallEnv::default() };
            let newest = common.last().copied().unwrap_or(WITH_GC);
            let answer = call(&self.node, type_of(plugin), &env, &json!({ "cniVersion": newest }))?;
            let answer = parse(type_of(plugin), &answer)?;
            common.retain(|version| {
                answer["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!(version)))
            });
        }
        let named = conf.versions.join(", ");
        common
            .last()
            .copied()
            .with_context(|| format!("no plugin chain of {} speaks any of {named}", conf.name))
    }
}

/// What every invocation of `plugin` has on its stdin.
fn base_conf(conf: &NetworkConf, plugin: &Map<String, Value>, version: &str) -> Map<String, Value> {
    let mut stdin = plugin.clone();
    stdin.remove("capabilities");
    stdin.insert("name".to_owned(), json!(conf.name));
    stdin.insert("cniVersion".to_owned(), json!(version));
    stdin
}

fn type_of(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn at_least(version: &str, wanted: &str) -> bool {
    let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
    place(version) >= place(wanted)
}

/// The addresses of the pod's own interface.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let interfaces = result["interfaces"].as_array();
    let is_pods = |ip: &&Value| match ip["interface"].as_u64().and_then(|at| usize::try_from(at).ok()) {
        None => true,
        Some(at) => interfaces.and_then(|all| all.get(at)).is_some_and(|one| one["name"] == json!(IFNAME)),
    };
    let parse = |ip: &Value| {
        let text = ip["address"].as_str().unwrap_or_default();
        text.parse::<IpNetwork>().map(|address| address.ip()).map_err(|e| anyhow!("address {text:?}: {e}"))
    };
    let found: Vec<_> =
        result["ips"].as_array().into_iter().flatten().filter(is_pods).map(parse).collect::<Result<_>>()?;
    if found.is_empty() {
        bail!("the network gave the pod no address");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pods_own_interface_counts() {
        let result = json!({
            "interfaces": [{ "name": "br0" }, { "name": "eth0", "sandbox": "/x" }],
            "ips": [{ "address": "10.0.0.1/24", "interface": 0 }, { "address": "10.0.0.2/24", "interface": 1 },
                    { "address": "fd00::2/64" }],
        });
        let found: Vec<_> = addresses(&result).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "fd00::2"]);
        assert!(addresses(&json!({ "ips": [] })).is_err());
    }

    #[test]
    fn versions_are_ordered() {
        assert!(at_least("1.1.0", "0.4.0") && at_least("0.4.0", "0.4.0") && !at_least("0.3.1", "0.4.0"));
    }
}
