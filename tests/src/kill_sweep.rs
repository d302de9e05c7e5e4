//! SIGKILL by strace at the first, second, third... of each system call that a program makes.

use std::collections::BTreeSet;

/// The names of the system calls in what `strace -f -qq` wrote about a whole run.
#[must_use]
pub fn calls(trace: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let call = line.split_once("] ").filter(|_| line.starts_with("[pid")).map_or(line, |(_, c)| c);
        let (name, _) = call.trim_start().split_once('(')?;
        name.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            .then(|| name.to_owned())
    };
    // The first execve is strace's own child becoming the program; nothing of ours has run then.
    trace.lines().filter_map(name).filter(|n| n != "execve" && !n.starts_with("exit")).collect()
}

/// For each of `calls` and each time it is made: `before`, a run that is killed there, and `after`, which
/// judges. `run` gets options for strace and says whether the program ended by itself. Answers with the
/// number of kills.
pub fn kill_at_each(
    calls: &BTreeSet<String>,
    before: impl Fn(),
    run: impl Fn(&[String]) -> bool,
    after: impl Fn(&str),
) -> usize {
    let mut kills = 0;
    for call in calls {
        for nth in 1.. {
            before();
            let inject = format!("--inject={call}:signal=KILL:when={nth}");
            let whole = run(&[inject, format!("--trace={call}")]);
            after(&format!("killed at {call} number {nth}"));
            if whole {
                break;
            }
            kills += 1;
        }
    }
    kills
}
