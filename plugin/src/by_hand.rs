//! `flatnet` run by a person: what it is, and what is attached on this node.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flatnet_core::cni::check;
use flatnet_core::cni::conf::DEFAULT_STATE_DIR;
use flatnet_core::cni::version::Version;
use flatnet_node_state::StateDir;

use crate::{Io, repair};

const HELP: &str = "\
Flatnet's CNI plugin: gives a pod one routable address per family over a routed veth pair.

A container runtime runs it with CNI_COMMAND set. To install it, copy it to the runtime's plugin
directory (mostly /opt/cni/bin) and put a network configuration list into /etc/cni/net.d:

  {\"cniVersion\": \"1.0.0\", \"cniVersions\": [\"0.4.0\", \"1.0.0\", \"1.1.0\"], \"name\": \"flatnet\",
   \"plugins\": [{\"type\": \"flatnet\"}]}

With flatnetd on the node that is all. Without it, name the node's own pod subnets:
   \"plugins\": [{\"type\": \"flatnet\", \"subnets\": [\"10.22.0.0/24\", \"fd00:22::/64\"]}]

Usage: flatnet [COMMAND]

Commands:
  list [--state-dir DIR] [--output json]   show this node's attachments
  repair [CONTAINER] [--state-dir DIR] [--output json]
                                           put running pods back to their records, without a restart;
                                           CONTAINER: an id, or the beginning of one
  check-config FILE                        say everything that is wrong with a configuration (list)

Under the file name loopback it is the loopback plugin that containerd asks for.

Options:
  --help       show this
  --version    show the version and the CNI versions spoken

Exit status: 0 done, 1 failed, 2 wrong usage.
";

enum Asked {
    Help,
    Version,
    List { state_dir: PathBuf, json: bool },
    CheckConfig(PathBuf),
    Repair { container: Option<String>, state_dir: PathBuf, json: bool },
}

pub(crate) fn run(io: &mut Io<'_>) -> ExitCode {
    let asked = match parse(&io.args) {
        Ok(asked) => asked,
        Err(why) => return fail(io.stderr, &format!("{why}; see flatnet --help"), 2),
    };
    let done = match asked {
        Asked::Help => io.stdout.write_all(HELP.as_bytes()).map_err(|e| e.to_string()),
        Asked::Version => version(io.stdout).map_err(|e| e.to_string()),
        Asked::CheckConfig(file) => check_config(io.stdout, &file),
        Asked::List { state_dir, json } => list(io, &StateDir::new(state_dir), json),
        Asked::Repair { container, state_dir, json } => {
            match repair::run(io, &StateDir::new(state_dir), container.as_deref(), json) {
                Err(repair::Failure::Ambiguous(why)) => return fail(io.stderr, &why, 2),
                other => other.map_err(|e| e.to_string()),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(io.stderr, &e, 1),
    }
}

fn fail(stderr: &mut dyn Write, why: &str, code: u8) -> ExitCode {
    // With stderr gone the exit status is all that is left to say.
    let _ = writeln!(stderr, "flatnet: {why}");
    ExitCode::from(code)
}

fn parse(args: &[String]) -> Result<Asked, String> {
    let mut args = args.iter().map(String::as_str);
    match args.next() {
        None | Some("--help" | "-h" | "help") => Ok(Asked::Help),
        Some("--version" | "-V") => Ok(Asked::Version),
        Some("list") => {
            let (mut state_dir, mut json) = (PathBuf::from(DEFAULT_STATE_DIR), false);
            while let Some(arg) = args.next() {
                match (arg, args.next()) {
                    ("--state-dir", Some(dir)) => state_dir = PathBuf::from(dir),
                    ("--output" | "-o", Some("json")) => json = true,
                    ("--output" | "-o", Some("table")) => json = false,
                    (other, _) => return Err(format!("list does not take {other:?} so")),
                }
            }
            Ok(Asked::List { state_dir, json })
        }
        Some("repair") => repair_arguments(args),
        Some("check-config") => match (args.next(), args.next()) {
            (Some(file), None) => Ok(Asked::CheckConfig(PathBuf::from(file))),
            _ => Err("check-config takes one file".to_owned()),
        },
        Some(other) => Err(format!("unknown command {other:?}")),
    }
}

fn repair_arguments<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<Asked, String> {
    let (mut container, mut state_dir, mut json) = (None, PathBuf::from(DEFAULT_STATE_DIR), false);
    while let Some(arg) = args.next() {
        match arg {
            "--state-dir" => state_dir = args.next().ok_or("--state-dir takes a directory")?.into(),
            "--output" | "-o" => match args.next() {
                Some("json") => json = true,
                Some("text") => json = false,
                other => return Err(format!("--output takes text or json, not {other:?}")),
            },
            option if option.starts_with('-') => return Err(format!("repair does not take {option:?}")),
            id if container.is_none() && !id.is_empty() => container = Some(id.to_owned()),
            other => return Err(format!("repair takes one container, {other:?} is too much")),
        }
    }
    Ok(Asked::Repair { container, state_dir, json })
}

/// One line for each problem, so that one run is enough to mend them all.
fn check_config(stdout: &mut dyn Write, file: &Path) -> Result<(), String> {
    let name = file.display();
    let text = std::fs::read(file).map_err(|e| format!("read {name}: {e}"))?;
    let problems = check::problems(&text);
    if problems.is_empty() {
        return writeln!(stdout, "{name}: ok").map_err(|e| e.to_string());
    }
    let lines: Vec<String> = problems.iter().map(|problem| format!("{name}: {problem}")).collect();
    Err(lines.join("\nflatnet: "))
}

fn version(stdout: &mut dyn Write) -> io::Result<()> {
    let spoken = Version::ALL.map(Version::as_str).join(", ");
    writeln!(stdout, "flatnet {} (CNI {spoken})", env!("CARGO_PKG_VERSION"))
}

fn list(io: &mut Io<'_>, state: &StateDir, json: bool) -> Result<(), String> {
    let (records, damaged) = state.attachments().list().map_err(|e| e.to_string())?;
    for e in &damaged {
        writeln!(io.stderr, "flatnet: {e}").map_err(|e| e.to_string())?;
    }
    if json {
        serde_json::to_writer_pretty(&mut *io.stdout, &records).map_err(|e| e.to_string())?;
        return writeln!(io.stdout).map_err(|e| e.to_string());
    }
    let rows = records.iter().map(|r| {
        let addresses = r.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let container: String = r.container.as_str().chars().take(12).collect();
        let pod = r.pod.clone().unwrap_or_else(|| "-".to_owned());
        [pod, container, r.ifname.to_string(), r.host_ifname.to_string(), addresses, r.network.to_string()]
    });
    let header =
        ["POD", "CONTAINER", "INTERFACE", "HOST INTERFACE", "ADDRESSES", "NETWORK"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        writeln!(io.stdout, "{}", cells.join("  ").trim_end()).map_err(|e| e.to_string())?;
    }
    Ok(())
}
