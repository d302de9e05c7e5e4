//! The system calls that `RuntimeDefault` allows, by name; all others are refused.
//!
//! It allows what Docker and containerd allow (`seccomp/default_linux.go` of `moby/profiles`,
//! `contrib/seccomp/seccomp_default.go` of containerd), as far as 64-bit machines have it. What they leave out lets a
//! program leave its container (`mount`, `setns`), reaches what no namespace divides (keys, the clock, modules, swap, the
//! kernel itself), or is rarely needed and was often broken (`io_uring_setup`, `userfaultfd`).

/// What everybody may ask, sorted by what it is about.
pub(super) const ALWAYS: [&str; 10] = [
    // Files by their names.
    "chdir copy_file_range execve execveat faccessat faccessat2 fanotify_mark fchdir fchmodat fchmodat2 fchownat getcwd
     inotify_add_watch inotify_init1 inotify_rm_watch linkat listmount mkdirat mknodat name_to_handle_at newfstatat openat
     openat2 readlinkat renameat renameat2 statfs statmount statx symlinkat truncate umask unlinkat utimensat",
    // Extended attributes.
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr
     removexattr setxattr",
    // Open files.
    "cachestat close close_range dup dup3 fadvise64 fallocate fchmod fchown fcntl fdatasync flock fstat fstatfs fsync
     ftruncate getdents64 ioctl lseek pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile
     splice sync sync_file_range syncfs tee vmsplice write writev",
    // Waiting for them.
    "epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_setup
     io_submit ppoll pselect6 signalfd4 timerfd_create timerfd_gettime timerfd_settime",
    // Sockets; of which kind they may be is a matter of arguments.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto
     setsockopt shutdown socketpair",
    // Memory.
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect mremap
     mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    // Processes, their scheduling and their signals. Since Linux 4.8 ptrace is no way around a filter.
    "exit exit_group getcpu getpgid getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kill
     pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv process_vm_writev ptrace restart_syscall rseq
     rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
     rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
     sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
     set_tid_address setpgid setpriority setrlimit setsid sigaltstack tgkill tkill wait4 waitid",
    // Who they are. Capabilities can only be given up.
    "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid landlock_add_rule landlock_create_ruleset
     landlock_restrict_self seccomp setfsgid setfsuid setgid setgroups setregid setresgid setresuid setreuid setuid",
    // Talking to each other.
    "futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list mq_getsetattr mq_notify mq_open mq_timedreceive
     mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop set_robust_list shmat shmctl shmdt
     shmget",
    // Time and the machine. Who may not set the clock may read it with these.
    "adjtimex clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep setitimer
     sysinfo timer_create timer_delete timer_getoverrun timer_gettime timer_settime times uname",
];

/// What everybody may ask on x86-64 besides: mostly what later calls have replaced.
pub(super) const ALWAYS_ON_X86_64: &str = "access alarm arch_prctl chmod chown creat dup2 epoll_create epoll_wait eventfd
     fork futimesat get_thread_area getdents getpgrp inotify_init lchown link lstat mkdir mknod modify_ldt open pause pipe
     poll readlink rename rmdir select set_thread_area signalfd stat symlink time unlink uretprobe utime utimes vfork";

/// Who has it may make namespaces, by whichever call.
pub(crate) const ADMIN: &str = "CAP_SYS_ADMIN";

/// What only the holders of a capability may ask.
pub(super) const BY_CAPABILITY: [(&str, &str); 13] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    (
        ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lsm_get_self_attr lsm_list_modules
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
         sethostname setns syslog umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_TIME", "clock_settime settimeofday"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
];

/// The same on x86-64 besides.
pub(super) const BY_CAPABILITY_ON_X86_64: (&str, &str) = ("CAP_SYS_RAWIO", "ioperm iopl");
