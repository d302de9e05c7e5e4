//! `flatnetd uninstall`: the other configurations back, ours away, then the plugin.

use anyhow::bail;
use flatnet_node_state::StateDir;

use super::args::{Places, UninstallArgs};
use super::folder::Folder;
use super::netconf;
use super::plan::{self, CONFLIST};
use super::record::{self, Content, Record};
use super::report::{Done, Report};
use super::{LOOPBACK, PLUGIN, configurations};

/// Runs it and prints what was done, also where it fails half-way.
///
/// # Errors
/// What could not be done, and the remedy.
pub(crate) fn uninstall(args: &UninstallArgs, as_json: bool) -> anyhow::Result<()> {
    let mut report = Report::default();
    let done = uninstall_all(args, &mut report);
    report.print(as_json);
    done
}

fn uninstall_all(args: &UninstallArgs, report: &mut Report) -> anyhow::Result<()> {
    let Places { bin_dir, conf_dir, .. } = &args.places;
    let (conf, bin) = (Folder::open(conf_dir)?, Folder::open(bin_dir)?);
    if !args.force {
        let state = StateDir::new(args.places.local()?.state_dir);
        let mut reasons: Vec<String> = attached(&state)?.into_iter().collect();
        if let Some(conf) = &conf {
            reasons.extend(callers(conf)?);
        }
        if !reasons.is_empty() {
            bail!(
                "the plugin is in use, and nothing was removed: {}; --force removes it all the same",
                reasons.join("; ")
            );
        }
    }
    if let Some(conf) = &conf {
        restore(conf, report)?;
        remove_configuration(conf, report)?;
        let files = configurations(conf)?;
        if netconf::used(&files).is_none() && !report.files.is_empty() {
            report.warnings.push(format!("no network configuration is left in {}", conf_dir.display()));
        }
        report.show_configurations(&files);
    }
    if let Some(bin) = &bin {
        remove_plugin(bin, report)?;
    }
    if report.files.is_empty() {
        report.warnings.push(format!(
            "nothing of ours is in {} and {}",
            bin_dir.display(),
            conf_dir.display()
        ));
    }
    Ok(())
}

/// Pods whose interfaces only the plugin removes.
fn attached(state: &StateDir) -> anyhow::Result<Option<String>> {
    let (records, damaged) = state.attachments().list()?;
    let count = records.len() + damaged.len();
    let named = records.iter().take(3).map(|a| a.pod.clone().unwrap_or_else(|| a.container.to_string()));
    let named = named.collect::<Vec<_>>().join(", ");
    Ok((count > 0).then(|| format!("{count} pods are attached ({named}), remove them first (flatnet list)")))
}

/// Configurations that name the plugin, and that nobody of us wrote.
fn callers(conf: &Folder) -> anyhow::Result<Vec<String>> {
    let record = Record::read(conf)?;
    let mut found = Vec::new();
    for file in configurations(conf)?.into_iter().filter(netconf::ConfFile::calls_flatnet) {
        let ours = file.name == CONFLIST
            && conf.read(CONFLIST)?.is_some_and(|content| record.has(CONFLIST, &content.into()));
        if !ours {
            found.push(format!("{} calls it and is not from an install", conf.path(&file.name).display()));
        }
    }
    Ok(found)
}

/// Gives configurations that stood back their names again.
fn restore(conf: &Folder, report: &mut Report) -> anyhow::Result<()> {
    for hidden in conf.names()? {
        let Some(original) = plan::original(&hidden) else { continue };
        match conf.read(original)? {
            None => {
                conf.rename(&hidden, original)?;
                report.note(conf.path(original), Done::Restored);
            }
            Some(again) if conf.read(&hidden)?.as_ref() == Some(&again) => {
                conf.remove(&hidden)?;
                report.note(conf.path(&hidden), Done::Removed);
            }
            Some(_) => {
                report
                    .warnings
                    .push(format!("{original} is there again and differs from {hidden}; compare them"));
                report.note(conf.path(&hidden), Done::Kept);
            }
        }
    }
    Ok(())
}

/// Takes our configuration away. One that somebody changed goes too: whoever minds was asked before.
fn remove_configuration(conf: &Folder, report: &mut Report) -> anyhow::Result<()> {
    let record = Record::read(conf)?;
    if let Some(content) = conf.read(CONFLIST)?.map(Content::from) {
        let file = netconf::ConfFile::new(CONFLIST.to_owned(), &content.bytes);
        if record.has(CONFLIST, &content) || file.calls_flatnet() || file.network.is_err() {
            conf.remove(CONFLIST)?;
            report.note(conf.path(CONFLIST), Done::Removed);
        } else {
            report.note(conf.path(CONFLIST), Done::Kept);
        }
    }
    forget(conf, &[CONFLIST])
}

/// Takes the plugin away where an install put it there.
fn remove_plugin(bin: &Folder, report: &mut Report) -> anyhow::Result<()> {
    let record = Record::read(bin)?;
    // The plugin last: `loopback` may be a link to it.
    for name in [LOOPBACK, PLUGIN] {
        let Some(content) = bin.read(name)?.map(Content::from) else { continue };
        if record.has(name, &content) {
            bin.remove(name)?;
            report.note(bin.path(name), Done::Removed);
        } else {
            report.note(bin.path(name), Done::Kept);
        }
    }
    forget(bin, &[LOOPBACK, PLUGIN])
}

/// Takes away the record and what killed installs left.
fn forget(folder: &Folder, names: &[&str]) -> anyhow::Result<()> {
    for name in names.iter().chain([&record::NAME]) {
        folder.forget(name)?;
    }
    Ok(folder.remove(record::NAME)?)
}
