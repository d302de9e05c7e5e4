//! The command line: what the user can say, and which exit code comes of it.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    carriage::CarriageArgs, commands::PodVerb, controller, demo, doctor, entrance, explain, probe, shim,
    state::Root, supervisor, tools,
};

/// The exit status for a command line that contradicts itself, as clap's own.
const WRONG_USAGE: u8 = 2;

/// A minimal pod runtime for real and simulated nodes.
#[derive(Debug, Parser)]
#[command(name = "flatpod", version, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 failed, 2 wrong usage; exec: that of its command.")]
pub(crate) struct Cli {
    /// Where flatpod keeps everything
    #[arg(long, global = true, env = "FLATPOD_ROOT", default_value = "/run/flatpod")]
    root: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Pods(PodVerb),
    /// Show a flat pod network on this machine: build it, prove it, remove it
    ///
    /// Makes three simulated nodes (n1 and n2 on one segment, n3 behind a router) with a real flatnetd on each, applies
    /// the examples (examples/ in a clone), and shows as tables: every pod reaching every other one by TCP, UDP and ping
    /// over IPv4 and IPv6 without NAT; the packets as captured on the fabric; what each example promises; what a pod's
    /// containers share and what they do not; a node that fails and is healed; and that nothing is left in the end.
    /// The commands that it gives are told as they are given: each can be tried by hand after `flatpod up`.
    ///
    /// Needs root. Everything lives in namespaces of its own and is gone when the command ends, however it
    /// ends.
    #[command(after_help = "Examples:\n  flatpod demo\n  flatpod demo --backend vxlan\n  \
        flatpod demo --output json | jq .failures\n\n\
        Exit status: 0 all is as it should be, 1 something is not (it is named), 2 wrong usage.")]
    Demo(DemoArgs),
    /// Say whether this machine has what pods need, and what helps where it has not
    ///
    /// Everything is tried as pods would use it: namespaces, cgroups, a root file system below the root directory, links
    /// and a pod attached by flatnet in network namespaces of their own. Nothing of it is left.
    #[command(after_help = "Examples:\n  flatpod doctor\n  flatpod --root /var/lib/flatpod doctor\n  \
        flatpod doctor -o json | jq '.[] | select(.state != \"ok\")'\n\n\
        Exit status: 0 nothing is missing, 1 something is (it is marked), 2 wrong usage.")]
    Doctor(doctor::DoctorArgs),
    /// Show what is done with each field of a manifest: honoured, without effect, or rejected
    #[command(
        after_help = "Examples:\n  flatpod explain\n  flatpod explain pod.spec.containers.lifecycle\n  \
        flatpod explain deployment --recursive"
    )]
    Explain(explain::ExplainArgs),
    /// Supervise a pod (started by flatpod itself)
    #[command(hide = true)]
    Supervise(supervisor::SuperviseArgs),
    /// Keep workloads as they shall be (started by flatpod itself)
    #[command(hide = true)]
    Controller,
    /// Keep a container (started by flatpod itself)
    #[command(hide = true)]
    Shim(shim::ShimArgs),
    /// Look at a port of a pod (used by flatpod itself)
    #[command(hide = true)]
    Probe(probe::ProbeArgs),
    /// Run a program of the built-in image
    #[command(hide = true)]
    Tools {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        line: Vec<std::ffi::OsString>,
    },
    /// Start a program on a simulated node (used by flatpod itself)
    #[command(hide = true)]
    Enter(entrance::EnterArgs),
}

/// What `flatpod demo` can be told.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) carriage: CarriageArgs,
    /// Tables for people, or one JSON document
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Where flatnet and flatnetd are [default: beside flatpod]
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// Does what was asked, reports an error as one line on stderr.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let root = || Root::open(&cli.root);
    exit_code(match cli.verb {
        Verb::Pods(verb) => verb.run(&cli.root),
        Verb::Demo(args) => demo::run(&args),
        Verb::Doctor(args) => doctor::run(&cli.root, &args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Supervise(args) => root().and_then(|root| supervisor::run(&root, &args)),
        Verb::Controller => root().and_then(|root| controller::run(&root)),
        Verb::Shim(args) => shim::run(&args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Tools { line } => tools::run(["tools".into()].into_iter().chain(line).collect()),
        Verb::Enter(args) => entrance::enter(&args),
    })
}

/// The exit code of a result; an error is told on stderr.
pub(crate) fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // Whoever reads the output has seen enough: `flatpod explain pod --recursive | head`.
        if error
            .root_cause()
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        {
            return ExitCode::SUCCESS;
        }
        if let Some(usage) = error.downcast_ref::<clap::Error>() {
            // There is nowhere else to say that stderr is closed.
            let _ = write!(io::stderr(), "{usage}");
            return ExitCode::from(WRONG_USAGE);
        }
        // As above.
        let _ = writeln!(io::stderr(), "flatpod: {error:#}");
        ExitCode::FAILURE
    })
}
