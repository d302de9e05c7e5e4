//! Settings below `/proc/sys`, of the namespace the thread runs in.

use std::io;
use std::path::PathBuf;

use flatnet_core::step::Outcome;

/// The file of a key written with slashes (`net/ipv4/ip_forward`). Keys never leave `/proc/sys`.
fn file(key: &str) -> io::Result<PathBuf> {
    if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sysctl key"));
    }
    Ok(PathBuf::from("/proc/sys").join(key))
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
    for entry in std::fs::read_dir("/proc/sys/net/ipv4/conf")? {
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
    let Ok(entries) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| read(&format!("net/ipv6/conf/{name}/accept_ra")).is_ok_and(|value| value == "1"))
        .collect()
}
