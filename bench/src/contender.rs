//! What is measured: a plugin with its configuration, run as a runtime would run it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use netns_fixtures::NetNs;
use serde_json::{Value, json};

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

/// One plugin with its configuration.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    program: PathBuf,
    path: PathBuf,
    /// The configuration in a file, so that handing it over costs every contender the same.
    conf: PathBuf,
}

/// flatnet first: the others are shown as multiples of it.
pub(crate) fn all(bin_dir: &Path, reference_dir: &Path, state: &Path) -> Result<Vec<Contender>> {
    let flatnet = |name: &str, subnets: Value, dir: &str| {
        let conf = json!({ "type": "flatnet", "stateDir": state.join(dir), "subnets": subnets, "mtu": 1500 });
        (name.to_owned(), bin_dir.join("flatnet"), conf)
    };
    let ipam = |dir: &str, ranges: Value| json!({ "type": "host-local", "dataDir": state.join(dir), "ranges": ranges });
    let v4 = |net: u8| json!([{ "subnet": format!("10.{net}.0.0/16") }]);
    let v6 = |net: u8| json!([{ "subnet": format!("fd00:{net}::/64") }]);
    let bridge = |name: &str, link: &str, ipam: Value| {
        let conf = json!({ "type": "bridge", "bridge": link, "isGateway": true, "ipam": ipam });
        (name.to_owned(), reference_dir.join("bridge"), conf)
    };
    let ptp = |name: &str, ipam: Value| {
        (name.to_owned(), reference_dir.join("ptp"), json!({ "type": "ptp", "ipam": ipam }))
    };
    let all = [
        flatnet("flatnet", json!(["10.22.0.0/16"]), "flatnet4"),
        flatnet("flatnet dual stack", json!(["10.23.0.0/16", "fd00:23::/64"]), "flatnet46"),
        bridge("bridge+host-local", "br4", ipam("bridge4", json!([v4(24)]))),
        bridge("bridge+host-local dual stack", "br46", ipam("bridge46", json!([v4(25), v6(25)]))),
        ptp("ptp+host-local", ipam("ptp4", json!([v4(26)]))),
        ptp("ptp+host-local dual stack", ipam("ptp46", json!([v4(27), v6(27)]))),
    ];
    all.into_iter()
        .enumerate()
        .map(|(i, (name, program, mut conf))| {
            ensure!(
                program.exists(),
                "{} is not there (make bench installs and builds it)",
                program.display()
            );
            conf["cniVersion"] = json!("1.0.0");
            conf["name"] = json!(format!("bench{i}"));
            let file = state.join(format!("{i}.json"));
            File::create(&file)?.write_all(conf.to_string().as_bytes())?;
            Ok(Contender { name, program, path: reference_dir.to_owned(), conf: file })
        })
        .collect()
}

/// Lets the kernel finish what the last contender left it: a deletion that starts while the grace period
/// of another is running waits for two.
pub(crate) fn settle() {
    #[expect(clippy::disallowed_methods, reason = "there is no event for the end of a grace period")]
    std::thread::sleep(std::time::Duration::from_millis(40));
}

/// The smallest process there is, started the same way.
pub(crate) fn floor(node: &NetNs) -> Result<f64> {
    node.run(|| {
        #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
        let mut command = Command::new("/bin/true");
        measure(&mut command)
    })?
}

impl Contender {
    /// Runs one verb in `node`'s namespace for a pod in `pod`, and answers with its milliseconds.
    pub(crate) fn time(&self, verb: Verb, node: &NetNs, pod: &NetNs, round: usize) -> Result<f64> {
        let netns = pod.path();
        let measured = node.run(|| {
            #[expect(clippy::disallowed_methods, reason = "a benchmark runs programs")]
            let mut command = Command::new(&self.program);
            command
                .env("CNI_COMMAND", verb.as_str())
                .env("CNI_CONTAINERID", format!("bench{round}"))
                .env("CNI_NETNS", &netns)
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", &self.path)
                .stdin(File::open(&self.conf)?);
            measure(&mut command)
        });
        measured?.with_context(|| format!("{} {}", self.name, verb.as_str()))
    }
}

fn measure(command: &mut Command) -> Result<f64> {
    let (out, write) = std::io::pipe()?;
    command.stdout(write).stderr(Stdio::inherit());
    let start = Instant::now();
    let status = command.status()?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    // Lets go of the writing end, so that reading ends.
    command.stdout(Stdio::null());
    ensure!(status.success(), "{status}: {}", std::io::read_to_string(out)?.trim());
    Ok(ms)
}
