//! `image`: what can be run.

mod pull;
mod show;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::node::say;
use crate::{
    cli::Output,
    image::{Image, ImageConfig, Reference, Source, Store, mounted, pods_with},
    state::Root,
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Load images that docker, podman, buildah, skopeo and the like have written
    ///
    /// Reads an OCI image layout (a directory, or a tar of one) and what `docker save` writes; gzip and zstd, of the
    /// file and of its layers, are seen by themselves. Of an image for several platforms this machine's is taken.
    /// Every digest is verified, and nothing is loaded that leads out of the image.
    #[command(after_help = "Examples:\n  docker save nginx:1.27 | flatpod image load -\n  \
        flatpod image load -i nginx.tar.gz\n  flatpod image load ./layout --tag nginx:1.27")]
    Load(LoadArgs),
    /// Pull images from registries, where flatpod is built with the feature `registry`
    ///
    /// Of an image for several platforms this machine's is taken. Layers that are here do not come again, every digest
    /// is verified, and what came whole stays for the next try when something goes wrong. Names and passwords are those
    /// of `docker login` (~/.docker/config.json, or config.json in $DOCKER_CONFIG).
    #[command(after_help = "Examples:\n  flatpod image pull nginx:1.27\n  \
        flatpod image pull --insecure-registry 192.0.2.7:5000 192.0.2.7:5000/web:v1")]
    Pull(pull::PullArgs),
    /// Give a root file system a name: a directory, which is used where it is and never written to, or a tar of one
    #[command(after_help = "Examples:\n  flatpod image import bookworm ./rootfs --cmd bash\n  \
        docker export web | flatpod image import web:v1 - --cmd nginx --cmd=-g --cmd 'daemon off;'")]
    Import(ImportArgs),
    /// List images
    Ls {
        /// A table for people, or JSON
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show images as JSON
    Inspect {
        /// Their names or ids
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Write an image as docker save does, for docker, podman and others to load
    #[command(
        after_help = "Examples:\n  flatpod image save web:v1 -o web.tar\n  flatpod image save web:v1 | docker load"
    )]
    Save {
        /// Its name or id
        name: String,
        /// The file [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove images that no pod uses; imported directories stay
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        names: Vec<String>,
        /// Also when pods name them: what runs goes on, what is started again finds no image
        #[arg(long, short)]
        force: bool,
    },
}

/// What to load.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// A file, a directory, or - for standard input
    #[arg(value_name = "FILE|DIR|-", required_unless_present = "input")]
    source: Option<PathBuf>,
    /// The same, as docker and podman want it
    #[arg(long, short, value_name = "FILE", conflicts_with = "source")]
    input: Option<PathBuf>,
    /// What to call the image, in place of the names that come with it
    #[arg(long, value_name = "NAME")]
    tag: Option<Reference>,
}

/// What to import.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The image's name
    name: Reference,
    /// A directory, a tar (also gzip or zstd), or - for a tar on standard input
    #[arg(value_name = "DIR|TAR|-")]
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
    match verb {
        ImageVerb::Load(args) => load(root, &store, args)?,
        ImageVerb::Pull(args) => pull::run(root, &store, args)?,
        ImageVerb::Import(args) => import(root, &store, args)?,
        ImageVerb::Ls { output } => show::list(&store.all()?, *output)?,
        ImageVerb::Inspect { names } => {
            let found = names.iter().map(|name| store.matching(name)).collect::<Result<Vec<_>>>()?;
            show::inspect(&found.concat())?;
        }
        ImageVerb::Save { name, output } => save(&store, name, output.as_deref())?,
        ImageVerb::Rm { names, force } => {
            for name in names {
                remove(root, &store, name, *force)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(root: &Root, store: &Store, args: &LoadArgs) -> Result<()> {
    let Some(path) = args.source.as_ref().or(args.input.as_ref()) else {
        bail!("name a file, a directory, or - for standard input");
    };
    let images = store.load(&Source::of(path), args.tag.as_ref());
    // Also after a failure, for what it and killed ones before it have left.
    store.sweep(|| mounted(root))?;
    for image in images? {
        say(&format!("image/{} loaded", image.reference))?;
    }
    Ok(())
}

fn import(root: &Root, store: &Store, args: &ImportArgs) -> Result<()> {
    let config = ImageConfig {
        entrypoint: args.entrypoint.clone(),
        cmd: args.cmd.clone(),
        env: args.env.clone(),
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        stop_signal: args.stop_signal.clone(),
    };
    let image = store.import(&args.name, &Source::of(&args.rootfs), config);
    store.sweep(|| mounted(root))?;
    say(&format!("image/{} imported", image?.reference))
}

fn save(store: &Store, name: &str, output: Option<&Path>) -> Result<()> {
    let found = store.matching(name)?;
    let image = found.first().with_context(|| format!("no image {name:?}"))?;
    let Some(file) = output else {
        if io::stdout().is_terminal() {
            bail!("an archive is nothing for a terminal: say -o FILE, or send it somewhere");
        }
        return store.save(image, io::stdout().lock());
    };
    let told = || format!("write {}", file.display());
    let dir = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let mut fresh = tempfile::NamedTempFile::new_in(dir).with_context(told)?;
    store.save(image, io::BufWriter::new(&mut fresh))?;
    fresh.persist(file).with_context(told)?;
    Ok(())
}

fn remove(root: &Root, store: &Store, name: &str, force: bool) -> Result<()> {
    let found = store.matching(name)?;
    for image in &found {
        removable(root, image, force)?;
    }
    for image in &found {
        store.remove(&image.reference)?;
        say(&format!("image/{} removed", image.reference))?;
    }
    store.sweep(|| mounted(root))
}

fn removable(root: &Root, image: &Image, force: bool) -> Result<()> {
    if image.reference.familiar().starts_with("builtin/") {
        bail!("{} is built in", image.reference);
    }
    let pods = pods_with(root, image)?;
    if !pods.is_empty() && !force {
        bail!("image {} is used by {}: delete them, or say --force", image.reference, pods.join(", "));
    }
    Ok(())
}
