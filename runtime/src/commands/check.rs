//! `check`: proofs that pods are what they are said to be, read from the kernel and from packets, not from our records.

pub(crate) mod container;
pub(crate) mod pair;

use std::{
    io::{self, Write as _},
    net::IpAddr,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use flatpod::workload;
use netns_fixtures::NetNs;
use serde::Serialize;

use super::{Found, NamespaceArg, find, get::columns};
use crate::{
    cli::Output,
    cni::Network,
    print::Style,
    state::{NodeRecord, Root},
    supervisor,
};

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The pod
    pod: String,
    /// Another pod: how the two meet is checked as well
    other: Option<String>,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// How the proofs are printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One claim, whether it holds, and what shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    pub(crate) subject: String,
    pub(crate) claim: &'static str,
    pub(crate) ok: bool,
    pub(crate) evidence: String,
}

impl Proof {
    fn new(subject: &str, claim: &'static str, ok: bool, evidence: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), claim, ok, evidence: evidence.into() }
    }

    /// A claim that holds when nothing is wrong.
    fn of(subject: &str, claim: &'static str, shown: Result<String>) -> Self {
        match shown {
            Ok(evidence) => Self::new(subject, claim, true, evidence),
            Err(error) => Self::new(subject, claim, false, format!("{error:#}")),
        }
    }
}

/// A running pod, where it can be looked at.
pub(crate) struct Subject {
    pub(crate) name: String,
    found: Found,
    pub(crate) node: NodeRecord,
    pub(crate) net: NetNs,
    pub(crate) addresses: Vec<IpAddr>,
    sandbox: String,
}

/// Prints the proofs; fails when something is not as it should be.
pub(super) fn run(root: &Root, args: &CheckArgs) -> Result<ExitCode> {
    let names = [Some(&args.pod), args.other.as_ref()];
    let subjects = names.into_iter().flatten().map(|name| subject(root, &args.namespace.namespace, name));
    let subjects: Vec<Subject> = subjects.collect::<Result<_>>()?;
    let mut proofs = vec![];
    for subject in &subjects {
        proofs.extend(container::proofs(subject)?);
        proofs.push(network(subject));
    }
    if let [one, other] = subjects.as_slice() {
        proofs.extend(pair::proofs(one, other)?);
    }
    show(&proofs, args.output)?;
    Ok(if proofs.iter().all(|proof| proof.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks a running pod up.
pub(crate) fn subject(root: &Root, namespace: &str, name: &str) -> Result<Subject> {
    let found = find(root, namespace, name)?;
    let name = found.pod.metadata.name.clone().unwrap_or_default();
    let sandbox = found.dir.sandbox()?.filter(|sandbox| sandbox.ready);
    let Some(sandbox) = sandbox else {
        bail!("pod {name} has no sandbox: it is over, or not made yet (flatpod get pod {name})");
    };
    let node = supervisor::node_of(root, workload::node(&found.pod))?;
    let net = NetNs::open(found.dir.file("net")).context("open the pod's network namespace")?;
    Ok(Subject { name, found, node, net, addresses: sandbox.addresses, sandbox: sandbox.id })
}

impl Subject {
    fn is_on_the_nodes_network(&self) -> bool {
        self.found.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
    }
}

/// What the plugins say themselves (CNI CHECK).
fn network(subject: &Subject) -> Proof {
    let claim = "attached as its plugins made it";
    if subject.is_on_the_nodes_network() {
        return Proof::new(
            &subject.name,
            claim,
            true,
            format!("on the network of node {}", subject.node.name),
        );
    }
    let addresses = subject.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    Proof::of(&subject.name, claim, Network::of(&subject.node).check(&subject.sandbox).map(|()| addresses))
}

fn show(proofs: &[Proof], output: Output) -> Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        serde_json::to_writer_pretty(&mut out, proofs).context("write to stdout")?;
        return writeln!(out).context("write to stdout");
    }
    let style = Style::of(&io::stdout());
    let mut rows = vec![["POD", "CLAIM", "EVIDENCE"].map(str::to_owned).to_vec()];
    rows.extend(
        proofs
            .iter()
            .map(|proof| vec![proof.subject.clone(), proof.claim.to_owned(), proof.evidence.clone()]),
    );
    let text = columns(&rows);
    let marks = std::iter::once(style.faint("OK    ")).chain(proofs.iter().map(|proof| {
        let gap = if proof.ok { "    " } else { "" };
        format!("{}{gap}", style.verdict(proof.ok))
    }));
    for (mark, line) in marks.zip(text.lines()) {
        writeln!(out, "{mark}  {line}").context("write to stdout")?;
    }
    Ok(())
}
