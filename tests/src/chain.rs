//! Runs a network configuration list as a runtime does (CNI SPEC 1.1.0, section 3).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::plugin::{Answer, PluginNode};
use crate::program;

/// Where Debian's containernetworking-plugins are.
pub const REFERENCE: &str = "/usr/lib/cni";

/// A list of plugins on one node.
#[derive(Debug)]
pub struct Chain<'a> {
    /// The node.
    pub node: &'a PluginNode,
    /// The list's version.
    pub version: &'a str,
    /// The configuration of each plugin, without name and version.
    pub plugins: Vec<Value>,
    /// What the runtime asks for; a plugin gets the keys that its `capabilities` name.
    pub runtime: Value,
}

impl Chain<'_> {
    /// Runs every plugin in order, each with the result of the one before; the last result.
    ///
    /// # Errors
    /// The answer of the plugin that failed.
    pub fn add(&self, container: &str, pod: &Path) -> Result<Value, Answer> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            let answer = self.run("ADD", (container, pod), plugin, &result);
            if !answer.ok {
                return Err(answer);
            }
            result = answer.json;
        }
        Ok(result)
    }

    /// Runs every plugin's CHECK in order, with the list's final result.
    ///
    /// # Errors
    /// The answer of the plugin that failed.
    pub fn check(&self, container: &str, pod: &Path, result: &Value) -> Result<(), Answer> {
        self.plugins.iter().try_for_each(|p| self.ok("CHECK", (container, pod), p, result))
    }

    /// Runs every plugin's DEL in reverse order, with the list's final result.
    ///
    /// # Errors
    /// The answer of the plugin that failed.
    pub fn del(&self, container: &str, pod: &Path, result: &Value) -> Result<(), Answer> {
        self.plugins.iter().rev().try_for_each(|p| self.ok("DEL", (container, pod), p, result))
    }

    fn ok(&self, verb: &str, target: (&str, &Path), plugin: &Value, result: &Value) -> Result<(), Answer> {
        let answer = self.run(verb, target, plugin, result);
        if answer.ok { Ok(()) } else { Err(answer) }
    }

    fn run(&self, verb: &str, (container, pod): (&str, &Path), plugin: &Value, result: &Value) -> Answer {
        let mut conf = plugin.clone();
        conf["cniVersion"] = json!(self.version);
        conf["name"] = json!("chain");
        if !result.is_null() {
            conf["prevResult"] = result.clone();
        }
        let asked = plugin["capabilities"].as_object().into_iter().flatten();
        for (key, _) in asked.filter(|(key, on)| **on == json!(true) && !self.runtime[key].is_null()) {
            conf["runtimeConfig"][key] = self.runtime[key].clone();
        }
        let call = self.node.call(verb, container, pod, &conf);
        // Plugins start iptables by name.
        let path = std::env::var("PATH").unwrap_or_default();
        let call = call.var("CNI_PATH", Some(REFERENCE)).var("PATH", Some(&path));
        self.node.execute(&executable(plugin), &call)
    }
}

fn executable(plugin: &Value) -> PathBuf {
    match plugin["type"].as_str() {
        Some("flatnet") => program("flatnet"),
        other => Path::new(REFERENCE).join(other.unwrap_or_default()),
    }
}
