//! From the list to programs for the kernel.

use anyhow::{Context, Result};
use libc::{
    AF_ALG, AF_VSOCK, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, ENOSYS, EPERM,
};
use seccompiler::{BpfProgram, SeccompAction, TargetArch, compile_from_json, sock_filter};
use serde_json::{Value, json};

use super::list::{ADMIN, ALWAYS, ALWAYS_ON_X86_64, BY_CAPABILITY, BY_CAPABILITY_ON_X86_64};

/// All that makes a namespace.
const NAMESPACES: i32 =
    CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWUTS;
/// Ways to run that do not change what addresses are where: Linux or Linux of 32 bits, with either length of `uname`; and
/// the question which one it is (personality(2)).
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// The number of `clone3`. New calls have had one number on all architectures since 424.
const CLONE3: u32 = 435;
/// The first call that the list knows nothing of: the last one that it does is `mseal` of Linux 6.10.
const UNKNOWN: u32 = 463;
/// Where a filter finds the call's number (`struct seccomp_data`).
const NUMBER: u32 = 0;
/// Instructions (`linux/filter.h`): load the word at; skip some when it is not less than, or is; answer.
const LOAD: u16 = 0x20;
const AT_LEAST: u16 = 0x35;
const EQUAL: u16 = 0x15;
const ANSWER: u16 = 0x06;

/// What a process is held to that has these capabilities at most: the programs, in the order in which they are to be
/// installed. Where several refuse, the kernel answers what the last one says.
pub(super) fn programs(held: &[&str], arch: TargetArch) -> Result<[BpfProgram; 2]> {
    Ok([allowed(held, arch)?, absent(held)])
}

/// What is not on the list is not permitted.
fn allowed(held: &[&str], arch: TargetArch) -> Result<BpfProgram> {
    let mut names: Vec<&str> = ALWAYS.to_vec();
    let mut by_capability = BY_CAPABILITY.to_vec();
    if arch == TargetArch::x86_64 {
        names.push(ALWAYS_ON_X86_64);
        by_capability.push(BY_CAPABILITY_ON_X86_64);
    }
    names.extend(by_capability.iter().filter(|(needed, _)| held.contains(needed)).map(|(_, names)| *names));
    let plain = names.into_iter().flat_map(str::split_whitespace).map(|name| json!({ "syscall": name }));
    let rules: Vec<Value> = plain.chain(conditional(held)).collect();
    let filter = json!({ "list": { "mismatch_action": { "errno": EPERM }, "match_action": "allow", "filter": rules } });
    let text = serde_json::to_vec(&filter).context("write the filter of system calls")?;
    let mut all = compile_from_json(text.as_slice(), arch).context("compile the filter of system calls")?;
    all.remove("list").context("one filter of system calls comes of one list")
}

/// What depends on the arguments.
fn conditional(held: &[&str]) -> Vec<Value> {
    let compare =
        |kind: &str, op: Value, value: u32| json!({ "index": 0, "type": kind, "op": op, "val": value });
    let is = |value| compare("dword", json!("eq"), value);
    let is_not = |value: i32| compare("dword", json!("ne"), value.unsigned_abs());
    let mut rules: Vec<Value> =
        PERSONALITIES.map(|value| json!({ "syscall": "personality", "args": [is(value)] })).into();
    // The kernel's ciphers, and machines beside this one: neither is divided by namespaces.
    rules.push(json!({ "syscall": "socket", "args": [is_not(AF_ALG), is_not(AF_VSOCK)] }));
    if !held.contains(&ADMIN) {
        let no_namespaces = compare("qword", json!({ "masked_eq": NAMESPACES }), 0);
        rules.push(json!({ "syscall": "clone", "args": [no_namespaces] }));
    }
    rules
}

/// What is answered as by a kernel that does not have it, so that programs fall back on what they did before: calls that
/// are newer than the list, and `clone3`, whose arguments no filter can see.
fn absent(held: &[&str]) -> BpfProgram {
    let step = |code, skipped, k| sock_filter { code, jt: skipped, jf: 0, k };
    let answer = |action: SeccompAction| step(ANSWER, 0, action.into());
    let mut program = vec![step(LOAD, 0, NUMBER)];
    if held.contains(&ADMIN) {
        program.push(step(AT_LEAST, 1, UNKNOWN));
    } else {
        program.extend([step(AT_LEAST, 2, UNKNOWN), step(EQUAL, 1, CLONE3)]);
    }
    program.extend([answer(SeccompAction::Allow), answer(SeccompAction::Errno(ENOSYS.unsigned_abs()))]);
    program
}

#[cfg(test)]
mod tests;
