//! `flatnetd install` and `flatnetd uninstall`: the plugin in the runtime's plugin directory, and the network
//! configuration in its configuration directory.
//!
//! The order is what makes every step safe to be killed after: the plugin is there before a configuration
//! names it, ours is loaded before another one stands back, the others are back before ours goes.

pub(crate) mod args;
mod folder;
mod netconf;
mod plan;
mod record;
mod report;
mod snapshot_wait;
mod uninstall;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use flatnet_node_state::StateDir;
use ipnetwork::IpNetwork;

use args::InstallArgs;
use folder::{Folder, FolderError};
use netconf::ConfFile;
use plan::{CONFLIST, Standing};
use record::{Content, Record};
use report::{Done, Report};

pub(crate) use uninstall::uninstall;

/// The plugin's file.
const PLUGIN: &str = "flatnet";
/// The same program under another name is the plugin that containerd asks for beside every network.
const LOOPBACK: &str = "loopback";
const PROGRAM_MODE: u32 = 0o755;
const CONFIGURATION_MODE: u32 = 0o644;

/// What is done about configurations that runtimes prefer to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// They are named.
    Leave,
    /// They are renamed until an uninstall.
    TakeOver,
}

impl Others {
    /// From a flag or a key.
    pub(crate) fn take_over(yes: bool) -> Self {
        if yes { Self::TakeOver } else { Self::Leave }
    }
}

/// The configuration that there shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The runtime's configuration directory.
    pub(crate) conf_dir: PathBuf,
    /// Where the plugin finds the agent's snapshot.
    pub(crate) state_dir: PathBuf,
    /// Pod subnets of a machine without an agent; empty with one.
    pub(crate) subnets: Vec<IpNetwork>,
    /// What is done about the others.
    pub(crate) others: Others,
}

/// Runs `flatnetd install` and prints what was done, also where it fails half-way.
///
/// # Errors
/// What could not be done, and the remedy.
pub(crate) fn install(args: &InstallArgs, as_json: bool) -> anyhow::Result<()> {
    let mut report = Report::default();
    let done = install_all(args, &mut report);
    report.print(as_json);
    done
}

fn install_all(args: &InstallArgs, report: &mut Report) -> anyhow::Result<()> {
    let places = &args.places;
    if places.bin_dir == places.conf_dir {
        bail!("--bin-dir and --conf-dir are both {}; give two directories", places.bin_dir.display());
    }
    let wish = Wish {
        conf_dir: places.conf_dir.clone(),
        state_dir: places.local()?.state_dir,
        subnets: args.subnets.clone(),
        others: Others::take_over(args.take_over),
    };
    // Everything that can be refused is, before anything is touched.
    let wanted = wanted(&wish)?;
    let plugin = read_plugin(args.plugin.as_deref())?;
    install_plugin(&places.bin_dir, &plugin, report)?;
    if args.binaries_only {
        return Ok(());
    }
    if wish.subnets.is_empty() && waits_for_agent(&wish, &wanted)? {
        await_snapshot(&wish.state_dir, args.wait.map(Duration::from_secs))?;
    }
    install_configuration(&wish, &wanted, report)
}

/// Sees to it that the configuration is there: for the agent, once it has written the snapshot. What stands in
/// the way of pods, and whether anything was changed.
///
/// # Errors
/// What could not be done, and the remedy.
pub(crate) fn keep_configuration(wish: &Wish) -> anyhow::Result<(Vec<String>, bool)> {
    let mut report = Report::default();
    install_configuration(wish, &wanted(wish)?, &mut report)?;
    let changed = report.files.iter().any(|file| file.result.is_change());
    Ok((report.warnings, changed))
}

fn wanted(wish: &Wish) -> anyhow::Result<Content> {
    let list = plan::conflist(&wish.state_dir, &wish.subnets);
    list.map(Content::from).map_err(|e| anyhow::anyhow!("{CONFLIST}: {e}"))
}

/// Reads the plugin, by default the one that was shipped with this program.
fn read_plugin(named: Option<&Path>) -> anyhow::Result<Content> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => beside_us().context("find this program's own directory; name the plugin with --plugin")?,
    };
    let plugin = fs::read(&path);
    let plugin =
        plugin.with_context(|| format!("read the plugin {}; --plugin names another", path.display()))?;
    if plugin.is_empty() {
        bail!("the plugin {} is empty; --plugin names another", path.display());
    }
    Ok(plugin.into())
}

fn beside_us() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(PLUGIN))
}

fn install_plugin(bin_dir: &Path, plugin: &Content, report: &mut Report) -> anyhow::Result<()> {
    let folder = Folder::make(bin_dir)?;
    let mut record = Record::read(&folder)?;
    folder.forget(record::NAME)?;
    put(&folder, &mut record, (PLUGIN, PROGRAM_MODE), plugin, report)?;
    // Looked at after that: it may be a link to the plugin.
    let found = folder.read(LOOPBACK)?.map(Content::from);
    let is_ours = found
        .as_ref()
        .is_none_or(|found| found == plugin || record.has(LOOPBACK, found) || record.has(PLUGIN, found));
    if is_ours {
        put(&folder, &mut record, (LOOPBACK, PROGRAM_MODE), plugin, report)?;
    } else {
        report.note(folder.path(LOOPBACK), Done::Kept);
    }
    Ok(())
}

/// Puts a file of ours into its place, unless it is there.
fn put(
    folder: &Folder,
    record: &mut Record,
    (name, mode): (&str, u32),
    content: &Content,
    report: &mut Report,
) -> Result<(), FolderError> {
    let found = folder.read(name)?.map(Content::from);
    folder.forget(name)?;
    let done = match &found {
        None => Done::Installed,
        Some(found) if found == content && folder.allows(name, mode)? => Done::Unchanged,
        Some(_) => Done::Replaced,
    };
    if done.is_change() {
        record.expect(folder, name, found.as_ref(), content)?;
        folder.put(name, &content.bytes, mode)?;
    }
    report.note(folder.path(name), done);
    Ok(())
}

/// Whether pods could not start with the configuration unless an agent has written its snapshot.
fn waits_for_agent(wish: &Wish, wanted: &Content) -> anyhow::Result<bool> {
    // Looked at by itself: waiting may take long, and nobody else shall wait for it.
    let Some(folder) = Folder::open(&wish.conf_dir)? else { return Ok(true) };
    Ok(standing(&folder, &Record::read(&folder)?, wanted)?.waits_for_agent())
}

/// What stands where our configuration goes.
fn standing(folder: &Folder, record: &Record, wanted: &Content) -> Result<Standing, FolderError> {
    let Some(found) = folder.read(CONFLIST)?.map(Content::from) else { return Ok(Standing::Absent) };
    Ok(Standing::of(&found.bytes, &wanted.bytes, record.has(CONFLIST, &found)))
}

fn await_snapshot(state_dir: &Path, limit: Option<Duration>) -> anyhow::Result<()> {
    let state = StateDir::new(state_dir);
    let why = match state.snapshot() {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => format!("{} is not there", state_dir.join("node.json").display()),
        Err(e) => e.to_string(),
    };
    let remedy = "without it pods cannot start, so the configuration is not installed; start the agent \
                  (flatnetd run), see how it is (flatnetd status)";
    match limit {
        None => bail!(
            "{why}: {remedy}, and wait for it with --wait SECONDS; or give --subnets for a machine without an agent"
        ),
        Some(limit) if snapshot_wait::wait(&state, limit)? => Ok(()),
        Some(limit) => bail!("{why}, after {} s: {remedy}", limit.as_secs()),
    }
}

fn install_configuration(wish: &Wish, wanted: &Content, report: &mut Report) -> anyhow::Result<()> {
    let folder = Folder::make(&wish.conf_dir)?;
    let mut record = Record::read(&folder)?;
    folder.forget(record::NAME)?;
    let path = folder.path(CONFLIST);
    match standing(&folder, &record, wanted)? {
        Standing::Foreign(plugins) => {
            bail!("{} calls other plugins ({plugins}); rename or remove it", path.display())
        }
        Standing::Edited => {
            report.warnings.push(format!(
                "{CONFLIST} was written or changed by somebody else, and stays as it is; remove it to have it anew"
            ));
            report.note(path, Done::Kept);
        }
        Standing::Absent | Standing::Damaged(_) | Standing::Same | Standing::Earlier { .. } => {
            put(&folder, &mut record, (CONFLIST, CONFIGURATION_MODE), wanted, report)?;
        }
    }
    if wish.others == Others::TakeOver {
        for file in plan::before_ours(&configurations(&folder)?) {
            folder.rename(&file.name, &plan::disabled(&file.name))?;
            report.note(folder.path(&file.name), Done::Disabled);
        }
    }
    let files = configurations(&folder)?;
    report.warnings.extend(plan::in_the_way(&files));
    report.show_configurations(&files);
    Ok(())
}

/// Everything in a directory that runtimes take for a configuration, in their order.
fn configurations(folder: &Folder) -> Result<Vec<ConfFile>, FolderError> {
    let names = folder.names()?.into_iter().filter(|name| netconf::is_configuration(name));
    let read = |name: String| match folder.read(&name) {
        Ok(Some(bytes)) => ConfFile::new(name, &bytes),
        // Gone since it was listed, or a link that leads nowhere.
        Ok(None) => ConfFile { name, network: Err("leads nowhere".to_owned()) },
        Err(e) => ConfFile { name, network: Err(format!("cannot be read: {e}")) },
    };
    Ok(names.map(read).collect())
}
