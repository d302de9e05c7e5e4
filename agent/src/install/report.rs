//! What was done, for a person or a program.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::netconf::{self, ConfFile};
use crate::output;

/// What became of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Done {
    /// It was not there.
    Installed,
    /// Something else was there.
    Replaced,
    /// It was there already.
    Unchanged,
    /// It is not ours, so it stays.
    Kept,
    /// It was renamed, so that no runtime loads it.
    Disabled,
    /// It has its name again.
    Restored,
    /// It is gone.
    Removed,
}

impl Done {
    /// Whether anything is different now.
    pub(crate) fn is_change(self) -> bool {
        !matches!(self, Self::Unchanged | Self::Kept)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Replaced => "replaced",
            Self::Unchanged => "unchanged",
            Self::Kept => "kept",
            Self::Disabled => "disabled",
            Self::Restored => "restored",
            Self::Removed => "removed",
        }
    }
}

/// One file.
#[derive(Debug, Serialize)]
pub(crate) struct FileReport {
    pub(crate) path: PathBuf,
    pub(crate) result: Done,
}

/// One file that runtimes look into, in their order.
#[derive(Debug, Serialize)]
struct ConfigurationReport {
    file: String,
    network: Option<String>,
    plugins: Vec<String>,
    /// Why it cannot be loaded.
    problem: Option<String>,
    /// Whether this is the one that runtimes use.
    used: bool,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) files: Vec<FileReport>,
    configurations: Vec<ConfigurationReport>,
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn note(&mut self, path: PathBuf, result: Done) {
        self.files.push(FileReport { path, result });
    }

    /// Shows the configurations as they are in the end.
    pub(crate) fn show_configurations(&mut self, files: &[ConfFile]) {
        let used = netconf::used(files).map(|file| &file.name);
        let shown = |file: &ConfFile| {
            let (network, problem) = match &file.network {
                Ok(network) => (Some(network.clone()), None),
                Err(why) => (None, Some(why.clone())),
            };
            ConfigurationReport {
                file: file.name.clone(),
                used: Some(&file.name) == used,
                plugins: network.as_ref().map(|network| network.plugins.clone()).unwrap_or_default(),
                network: network.map(|network| network.name),
                problem,
            }
        };
        self.configurations = files.iter().map(shown).collect();
    }

    /// Prints it.
    pub(crate) fn print(&self, as_json: bool) {
        let text = if as_json {
            serde_json::to_string_pretty(self).expect("text and lists of text are JSON")
        } else {
            self.text()
        };
        if !text.is_empty() {
            output::say(text.trim_end());
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        for file in &self.files {
            let _ = writeln!(text, "{:<9} {}", file.result.word(), file.path.display());
        }
        if self.configurations.len() > 1 {
            text.push_str("configurations, in the order of runtimes:\n");
        }
        for conf in self.configurations.iter().filter(|_| self.configurations.len() > 1) {
            let said = match (&conf.network, &conf.problem) {
                (_, Some(problem)) => problem.clone(),
                (network, None) => {
                    format!(
                        "network {}, plugins {}",
                        network.as_deref().unwrap_or_default(),
                        conf.plugins.join(" ")
                    )
                }
            };
            let mark = if conf.used { "* " } else { "  " };
            let _ = writeln!(text, "  {mark}{:<28} {said}", conf.file);
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }
}
