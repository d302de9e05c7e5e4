//! Which devices the processes of a cgroup of version 2 may open. Version 1 has a controller for that, which the launcher
//! sets; version 2 asks a program (`BPF_PROG_TYPE_CGROUP_DEVICE`, `kernel/bpf/cgroup.c`), which is made here.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context, Result};

/// The character devices of every container, by major and minor number: those that the launcher allows in version 1 (the
/// default devices of the OCI runtime specification, terminals, and `/dev/net/tun`, as runc does).
const ALLOWED: [(i32, Option<i32>); 11] = [
    (1, Some(3)),    // null
    (1, Some(5)),    // zero
    (1, Some(7)),    // full
    (1, Some(8)),    // random
    (1, Some(9)),    // urandom
    (5, Some(0)),    // tty
    (5, Some(1)),    // console
    (5, Some(2)),    // ptmx
    (10, Some(200)), // net/tun
    (136, None),     // pts
    (137, None),     // pts beyond the 256th
];

// `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups above and below count as well: what one refuses is refused.
const ALLOW_MULTI: u32 = 2;
const KIND_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;

/// An instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What `PROG_LOAD` is told, as far as it is needed here; the kernel takes what follows for zeros.
#[repr(C)]
#[derive(Debug, Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// What `PROG_ATTACH` is told.
#[repr(C)]
#[derive(Debug)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets the processes of the cgroup at `dir` open nothing but the usual devices. Nodes for others may be made, as runc has
/// it, but not opened.
pub(super) fn restrict(dir: &Path) -> Result<()> {
    let cgroup = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    let program = load(&program()).context("load a program that restricts devices")?;
    let fd = |fd: i32| u32::try_from(fd).context("a file descriptor is not negative");
    let attach = Attach {
        target: fd(cgroup.as_raw_fd())?,
        program: fd(program.as_raw_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(drop).with_context(|| format!("restrict the devices of {}", dir.display()))
}

/// The program: 1 lets it be, 0 does not (`struct bpf_cgroup_dev_ctx`).
fn program() -> Vec<Instruction> {
    let end = |answer: i32| [instruction(0xb7, 0, 0, answer), instruction(0x95, 0, 0, 0)];
    let load = |to: u8, from: i16| instruction(0x61, to | 1 << 4, from, 0);
    let unless = |register: u8, value: i32, skip: i16| instruction(0x55, register, skip, value);
    let mut all = vec![
        // r2: kind, r3: access, r4: major, r5: minor.
        load(2, 0),
        instruction(0xbf, 3 | 2 << 4, 0, 0),
        instruction(0x77, 3, 0, 16),
        instruction(0x57, 2, 0, 0xffff),
        load(4, 4),
        load(5, 8),
    ];
    all.push(unless(3, ACCESS_MKNOD, 2));
    all.extend(end(1));
    // Equal: over the refusal.
    all.push(instruction(0x15, 2, 2, KIND_CHAR));
    all.extend(end(0));
    for (major, minor) in ALLOWED {
        match minor {
            Some(minor) => all.extend([unless(4, major, 3), unless(5, minor, 2)]),
            None => all.push(unless(4, major, 2)),
        }
        all.extend(end(1));
    }
    all.extend(end(0));
    all
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

#[expect(unsafe_code, reason = "bpf has no safe wrapper")]
fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let load = Load {
        kind: CGROUP_DEVICE,
        count: u32::try_from(program.len())?,
        instructions: u64::try_from(program.as_ptr().addr())?,
        license: u64::try_from(c"Apache-2.0".as_ptr().addr())?,
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(unsafe_code, reason = "bpf has no safe wrapper")]
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as it is told, of a structure laid out as it has it, and writes none: there is
    // no log.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    i32::try_from(done).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Stdio},
    };

    use super::*;

    /// In a real cgroup of version 2, which every machine has somewhere: a shell moves there, and tries.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process of the cgroup is what is looked at")]
    fn only_the_usual_devices_are_opened_but_nodes_are_made() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let mount =
            line.and_then(|line| line.split(' ').nth(1)).expect("a hierarchy of version 2 is mounted");
        let cgroup = Path::new(mount).join(format!("flatpod-test-devices-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tries = "echo $$ > \"$CGROUP/cgroup.procs\"; cd \"$DIR\"; \
            mknod null c 1 3 && mknod tty c 4 64 && mknod disk b 7 0 && mknod pts c 136 0 && echo made; \
            for node in null tty disk pts; do (: < $node) 2>&1; echo $node $?; done";
        let try_all = || {
            let mut shell = Command::new("sh");
            shell.args(["-c", tries]).env("CGROUP", &cgroup).env("DIR", dir.path()).stdin(Stdio::null());
            let told = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            for node in ["null", "tty", "disk", "pts"] {
                fs::remove_file(dir.path().join(node)).unwrap();
            }
            told
        };
        let open = try_all();
        let restricted = restrict(&cgroup).map(|()| try_all());
        netns_fixtures::wait_until("the cgroup to be free", std::time::Duration::from_secs(30), || {
            fs::remove_dir(&cgroup).ok()
        })
        .unwrap();
        let restricted = restricted.unwrap();
        let refused = |told: &str, node: &str| told.contains(&format!("{node}: Operation not permitted"));
        assert!(!refused(&open, "tty") && !refused(&open, "disk"), "{open}");
        assert!(restricted.starts_with("made\n") && restricted.contains("null 0\n"), "{restricted}");
        assert!(refused(&restricted, "tty") && refused(&restricted, "disk"), "{restricted}");
        assert!(!refused(&restricted, "pts"), "{restricted}");
    }
}
