//! `cp`: files into containers and out of them.
//!
//! Nothing runs in the container, so nothing has to be in its image. Paths are looked up by the kernel as if the
//! container's root were ours: its links cannot lead out of it.

mod tree;

use std::{
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat},
    io::Errno,
};
use serde_json::Value;

use super::{NamespaceArg, find};
use crate::{
    image::look_up,
    state::{Root, read_json},
};
use tree::{Copying, Place};

/// What to copy, and where to.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// A file or directory: PATH here, or POD:PATH
    from: Spot,
    /// Where it goes: PATH here, or POD:PATH; into it, if that is a directory
    to: Spot,
    /// The container [default: the first]
    #[arg(long, short)]
    container: Option<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
}

/// A path here or in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    Here(PathBuf),
    There { pod: String, path: PathBuf },
}

impl FromStr for Spot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let spot = match text.split_once(':') {
            Some((pod, path)) if !pod.starts_with(['.', '/']) => {
                Self::There { pod: pod.to_owned(), path: path.into() }
            }
            _ => Self::Here(text.into()),
        };
        match &spot {
            Self::There { pod, path } if pod.is_empty() || path == Path::new("") => {
                Err("write POD:PATH, or ./FILE for a file here whose name has a colon".to_owned())
            }
            Self::Here(path) if path == Path::new("") => Err("write a PATH, or POD:PATH".to_owned()),
            _ => Ok(spot),
        }
    }
}

/// Copies it. What is neither file nor directory is left out, and told on stderr.
pub(crate) fn run(root: &Root, args: &CpArgs) -> Result<ExitCode> {
    let (pod, inside, outside, enters) = match (&args.from, &args.to) {
        (Spot::Here(outside), Spot::There { pod, path }) => (pod, path, outside, true),
        (Spot::There { pod, path }, Spot::Here(outside)) => (pod, path, outside, false),
        (Spot::Here(_), Spot::Here(_)) => bail!("one of the two has to be in a pod: write POD:PATH"),
        (Spot::There { .. }, Spot::There { .. }) => {
            bail!("only one of the two can be in a pod: copy to a file here first")
        }
    };
    let container = Container::open(root, args, pod)?;
    let inside = container.cwd.join(inside);
    let skipped = if enters {
        let copying = Copying { owner: Some(container.owner), links: true, ..Copying::default() };
        copy(copying, (outside, &here), (&inside, &|path| container.look_up(path)))
    } else {
        copy(Copying::default(), (&inside, &|path| container.look_up(path)), (outside, &here))
    };
    for (path, kind) in skipped? {
        writeln!(io::stderr(), "Warning: {} is {kind} and was left out", path.display())
            .context("write to stderr")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A path, and who looks paths up.
type Side<'a> = (&'a Path, &'a dyn Fn(&Path) -> rustix::io::Result<OwnedFd>);

/// Copies from one side to the other; answers what was left out.
fn copy(mut copying: Copying, from: Side<'_>, to: Side<'_>) -> Result<Vec<(PathBuf, &'static str)>> {
    let source = from.1(from.0).with_context(|| from.0.display().to_string())?;
    let to_told = || to.0.display().to_string();
    let (dir, name) = match to.1(to.0) {
        Ok(there) if is_directory(&there)? => {
            let name = from.0.file_name();
            (
                there,
                name.with_context(|| format!("{} has no name: say what the copy's is", from.0.display()))?,
            )
        }
        Ok(_) | Err(Errno::NOENT) => {
            let parent = to.0.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let dir = to.1(parent).with_context(|| parent.display().to_string())?;
            (dir, to.0.file_name().with_context(to_told)?)
        }
        Err(errno) => return Err(errno).with_context(to_told),
    };
    copying.copy(&source, Place { dir: &dir, name }, from.0)?;
    Ok(copying.skipped)
}

fn is_directory(at: &OwnedFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(at).context("look at the destination")?.st_mode) == FileType::Directory)
}

/// Looks up a path here.
fn here(path: &Path) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// A container that runs.
struct Container {
    root: OwnedFd,
    cwd: PathBuf,
    /// Its user and group.
    owner: (u32, u32),
}

impl Container {
    fn open(root: &Root, args: &CpArgs, pod: &str) -> Result<Self> {
        let found = find(root, &args.namespace.namespace, pod)?;
        let name = found.container(args.container.as_deref())?.name;
        let stopped = || format!("container {name} of pod {pod} is not running");
        let attempt = found.running(&name)?.with_context(stopped)?;
        let init = attempt.started()?.with_context(stopped)?.init;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, format!("/proc/{}/root", init.pid), flags, Mode::empty());
        // In this order: it was its root, and nobody's who has its number after it.
        if !init.is_alive() {
            bail!(stopped());
        }
        let root = root.with_context(|| format!("open the root of container {name}"))?;
        let config: Option<Value> = read_json(&attempt.file("config.json"))?;
        let process = config.context("a running container has a configuration")?["process"].take();
        let id = |key: &str| {
            let id = process["user"][key].as_u64().and_then(|id| u32::try_from(id).ok());
            id.context("a container has a user")
        };
        let cwd = PathBuf::from(process["cwd"].as_str().unwrap_or("/"));
        Ok(Self { root, cwd, owner: (id("uid")?, id("gid")?) })
    }

    /// Looks up a path in it. Its links lead nowhere else.
    fn look_up(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        look_up(&self.root, path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_and_what_is_in_a_pod() {
        let there = |pod: &str, path: &str| Ok(Spot::There { pod: pod.to_owned(), path: path.into() });
        let spot = |text: &str| text.parse::<Spot>();
        assert_eq!(spot("web:/etc/hosts"), there("web", "/etc/hosts"));
        assert_eq!(spot("deployment/web:a:b"), there("deployment/web", "a:b"));
        for here in ["a", "./a:b", "/a:b", "../a:b"] {
            assert_eq!(spot(here), Ok(Spot::Here(here.into())));
        }
        assert!([":a", "web:", ""].iter().all(|wrong| spot(wrong).is_err()));
    }
}
