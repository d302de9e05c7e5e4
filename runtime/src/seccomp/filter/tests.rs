use std::collections::BTreeSet;

use super::*;
use libc::{SECCOMP_RET_ALLOW as ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS as KILL};

/// This machine, where the numbers of `libc` are right, and another one (`linux/audit.h`).
const NATIVE: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const I386: u32 = 0x4000_0003;
const REFUSED: u32 = SECCOMP_RET_ERRNO | EPERM.unsigned_abs();
const MISSING: u32 = SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs();

/// What a program answers, as the kernel runs it: a call's number, the architecture, and the first argument of it.
fn run(program: &BpfProgram, arch: u32, number: u32, argument: u64) -> u32 {
    let low = u32::try_from(argument & u64::from(u32::MAX)).unwrap();
    let high = u32::try_from(argument >> 32).unwrap();
    let data = [number, arch, 0, 0, low, high];
    let (mut word, mut at) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        let jump = |is: bool| usize::from(if is { jt } else { jf });
        at += 1 + match code {
            LOAD => {
                word = data[usize::try_from(k / 4).unwrap()];
                0
            }
            ANSWER => return k,
            0x05 => usize::try_from(k).unwrap(),
            EQUAL => jump(word == k),
            0x25 => jump(word > k),
            AT_LEAST => jump(word >= k),
            0x54 => {
                word &= k;
                0
            }
            other => panic!("instruction {other:#x}"),
        };
    }
}

/// What the kernel makes of all answers: the strictest, of equals the one of who was installed last.
fn answer(held: &[&str], number: i64, argument: u64) -> u32 {
    judge(held, NATIVE, u32::try_from(number).unwrap(), argument)
}

fn judge(held: &[&str], arch: u32, number: u32, argument: u64) -> u32 {
    let programs = programs(held, TargetArch::try_from(std::env::consts::ARCH).unwrap()).unwrap();
    let answers = programs.iter().rev().map(|one| run(one, arch, number, argument));
    let strictness = |answer: u32| (answer & libc::SECCOMP_RET_ACTION_FULL).cast_signed();
    answers.reduce(|one, next| if strictness(next) < strictness(one) { next } else { one }).unwrap()
}

fn words<'a>(groups: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    groups.into_iter().flat_map(str::split_whitespace).collect()
}

#[test]
fn every_name_is_known_on_every_architecture_and_is_there_once() {
    let everything: Vec<&str> =
        BY_CAPABILITY.iter().map(|(name, _)| *name).chain(["CAP_SYS_RAWIO"]).collect();
    for arch in [TargetArch::x86_64, TargetArch::aarch64] {
        for held in [&[][..], &everything] {
            let [allowed, absent] = programs(held, arch).unwrap();
            assert!(allowed.len() < 4096 && absent.len() < 10, "the kernel takes no more");
        }
    }
    let always = words(ALWAYS.into_iter().chain([ALWAYS_ON_X86_64]));
    assert_eq!(always.len(), always.iter().collect::<BTreeSet<_>>().len());
    // A call that is listed and has rules as well would be allowed by the rules only.
    for name in ["clone", "personality", "socket"] {
        assert!(!always.contains(&name), "{name}");
    }
    let by_right = words(BY_CAPABILITY.iter().chain([&BY_CAPABILITY_ON_X86_64]).map(|(_, names)| *names));
    assert!(!by_right.iter().any(|name| always.contains(name)));
}

#[test]
fn what_is_not_listed_is_refused() {
    for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_capset, libc::SYS_seccomp, libc::SYS_futex] {
        assert_eq!(answer(&[], number, 0), ALLOW, "{number}");
    }
    let never = [
        libc::SYS_add_key,
        libc::SYS_keyctl,
        libc::SYS_request_key,
        libc::SYS_kexec_load,
        libc::SYS_pivot_root,
        libc::SYS_swapon,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_move_pages,
    ];
    let all: Vec<&str> = BY_CAPABILITY.iter().map(|(name, _)| *name).collect();
    for number in never {
        assert_eq!((answer(&[], number, 0), answer(&all, number, 0)), (REFUSED, REFUSED), "{number}");
    }
}

#[test]
fn rights_open_what_needs_them() {
    for (right, number) in [
        ("CAP_SYS_ADMIN", libc::SYS_mount),
        ("CAP_SYS_ADMIN", libc::SYS_unshare),
        ("CAP_SYS_CHROOT", libc::SYS_chroot),
        ("CAP_SYS_TIME", libc::SYS_clock_settime),
        ("CAP_SYS_MODULE", libc::SYS_init_module),
        ("CAP_SYS_NICE", libc::SYS_mbind),
        ("CAP_SYS_PTRACE", libc::SYS_kcmp),
        ("CAP_BPF", libc::SYS_bpf),
    ] {
        assert_eq!(answer(&["CAP_CHOWN"], number, 0), REFUSED, "{right} {number}");
        assert_eq!(answer(&["CAP_CHOWN", right], number, 0), ALLOW, "{right} {number}");
    }
}

#[test]
fn no_call_makes_a_namespace_without_the_right() {
    let thread = u64::from((libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SETTLS).unsigned_abs());
    assert_eq!(answer(&[], libc::SYS_clone, thread), ALLOW);
    for bit in 0..32 {
        let flag = 1_u64 << bit;
        let makes = flag & u64::from(NAMESPACES.unsigned_abs()) != 0;
        assert_eq!(answer(&[], libc::SYS_clone, thread | flag) == REFUSED, makes, "{flag:#x}");
        assert_eq!(answer(&[ADMIN], libc::SYS_clone, thread | flag), ALLOW, "{flag:#x}");
    }
    // Its flags cannot be seen; a libc that is told that it is missing takes clone.
    assert_eq!(answer(&[], libc::SYS_clone3, 0), MISSING);
    assert_eq!(answer(&[ADMIN], libc::SYS_clone3, 0), ALLOW);
    assert_eq!(i64::from(CLONE3), libc::SYS_clone3);
}

#[test]
fn arguments_decide_where_a_call_is_more_than_one_thing() {
    let no_random_addresses = 0x4_0000;
    assert_eq!(answer(&[], libc::SYS_personality, no_random_addresses), REFUSED);
    for value in PERSONALITIES {
        assert_eq!(answer(&[], libc::SYS_personality, u64::from(value)), ALLOW, "{value:#x}");
    }
    for (family, is) in [
        (libc::AF_UNIX, ALLOW),
        (libc::AF_INET6, ALLOW),
        (libc::AF_NETLINK, ALLOW),
        (libc::AF_PACKET, ALLOW),
        (AF_ALG, REFUSED),
        (AF_VSOCK, REFUSED),
    ] {
        assert_eq!(answer(&[], libc::SYS_socket, u64::from(family.unsigned_abs())), is, "{family}");
    }
}

#[test]
fn what_is_newer_than_the_list_is_missing_rather_than_refused() {
    assert_eq!(answer(&[], libc::SYS_mseal, 0), ALLOW);
    for held in [&[][..], &[ADMIN]] {
        for number in [UNKNOWN, UNKNOWN + 1, 600, 0x4000_0000, u32::MAX] {
            assert_eq!(judge(held, NATIVE, number, 0), MISSING, "{number}");
        }
    }
    // Numbers mean something else there.
    assert_eq!(judge(&[ADMIN], I386, 0, 0), KILL);
}
