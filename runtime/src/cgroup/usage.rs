//! What the processes of a cgroup use.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// What was used until now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Time of CPUs.
    pub(crate) cpu: Option<Duration>,
    /// Bytes of memory, without files that nobody has used for a while: what the kubelet calls the working set.
    pub(crate) memory: Option<u64>,
}

/// What is told of a cgroup by those of its directories that can tell it.
pub(super) fn read(dirs: &[PathBuf]) -> Usage {
    Usage {
        cpu: dirs.iter().filter_map(|dir| cpu(dir)).max(),
        memory: dirs.iter().find_map(|dir| memory(dir)),
    }
}

fn cpu(dir: &Path) -> Option<Duration> {
    let first = number(&dir.join("cpuacct.usage")).map(Duration::from_nanos);
    first.or_else(|| field(&dir.join("cpu.stat"), "usage_usec").map(Duration::from_micros))
}

fn memory(dir: &Path) -> Option<u64> {
    let stat = dir.join("memory.stat");
    let (all, idle) = match number(&dir.join("memory.usage_in_bytes")) {
        Some(all) => (all, "total_inactive_file"),
        None => (number(&dir.join("memory.current"))?, "inactive_file"),
    };
    Some(all.saturating_sub(field(&stat, idle).unwrap_or(0)))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(files: &[(&str, &str)]) -> Usage {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ["one", "two"].map(|name| dir.path().join(name));
        for (file, text) in files {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        read(&dirs)
    }

    #[test]
    fn both_versions_tell_time_and_working_set() {
        let expected = Usage { cpu: Some(Duration::from_millis(2500)), memory: Some(1000) };
        let one = [
            ("one/cpuacct.usage", "2500000000\n"),
            ("two/memory.usage_in_bytes", "4000\n"),
            ("two/memory.stat", "cache 9\ninactive_file 7\ntotal_inactive_file 3000\n"),
        ];
        assert_eq!(usage(&one), expected);
        let two = [
            ("two/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("two/memory.current", "4000\n"),
            ("two/memory.stat", "anon 9\ninactive_file 3000\n"),
        ];
        assert_eq!(usage(&two), expected);
        assert_eq!(usage(&[]), Usage::default());
    }
}
