//! One process per root directory, while there are workloads: it keeps their pods as they shall be.
//!
//! It decides by [`flatpod::workload::decide`] from what the files say, acts, and looks again, whenever something
//! happens and once in a while. It remembers nothing that is not in files, so it can be killed at any moment; the next
//! command that finds workloads starts another one.

mod act;
mod node_loss;
mod removal;
mod snapshot;

use std::{
    collections::{BTreeMap, HashSet},
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use flatpod::workload::{self, Facts, Workload};
use jiff::Timestamp;
use netns_fixtures::wait_until;
use nix::sys::{
    signal::Signal,
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

use crate::{
    ourselves,
    state::{Keeper, ProcessId, Root, read_json, write_json},
    supervisor::{self, Watch},
};
use snapshot::Snapshot;

/// Nothing is lost when an event is: everything is looked at this often anyway.
const TICK: Duration = Duration::from_millis(500);
/// How soon to look again after having done something.
const SOON: Duration = Duration::from_millis(5);
/// How often to see to it that all pods have supervisors.
const CARE: Duration = Duration::from_secs(2);
/// For a controller that was killed to be gone.
const GONE: Duration = Duration::from_secs(30);

/// Makes sure that there is a controller if there is a workload.
pub(crate) fn ensure(root: &Root) -> Result<()> {
    if root.workloads().is_empty()? || Keeper::is_there(&lock_file(root)) {
        return Ok(());
    }
    let log = root.path().join("controller.log");
    let log = OpenOptions::new().create(true).append(true).open(log).context("open the controller's log")?;
    let mut command = ourselves::in_background(log);
    command.arg("--root").arg(root.path()).arg("controller");
    command.spawn().map(drop).context("start the controller")
}

/// Forgets all workloads and ends the controller; answers which they were. Their pods stay.
pub(crate) fn stop(root: &Root) -> Result<Vec<Workload>> {
    let workloads = root.workloads();
    let nobody_makes_one = workloads.lock()?;
    let all: Vec<Workload> = workloads.all()?.into_iter().map(|stored| stored.workload).collect();
    for workload in &all {
        workloads.remove(workload)?;
    }
    wait_until("the controller to end", GONE, || {
        // One that has just started has not written its number yet.
        let ended = match read_json::<ProcessId>(&process_file(root)) {
            Ok(process) => process.map_or(Ok(()), |process| process.signal(Signal::SIGKILL)),
            Err(error) => Err(error),
        };
        ended.map(|()| (!Keeper::is_there(&lock_file(root))).then_some(())).transpose()
    })??;
    workloads.sweep(&nobody_makes_one)?;
    root.sweep()?;
    Ok(all)
}

/// Keeps workloads as they shall be until there is none.
pub(crate) fn run(root: &Root) -> Result<ExitCode> {
    // Fails when we lead a session already.
    let _ = nix::unistd::setsid();
    let Some(keeper) = Keeper::try_become(&lock_file(root))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let own = ProcessId::of(i32::try_from(std::process::id())?).context("find the own process")?;
    write_json(&process_file(root), &own)?;
    root.sweep()?;
    root.workloads().sweep(&root.workloads().lock()?)?;
    let mut controller = Controller::new(root)?;
    let mut last = String::new();
    loop {
        let acted = match controller.turn() {
            Ok(acted) => acted,
            Err(error) => {
                // The next turn may do better; whoever wonders reads controller.log.
                let error = format!("{error:#}");
                if error != last {
                    let _ = writeln!(io::stderr(), "{} {error}", Timestamp::now());
                    last = error;
                }
                false
            }
        };
        if !acted && root.workloads().is_empty()? {
            let _nobody_makes_one = root.workloads().lock()?;
            if root.workloads().is_empty()? {
                // Before anybody can make one, who would rely on us.
                drop(keeper);
                return Ok(ExitCode::SUCCESS);
            }
        }
        controller.watch.wait(if acted { SOON } else { TICK })?;
    }
}

fn lock_file(root: &Root) -> PathBuf {
    root.path().join("controller.lock")
}

fn process_file(root: &Root) -> PathBuf {
    root.path().join("controller.json")
}

/// What is kept from turn to turn saves work, and is no knowledge.
struct Controller {
    root: Root,
    watch: Watch,
    /// Directories whose files are watched.
    watched: HashSet<PathBuf>,
    /// When it was last seen to that all pods have supervisors.
    cared: Option<Instant>,
    /// What a workload could not do last, by its unique id, so that it is said once.
    told: BTreeMap<String, String>,
}

impl Controller {
    fn new(root: &Root) -> Result<Self> {
        let mut watch = Watch::new()?;
        watch.add(root.workloads().path())?;
        watch.add(&root.path().join("pods"))?;
        Ok(Self { root: root.clone(), watch, watched: HashSet::new(), cared: None, told: BTreeMap::new() })
    }

    /// Looks at everything and does what is to be done now; answers whether that was anything.
    fn turn(&mut self) -> Result<bool> {
        reap();
        let seen = Snapshot::take(&self.root)?;
        self.watch_all(&seen);
        let mut acted = node_loss::turn(&self.root, &seen)?;
        acted |= removal::orphans(&self.root, &seen)?;
        for stored in &seen.stored {
            if let Some(cascade) = stored.removal {
                acted |= removal::turn(&self.root, &seen, (&stored.workload, cascade))?;
                continue;
            }
            let facts = Facts {
                workload: &stored.workload,
                status: &stored.status,
                pods: &seen.pods,
                workloads: &seen.workloads,
                nodes: &seen.nodes,
                now: seen.now,
                longest_wait: seen.longest_wait,
            };
            let decision = workload::decide(&facts);
            if decision.status != stored.status {
                self.root.workloads().put_status(&stored.workload, &decision.status)?;
            }
            acted |= self.act(&stored.workload, decision.actions);
        }
        self.care(&seen)?;
        Ok(acted)
    }

    /// A pod or node that comes or goes is looked at in the next turn, if it cannot be watched.
    fn watch_all(&mut self, seen: &Snapshot) {
        let dirs: HashSet<PathBuf> = seen
            .dirs
            .values()
            .map(|dir| dir.path().to_owned())
            .chain(seen.nodes.iter().map(|node| self.root.node(&node.name).path().to_owned()))
            .collect();
        self.watched.retain(|dir| dirs.contains(dir));
        for dir in dirs {
            if !self.watched.contains(&dir) && self.watch.add(&dir).is_ok() {
                self.watched.insert(dir);
            }
        }
    }

    /// Sees to it that every pod of a workload has a supervisor.
    fn care(&mut self, seen: &Snapshot) -> Result<()> {
        if self.cared.is_some_and(|at| at.elapsed() < CARE) {
            return Ok(());
        }
        self.cared = Some(Instant::now());
        for pod in seen.pods.iter().filter(|pod| workload::owner(&pod.metadata).is_some()) {
            if let Some(dir) = seen.dir(pod) {
                supervisor::ensure(&self.root, dir)?;
            }
        }
        Ok(())
    }
}

/// Takes leave of supervisors that were started here and have ended.
fn reap() {
    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
    {
    }
}
