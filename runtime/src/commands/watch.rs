//! `get --watch`: the table, and then a line for every change of a pod, or for every event.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::fd::AsFd as _,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Found,
    get::{self, Format, GetArgs, Seen},
};
use crate::{observed::observed, state::Root};

/// Between two looks, in milliseconds.
const PERIOD: u16 = 200;

/// Shows pods until nobody reads any more.
pub(super) fn pods(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    if !matches!(args.format(), Format::Table | Format::Wide) {
        bail!("--watch goes with the table and with -o wide");
    }
    let wide = args.is_wide();
    let mut known = as_seen(root, get::selected(root, &args.which)?)?;
    let mut table: Vec<Pod> = known.values().cloned().collect();
    table.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    show(&get::columns(&get::rows(&table, wide)))?;
    while is_read()? {
        let present = as_seen(root, get::matching(root, &args.which)?)?;
        // The last that was known of those who are gone.
        let gone = known.iter().filter(|(uid, _)| !present.contains_key(*uid)).map(|(_, pod)| pod);
        let changed = present.iter().filter(|(uid, pod)| known.get(*uid) != Some(pod)).map(|(_, pod)| pod);
        for pod in gone.chain(changed) {
            // As wide as the others need it.
            let rows = get::columns(&get::rows(&[&table, &[pod.clone()][..]].concat(), wide));
            show(&format!("{}\n", rows.lines().next_back().unwrap_or_default()))?;
        }
        known = present;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows events until nobody reads any more.
pub(super) fn events(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    if !matches!(args.format(), Format::Table | Format::Wide) {
        bail!("--watch goes with the table");
    }
    let mut seen = Seen::new();
    let mut table = get::event_rows(&get::events(root, args, &get::selected(root, &args.which)?, &mut seen)?);
    show(&without_first(&get::columns(&table), usize::from(args.has_no_headers())))?;
    while is_read()? {
        let new = get::events(root, args, &get::matching(root, &args.which)?, &mut seen)?;
        if !new.is_empty() {
            let known = table.len();
            table.extend(get::event_rows(&new).into_iter().skip(1));
            // As wide as the others need it.
            show(&without_first(&get::columns(&table), known))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The text without its first lines.
fn without_first(text: &str, count: usize) -> String {
    text.split_inclusive('\n').skip(count).collect()
}

/// By their unique ids; without those that have gone meanwhile.
fn as_seen(root: &Root, all: Vec<Found>) -> Result<BTreeMap<String, Pod>> {
    let one = |found: Found| -> Result<Option<(String, Pod)>> {
        let uid = found.dir.uid().to_owned();
        Ok(observed(root, &found.dir, found.pod)?.map(|pod| (uid, pod)))
    };
    all.into_iter().map(one).filter_map(Result::transpose).collect()
}

fn show(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).context("write to stdout")
}

/// Waits for the next look; answers whether anybody still reads.
fn is_read() -> Result<bool> {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::from(PERIOD)) {
        Ok(ready) => Ok(ready == 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno).context("wait for changes"),
    }
}
