//! What is measured: a chain of plugins with its configuration, run as a runtime would run it, or another
//! program that does a plugin's work.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use netns_fixtures::NetNs;
use serde_json::{Value, json};

use super::usage::{Launcher, Usage};
use crate::cni;

/// ADD or DEL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verb {
    Add,
    Del,
}

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// One way of connecting a pod.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// How a contender is run.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Nothing but a process: `/bin/true`.
    Process,
    /// The kernel's work alone: `floor`.
    Kernel(PathBuf),
    /// Plugins in the order of their list, each with its configuration.
    Chain(Vec<Value>),
    /// Netavark with its options; it speaks no CNI.
    Netavark(PathBuf, Value),
}

/// Where programs are, and where contenders keep their state.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) launcher: Launcher,
    /// Directories of plugins, as in `CNI_PATH`.
    pub(crate) plugins: Vec<PathBuf>,
    /// A tmpfs, as under `/run` on a real node.
    pub(crate) state: PathBuf,
}

/// The node and the pod of one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round<'a> {
    pub(crate) node: &'a NetNs,
    pub(crate) pod: &'a NetNs,
    /// Unique among all rounds.
    pub(crate) id: &'a str,
}

impl Place {
    fn plugin(&self, kind: &str) -> Result<PathBuf> {
        let found = self.plugins.iter().map(|dir| dir.join(kind)).find(|path| path.exists());
        found.with_context(|| format!("there is no plugin {kind} in {:?}", self.plugins))
    }

    fn cni_path(&self) -> String {
        let dirs: Vec<String> = self.plugins.iter().map(|dir| dir.display().to_string()).collect();
        dirs.join(":")
    }
}

impl Contender {
    /// Runs one verb and answers with what it cost.
    ///
    /// # Errors
    /// A program of it failed, or is not there.
    pub(crate) fn run(&self, verb: Verb, place: &Place, round: Round<'_>) -> Result<Usage> {
        let run = || match &self.kind {
            Kind::Process => {
                Ok(place.launcher.measure(&mut place.launcher.command(Path::new("/bin/true")))?.0)
            }
            Kind::Kernel(floor) => kernel(floor, verb, place, round),
            Kind::Chain(chain) => chained(chain, verb, place, round),
            Kind::Netavark(program, options) => netavark(program, options, verb, place, round),
        };
        round.node.run(run)?.with_context(|| format!("{} {}", self.name, verb.as_str()))
    }
}

fn kernel(floor: &Path, verb: Verb, place: &Place, round: Round<'_>) -> Result<Usage> {
    let mut command = place.launcher.command(floor);
    match verb {
        Verb::Add => command.arg("add").arg(round.pod.path()).arg("floor"),
        Verb::Del => command.arg("del").arg("floor"),
    };
    Ok(place.launcher.measure(&mut command)?.0)
}

/// In order for ADD, each plugin given the result of the one before; in reverse for DEL, all given the
/// last result (CNI spec, section 3).
fn chained(chain: &[Value], verb: Verb, place: &Place, round: Round<'_>) -> Result<Usage> {
    let cached = place.state.join(format!("result-{}.json", round.id));
    let mut order: Vec<&Value> = chain.iter().collect();
    let mut before: Option<Value> = None;
    if verb == Verb::Del {
        order.reverse();
        before = Some(serde_json::from_slice(&fs::read(&cached)?)?);
    }
    let mut usage = Usage::default();
    for conf in order {
        let mut request = conf.clone();
        if let Some(before) = &before {
            request["prevResult"] = before.clone();
        }
        let stdin = place.state.join("request.json");
        fs::write(&stdin, request.to_string())?;
        let kind = conf["type"].as_str().context("a configuration without type")?;
        let mut command = place.launcher.command(&place.plugin(kind)?);
        cni::call(&mut command, verb.as_str(), round.id, round.pod, &place.cni_path());
        command.stdin(File::open(&stdin)?);
        let (cost, printed) = place.launcher.measure(&mut command).with_context(|| kind.to_owned())?;
        usage = usage.then(cost);
        if verb == Verb::Add {
            before = Some(serde_json::from_str(&printed).with_context(|| format!("result of {kind}"))?);
        }
    }
    if let (Verb::Add, Some(result)) = (verb, before) {
        fs::write(cached, result.to_string())?;
    }
    Ok(usage)
}

fn netavark(program: &Path, options: &Value, verb: Verb, place: &Place, round: Round<'_>) -> Result<Usage> {
    let mut request = options.clone();
    request["container_id"] = json!(round.id);
    request["container_name"] = json!(round.id);
    let stdin = place.state.join("request.json");
    fs::write(&stdin, request.to_string())?;
    let mut command = place.launcher.command(program);
    command
        .arg("--config")
        .arg(place.state.join("netavark"))
        .arg(if verb == Verb::Add { "setup" } else { "teardown" })
        .arg(round.pod.path())
        .stdin(File::open(&stdin)?);
    Ok(place.launcher.measure(&mut command)?.0)
}

/// Starts ADD for every pod at once and waits for all; answers with the milliseconds of the whole.
///
/// # Errors
/// One of them failed.
pub(crate) fn all_at_once(conf: &Value, place: &Place, node: &NetNs, pods: &[NetNs]) -> Result<f64> {
    let stdin = place.state.join("at-once.json");
    fs::write(&stdin, conf.to_string())?;
    let plugin = place.plugin(conf["type"].as_str().context("a configuration without type")?)?;
    let path = place.cni_path();
    let run = || -> Result<f64> {
        let start = std::time::Instant::now();
        let mut children = Vec::new();
        for (i, pod) in pods.iter().enumerate() {
            #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
            let mut command = std::process::Command::new(&plugin);
            cni::call(&mut command, "ADD", &format!("atonce{i}"), pod, &path);
            command.stdin(File::open(&stdin)?).stdout(Stdio::null());
            children.push(command.spawn()?);
        }
        for mut child in children {
            let status = child.wait()?;
            ensure!(status.success(), "an ADD of {} ended with {status}", plugin.display());
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    node.run(run)?
}
