//! Settings below `/proc/sys`, of the namespace the thread runs in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use flatnet_core::step::Outcome;
use nix::sys::statvfs::{FsFlags, statvfs};

/// Where settings are.
const HERE: &str = "/proc/sys";
/// Where a container that is to write settings has its host's `/proc/sys/net`: its own `/proc/sys` is read-only.
/// Which namespace's settings these are is up to the thread that opens them (`net_ctl_root_lookup`,
/// net/sysctl_net.c), not to the mount.
const MOUNTED: &str = "/mnt/proc/sys";

/// Where settings of the network can be written.
static ROOT: LazyLock<&Path> = LazyLock::new(|| {
    let read_only = statvfs(HERE).is_ok_and(|here| here.flags().contains(FsFlags::ST_RDONLY));
    let mounted = Path::new(MOUNTED).join("net/ipv4").is_dir();
    Path::new(if read_only && mounted { MOUNTED } else { HERE })
});

/// The file of a key written with slashes (`net/ipv4/ip_forward`). Keys never leave `/proc/sys`.
fn file(key: &str) -> io::Result<PathBuf> {
    if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sysctl key"));
    }
    let root = if key.starts_with("net/") { *ROOT } else { Path::new(HERE) };
    Ok(root.join(key))
}

/// Reads a setting.
///
/// # Errors
/// There is no such setting here.
pub fn read(key: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(file(key)?)?.trim_end().to_owned())
}

/// Writes a setting unless it is so already.
///
/// # Errors
/// There is no such setting here, or the kernel refuses the value.
pub fn write(key: &str, value: &str) -> io::Result<Outcome> {
    let path = file(key)?;
    if std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(Outcome::AlreadySo);
    }
    std::fs::write(&path, value)?;
    if (key, value) == (FORWARD_ALL, "1") && read("net/ipv4/conf/default/forwarding")? != "1" {
        forward_each()?;
    }
    Ok(Outcome::Done)
}

/// The switch for all links at once, IPv4.
const FORWARD_ALL: &str = "net/ipv4/ip_forward";

/// [`FORWARD_ALL`] sets each link's own switch too, but not always when several processes use it at the same
/// moment: who has to wait for the kernel's lock puts back what it found, and the next one then sees, or does
/// not see, a change (`devinet_sysctl_forward`, net/ipv4/devinet.c).
fn forward_each() -> io::Result<()> {
    for entry in std::fs::read_dir(ROOT.join("net/ipv4/conf"))? {
        match std::fs::write(entry?.path().join("forwarding"), "1") {
            // A link that went meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            written => written?,
        }
    }
    Ok(())
}

/// Interfaces that take routes from router advertisements only as long as the node does not forward
/// (`accept_ra` is 1; 2 means "also when forwarding", Documentation/networking/ip-sysctl.rst).
#[must_use]
pub fn accepting_ra() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(ROOT.join("net/ipv6/conf")) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| read(&format!("net/ipv6/conf/{name}/accept_ra")).is_ok_and(|value| value == "1"))
        .collect()
}
