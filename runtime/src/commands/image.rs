//! `image`: what can be run.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::get::columns;
use crate::{
    image::{ImageConfig, Store},
    state::Root,
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Give a directory with a root file system a name; it is used where it is, and never written to
    Import(ImportArgs),
    /// List images
    Ls,
    /// Forget images; imported directories stay
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// What to import.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The image's name
    name: String,
    /// The directory
    rootfs: PathBuf,
    /// The program to run, one word each
    #[arg(long, num_args = 1..)]
    entrypoint: Vec<String>,
    /// Arguments, or the command when there is no entrypoint
    #[arg(long, num_args = 1..)]
    cmd: Vec<String>,
    /// Variables, as NAME=VALUE
    #[arg(long)]
    env: Vec<String>,
    /// As whom to run, as USER[:GROUP]
    #[arg(long, default_value = "")]
    user: String,
    /// Where to run
    #[arg(long, default_value = "/")]
    workdir: String,
    /// What asks it to end
    #[arg(long)]
    stop_signal: Option<String>,
}

/// Does it.
pub(crate) fn run(root: &Root, verb: &ImageVerb) -> Result<ExitCode> {
    let store = Store::new(root.images());
    let mut out = io::stdout().lock();
    match verb {
        ImageVerb::Import(args) => {
            let config = ImageConfig {
                entrypoint: args.entrypoint.clone(),
                cmd: args.cmd.clone(),
                env: args.env.clone(),
                user: args.user.clone(),
                working_dir: args.workdir.clone(),
                stop_signal: args.stop_signal.clone(),
            };
            let image = store.import(&args.name, &args.rootfs, config)?;
            writeln!(out, "image/{} imported", image.reference)
        }
        ImageVerb::Ls => {
            let mut rows = vec![["IMAGE", "COMMAND", "DIRECTORY"].map(str::to_owned).to_vec()];
            for image in store.all()? {
                let line = [image.config.entrypoint, image.config.cmd].concat().join(" ");
                let dir = image.lower.first().map(|dir| dir.display().to_string());
                rows.push(vec![image.reference, line, dir.unwrap_or_default()]);
            }
            out.write_all(columns(&rows).as_bytes())
        }
        ImageVerb::Rm { names } => {
            for name in names {
                if !store.remove(name)? {
                    bail!("no image {name:?}");
                }
            }
            writeln!(out, "removed {}", names.join(" "))
        }
    }
    .context("write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
