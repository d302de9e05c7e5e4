//! What the kernel counts of a process, from `/proc` (proc(5)).

use std::fs;

use anyhow::{Context, Result};

/// `/proc` counts CPU time in hundredths of a second, on every architecture (`USER_HZ`).
const TICK: f64 = 0.01;

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user: f64,
    /// In the kernel on the program's behalf.
    pub(crate) kernel: f64,
}

impl Cpu {
    /// Of a process so far, with threads that have ended.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        Self::read(&fs::read_to_string(&path).with_context(|| path.clone())?, 14).with_context(|| path)
    }

    /// Of all children of this process that were waited for.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub(crate) fn of_children() -> Result<Self> {
        let path = "/proc/self/stat";
        Self::read(&fs::read_to_string(path).context(path)?, 16).context(path)
    }

    /// `user` is the number of the field, from one; the kernel's follows.
    fn read(stat: &str, user: usize) -> Option<Self> {
        // The name, second, may hold anything; the third follows its last bracket.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(user - 3);
        let mut next = || fields.next()?.parse::<f64>().ok();
        Some(Self { user: next()? * TICK, kernel: next()? * TICK })
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, kernel: self.kernel - before.kernel }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.kernel
    }
}

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: f64,
    /// At its highest.
    pub(crate) peak: f64,
}

impl Memory {
    /// Of a process.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        Self::read(&fs::read_to_string(&path).with_context(|| path.clone())?).with_context(|| path)
    }

    fn read(status: &str) -> Option<Self> {
        let kib = |key: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(key))?;
            value.split_whitespace().next()?.parse::<f64>().ok()
        };
        Some(Self { resident: kib("VmRSS:")? / 1024.0, peak: kib("VmHWM:")? / 1024.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 300 50 20 0";
        assert_eq!(Cpu::read(stat, 14), Some(Cpu { user: 1.5, kernel: 0.25 }));
        assert_eq!(Cpu::read(stat, 16), Some(Cpu { user: 3.0, kernel: 0.5 }));
        assert_eq!(Cpu::read("7 (cut", 14), None);
    }

    #[test]
    fn memory_is_in_kibibytes() {
        let status = "VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { resident: 1.0, peak: 2.0 }));
    }
}
