//! The programs of the built-in image: small things to run in pods, to serve, to connect, to look and to fail.
//! Names and answers are those of Kubernetes' own test image where it has them (agnhost).

mod http;
mod netexec;
mod proxy;
mod small;
mod webserver;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "tools", arg_required_else_help = true)]
struct Tools {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Do nothing but reap orphans, until asked to end
    Pause,
    /// Serve HTTP and UDP: /hostname /clientip /echo?msg= /healthz /exit?code=
    Netexec(netexec::NetexecArgs),
    /// Connect by TCP; say REFUSED, TIMEOUT or OTHER when that fails
    Connect(small::ConnectArgs),
    /// Ask for a page by HTTP, and print it
    Get(http::GetArgs),
    /// Serve files by HTTP
    TestWebserver(webserver::WebserverArgs),
    /// Carry TCP connections from one address to another
    Proxy(proxy::ProxyArgs),
    /// Print the own command line
    EntrypointTester {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print the namespaces, as KIND INODE
    Ns,
    /// Print arguments
    Echo {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Print files
    Cat { files: Vec<std::path::PathBuf> },
    /// Print the environment
    Env,
    /// Sleep so many seconds
    Sleep { seconds: f64 },
    /// End with this exit code
    Exit { code: u8 },
    /// Print the host name
    Hostname,
    /// Write words to a file
    Write { file: std::path::PathBuf, words: Vec<String> },
    /// Listen on a TCP port, and say so
    Bind { port: u16 },
    /// Use so many mebibytes of memory, then sleep
    Alloc { mebibytes: usize },
    /// Catch SIGTERM; end so many seconds after it with this exit code
    Trap {
        #[arg(long, default_value_t = 0.0)]
        after: f64,
        #[arg(long, default_value_t = 0)]
        exit: u8,
    },
    /// Leave a sleeping process behind and end
    SpawnOrphan,
}

/// The names that the program has in the image.
pub(crate) fn names() -> Vec<String> {
    use clap::CommandFactory as _;
    Tools::command().get_subcommands().map(|tool| tool.get_name().to_owned()).collect()
}

/// Runs a tool, when that is what the program was called as.
pub(crate) fn called_as(args: &[OsString]) -> Option<Result<ExitCode>> {
    let (first, rest) = args.split_first()?;
    let name = std::path::Path::new(first).file_name()?.to_str()?;
    let line: Vec<OsString> = match name {
        "tools" => args.to_vec(),
        tool if names().iter().any(|known| known == tool) => {
            ["tools".into(), tool.into()].into_iter().chain(rest.iter().cloned()).collect()
        }
        _ => return None,
    };
    Some(run(line))
}

/// Runs a tool by its command line, which begins with a word for the program.
pub(crate) fn run(line: Vec<OsString>) -> Result<ExitCode> {
    match Tools::parse_from(line).tool {
        Tool::Pause => small::pause(),
        Tool::Netexec(args) => netexec::run(&args),
        Tool::Connect(args) => small::connect(&args),
        Tool::Get(args) => http::get(&args),
        Tool::TestWebserver(args) => webserver::run(&args),
        Tool::Proxy(args) => proxy::run(&args),
        Tool::EntrypointTester { .. } => small::command_line(),
        Tool::Ns => small::namespaces(),
        Tool::Echo { words } => small::say(&words.join(" ")),
        Tool::Cat { files } => small::cat(&files),
        Tool::Env => small::environment(),
        Tool::Sleep { seconds } => small::sleep(seconds),
        Tool::Exit { code } => Ok(ExitCode::from(code)),
        Tool::Hostname => small::say(&nix::unistd::gethostname()?.to_string_lossy()),
        Tool::Write { file, words } => small::write(&file, &words),
        Tool::Bind { port } => small::bind(port),
        Tool::Alloc { mebibytes } => small::alloc(mebibytes),
        Tool::Trap { after, exit } => small::trap(after, exit),
        Tool::SpawnOrphan => small::spawn_orphan(),
    }
}
