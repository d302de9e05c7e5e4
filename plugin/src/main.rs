//! The CNI plugin `flatnet`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use flatnet_plugin::{Io, run};

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let program = args.next().unwrap_or_default();
    run(&mut Io {
        env: &|name| std::env::var_os(name),
        name: Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        args: args.collect(),
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr().lock(),
    })
}
