//! The CNI plugin `flatnet`.

use std::io;
use std::process::ExitCode;

use flatnet_plugin::{Io, run};

fn main() -> ExitCode {
    run(&mut Io {
        env: &|name| std::env::var_os(name),
        args: std::env::args().skip(1).collect(),
        stdin: &mut io::stdin().lock(),
        stdout: &mut io::stdout().lock(),
        stderr: &mut io::stderr().lock(),
    })
}
