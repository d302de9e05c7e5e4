//! `flatnet repair`: puts running pods back to their records without restarting them.

use std::io::Write;

use flatnet_core::attach::{self, Extras, SeenAttachment};
use flatnet_core::cni::result::Promise;
use flatnet_core::execute::clear;
use flatnet_core::hostport::PodPorts;
use flatnet_core::kernel::{Kernel as _, KernelError};
use flatnet_core::life::HostEnd;
use flatnet_core::link::AttachmentIds;
use flatnet_core::node::Attachment;
use flatnet_core::repair::{plan_repair, plan_repair_node};
use flatnet_core::shaping;
use flatnet_core::step::{Ns, Outcome, Step};
use flatnet_kernel::{NetlinkKernel, NetnsFd, attachment};
use flatnet_node_state::StateDir;
use serde_json::{Value, json};

use crate::Io;
use crate::verbs::check;

/// How often the kernel is looked at again: a link that comes up may show what could not be seen before.
const ROUNDS: usize = 3;

/// Why not all is right now.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The beginning of an id that several containers share.
    Ambiguous(String),
    /// Something could not be read, or not repaired.
    Failed(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ambiguous(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What was found of one attachment, and done about it.
#[derive(Debug, Default)]
struct Report {
    /// What was not as recorded.
    wrong: Vec<String>,
    /// What was asked of the kernel with success.
    did: Vec<String>,
    /// What is still wrong, with the remedy.
    left: Vec<String>,
}

/// Repairs every attachment, or those of one container.
///
/// # Errors
/// Something is not right now.
pub(crate) fn run(
    io: &mut Io<'_>,
    state: &StateDir,
    container: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Failed(e.to_string());
    let (records, damaged) = state.attachments().list().map_err(|e| failed(&e))?;
    let records = chosen(records, container)?;
    let reports: Vec<(Attachment, Report)> = records
        .into_iter()
        .map(|record| {
            let report = one(state, &record);
            (record, report)
        })
        .collect();
    let written = if json { as_json(io.stdout, &reports) } else { as_text(io.stdout, &reports) };
    written.map_err(|e| failed(&e))?;
    let unrepaired = reports.iter().filter(|(_, report)| !report.left.is_empty()).count();
    if container.is_none() && !damaged.is_empty() {
        let all: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        return Err(Failure::Failed(format!("{}; DEL of its container sets it aside", all.join("; "))));
    }
    if unrepaired > 0 {
        return Err(Failure::Failed(format!("{unrepaired} of {} not repaired", reports.len())));
    }
    Ok(())
}

/// Records of the container with this id, else of the only one whose id begins so.
fn chosen(mut records: Vec<Attachment>, id: Option<&str>) -> Result<Vec<Attachment>, Failure> {
    let Some(id) = id else { return Ok(records) };
    let exact = records.iter().any(|r| r.container.as_str() == id);
    records.retain(|r| if exact { r.container.as_str() == id } else { r.container.as_str().starts_with(id) });
    let Some(first) = records.first() else {
        return Err(Failure::Failed(format!("no attachment of container {id:?}; flatnet list shows all")));
    };
    match records.iter().find(|r| r.container != first.container) {
        None => Ok(records),
        Some(other) => Err(Failure::Ambiguous(format!(
            "{id:?} begins more than one container's id: {} and {}; give more of it",
            first.container, other.container
        ))),
    }
}

fn one(state: &StateDir, record: &Attachment) -> Report {
    let mut report = Report::default();
    let done = NetlinkKernel::open_node().map_err(|e| KernelError::from_io("open netlink", &e)).and_then(
        |mut kernel| {
            if !is_node_of(record, &mut kernel) {
                report.left.push(
                    "it belongs to another node namespace than this one; run flatnet repair there".to_owned(),
                );
                return Ok(());
            }
            if state.attachments().is_being_made(&record.host_ifname) {
                report.left.push("an ADD is at it; repair again when that has ended".to_owned());
                return Ok(());
            }
            match attachment::namespace(record) {
                Some(ns) => both_sides(state, record, (kernel, ns), &mut report),
                None => without_namespace(record, &mut kernel, &mut report),
            }
        },
    );
    report.left.extend(done.err().map(|e| e.to_string()));
    report
}

/// In any other namespace the node's end would seem gone, and be made anew in the wrong place.
fn is_node_of(record: &Attachment, kernel: &mut NetlinkKernel) -> bool {
    let here = kernel.netlink(Ns::Node).ok().and_then(|node| node.namespace_cookie().ok());
    record.node_cookie.is_none() || here.is_none() || record.node_cookie == here
}

fn both_sides(
    state: &StateDir,
    record: &Attachment,
    (kernel, ns): (NetlinkKernel, NetnsFd),
    report: &mut Report,
) -> Result<(), KernelError> {
    let mut kernel = kernel.with_pod(ns).map_err(|e| KernelError::new("enter the pod", e))?;
    let segment_size = state.snapshot().ok().flatten().map(|node| node.segment_size);
    let mut refused = Vec::new();
    for round in 0..ROUNDS {
        let seen = attachment::see(&mut kernel, record)?;
        if round == 0 {
            report.wrong.extend(difference(&mut kernel, record, segment_size, &seen));
            refused = apply(&mut kernel, &table(record), report);
        }
        let plan = match plan_repair(record, segment_size, &seen) {
            Ok(mut plan) => {
                plan.extend(limits(&mut kernel, record, &seen)?);
                plan
            }
            Err(conflict) => {
                report.left.push(conflict.to_string());
                return Ok(());
            }
        };
        if plan.is_empty() {
            break;
        }
        refused.extend(apply(&mut kernel, &plan, report));
        let anew = plan.iter().any(|step| matches!(step, Step::CreateVeth(_)));
        if anew && !is_recorded(state, record) {
            let ids = AttachmentIds::of(&record.container, &record.ifname);
            report.left.extend(clear(&mut kernel, &attach::plan_del(&ids)).iter().map(ToString::to_string));
            report.left.push("it was deleted meanwhile".to_owned());
            return Ok(());
        }
    }
    let seen = attachment::see(&mut kernel, record)?;
    let still = difference(&mut kernel, record, segment_size, &seen);
    if still.is_some() || plan_repair(record, segment_size, &seen).is_ok_and(|plan| !plan.is_empty()) {
        report.left.extend(still);
        report.left.extend(refused);
        report.left.push("remove what is in the way and repair again, or delete the pod".to_owned());
    }
    Ok(())
}

/// The pod may live all the same, behind a path that is gone: then its pair is whole, and the node's side
/// can be put right.
fn without_namespace(
    record: &Attachment,
    kernel: &mut NetlinkKernel,
    report: &mut Report,
) -> Result<(), KernelError> {
    let failed = |e: std::io::Error| KernelError::from_io("look for the interface", &e);
    let signs = attachment::signs(kernel.netlink(Ns::Node)?, record).map_err(failed)?;
    if signs.host_end != HostEnd::Paired {
        report.left.push(format!(
            "the pod is gone: {} is not its namespace any more; DEL or GC removes the rest, and an agent does",
            record.netns
        ));
        return Ok(());
    }
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        let Some(node) = attachment::see_node(kernel.netlink(Ns::Node)?, record)? else { break };
        let mut plan = plan_repair_node(record, &node);
        plan.extend(shaping::plan_repair(record, attachment::see_limits(kernel.netlink(Ns::Node)?, record)?));
        if plan.is_empty() {
            break;
        }
        refused = apply(kernel, &plan, report);
    }
    report.left.extend(refused);
    report.left.push(format!(
        "{} does not lead to the pod any more, so only the node's side was looked at; restart the pod if it has trouble",
        record.netns
    ));
    Ok(())
}

/// Applies `plan`, notes what was done, and answers with what was refused.
fn apply(kernel: &mut NetlinkKernel, plan: &[Step], report: &mut Report) -> Vec<String> {
    let mut refused = Vec::new();
    for (step, result) in plan.iter().zip(kernel.apply(plan)) {
        match result {
            Ok(Outcome::Done) => report.did.push(step.to_string()),
            Ok(Outcome::AlreadySo | Outcome::AlreadyGone) => {}
            Err(e) => refused.push(e.to_string()),
        }
    }
    refused
}

/// The first difference, as CHECK would name it.
fn difference(
    kernel: &mut NetlinkKernel,
    record: &Attachment,
    segment_size: Option<u32>,
    seen: &SeenAttachment,
) -> Option<String> {
    if let Err(e) = attach::check(record, &Extras::of(record).routes, &Promise::default(), seen) {
        return Some(e.to_string());
    }
    let rest = check::check_sizes_and_limits(kernel, record, segment_size, seen);
    rest.and_then(|()| check::check_table(record, None)).err().map(|e| e.msg)
}

/// What of the node's nftables table concerns this pod. All of it is left alone where it is so already.
fn table(record: &Attachment) -> Vec<Step> {
    std::iter::once(Step::PutGuard).chain(PodPorts::of(record).map(Step::PutHostPorts)).collect()
}

/// The limits, once the link is there that they belong to.
fn limits(
    kernel: &mut NetlinkKernel,
    record: &Attachment,
    seen: &SeenAttachment,
) -> Result<Vec<Step>, KernelError> {
    if record.limits.is_empty() || seen.node.is_none() {
        return Ok(Vec::new());
    }
    Ok(shaping::plan_repair(record, attachment::see_limits(kernel.netlink(Ns::Node)?, record)?))
}

fn is_recorded(state: &StateDir, record: &Attachment) -> bool {
    state.attachments().get(&record.host_ifname).is_ok_and(|now| now.as_ref() == Some(record))
}

impl Report {
    const fn state(&self) -> &'static str {
        match (self.left.is_empty(), self.did.is_empty()) {
            (false, _) => "failed",
            (true, false) => "repaired",
            (true, true) => "ok",
        }
    }
}

fn as_text(out: &mut dyn Write, reports: &[(Attachment, Report)]) -> std::io::Result<()> {
    for (record, report) in reports {
        let pod = record.pod.as_ref().map(|pod| format!(" ({pod})")).unwrap_or_default();
        writeln!(out, "{} {}{pod}: {}", record.container, record.ifname, report.state())?;
        for (word, lines) in [("was", &report.wrong), ("did", &report.did), ("left", &report.left)] {
            for line in lines {
                writeln!(out, "  {word}: {line}")?;
            }
        }
    }
    Ok(())
}

fn as_json(out: &mut dyn Write, reports: &[(Attachment, Report)]) -> std::io::Result<()> {
    let entry = |(record, report): &(Attachment, Report)| {
        json!({
            "container": record.container,
            "ifname": record.ifname,
            "pod": record.pod,
            "state": report.state(),
            "wrong": report.wrong,
            "did": report.did,
            "left": report.left,
        })
    };
    serde_json::to_writer_pretty(&mut *out, &reports.iter().map(entry).collect::<Vec<Value>>())?;
    writeln!(out)
}
