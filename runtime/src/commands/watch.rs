//! `get pods --watch`: the table, and then a line for every change.

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

use super::get::{self, Format, GetArgs};
use crate::state::Root;

/// Between two looks, in milliseconds.
const PERIOD: u16 = 200;

/// Shows pods until nobody reads any more.
pub(super) fn pods(root: &Root, args: &GetArgs) -> Result<ExitCode> {
    let wide = match args.output() {
        None => false,
        Some(Format::Wide) => true,
        Some(_) => bail!("--watch goes with the table and with -o wide"),
    };
    let first = get::selected(root, args)?;
    let mut known: BTreeMap<String, Pod> = BTreeMap::new();
    for found in &first {
        known.insert(found.dir.uid().to_owned(), get::whole(found)?);
    }
    let mut table: Vec<Pod> = known.values().cloned().collect();
    table.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    show(&get::table(&table, wide))?;
    while is_read()? {
        let mut present = BTreeMap::new();
        for found in get::matching(root, args)? {
            // It may have gone since it was listed.
            if let Ok(pod) = get::whole(&found)
                && found.dir.path().exists()
            {
                present.insert(found.dir.uid().to_owned(), pod);
            }
        }
        // The last that was known of those who are gone.
        let gone = known.iter().filter(|(uid, _)| !present.contains_key(*uid)).map(|(_, pod)| pod);
        let changed = present.iter().filter(|(uid, pod)| known.get(*uid) != Some(pod)).map(|(_, pod)| pod);
        for pod in gone.chain(changed) {
            // As wide as the others need it.
            let rows = get::table(&[&table, &[pod.clone()][..]].concat(), wide);
            show(&format!("{}\n", rows.lines().next_back().unwrap_or_default()))?;
        }
        known = present;
    }
    Ok(ExitCode::SUCCESS)
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
