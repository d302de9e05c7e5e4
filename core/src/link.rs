//! Values of links: MAC addresses, MTUs with their unit in the type, VNIs, and the names and addresses
//! that are derived instead of remembered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::{ContainerId, IfName, NodeName};

/// Prefix of every host end of a pod's veth pair.
pub const HOST_IF_PREFIX: &str = "fn";
/// Prefix of the device that shapes what comes from a pod.
pub const SHAPER_PREFIX: &str = "fi";
/// Prefix of the VXLAN device over an IPv4 underlay, followed by the VNI.
pub const VXLAN_PREFIX_V4: &str = "flat.";
/// Prefix of the VXLAN device over an IPv6 underlay, followed by the VNI.
pub const VXLAN_PREFIX_V6: &str = "flat6.";

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address made from `seed` (IEEE 802: bit 1 set, bit 0 clear in the
    /// first byte).
    fn local(seed: &[u8]) -> Self {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&seed[..6]);
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }

    /// The same, if an interface can have it.
    ///
    /// # Errors
    /// It is a group's, or all zeros: the kernel takes neither (`is_valid_ether_addr`, etherdevice.h).
    pub fn of_interface(self) -> Result<Self, MacError> {
        let usable = self.0[0] & 1 == 0 && self.0 != [0; 6];
        if usable { Ok(self) } else { Err(MacError(format!("{self} (a group's, or nobody's)"))) }
    }

    /// The MAC of a node's VXLAN tunnel endpoint (VTEP). Derived from the node's name, so a restart or a
    /// recreated device keeps it and no store has to carry it.
    #[must_use]
    pub fn of_vtep(node: &NodeName) -> Self {
        Self::local(&digest(&[b"vtep", node.as_str().as_bytes()]))
    }
}

/// Not six colon-separated hexadecimal bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the MAC address of an interface (six hexadecimal bytes, like 02:00:5e:10:00:01)")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || MacError(s.to_owned());
        let mut bytes = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// Which family carries the tunnel's outer packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// Outer IPv4 header.
    V4,
    /// Outer IPv6 header.
    V6,
}

impl Underlay {
    /// Bytes that VXLAN puts before the inner IP packet: outer IP, UDP 8, VXLAN 8, inner Ethernet 14
    /// (RFC 7348, section 5).
    const fn vxlan_overhead(self) -> u32 {
        match self {
            Self::V4 => 20 + 8 + 8 + 14,
            Self::V6 => 40 + 8 + 8 + 14,
        }
    }
}

/// The MTU of the node's uplink, in bytes of IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnderlayMtu(pub u32);

/// The MTU of a pod's interface, in bytes of IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OverlayMtu(u32);

impl OverlayMtu {
    /// Smallest MTU an interface may have to carry IPv6 (RFC 8200, section 5).
    pub const MIN: u32 = 1280;
    /// Largest MTU of a veth device (`ETH_MAX_MTU`, include/uapi/linux/if_ether.h).
    pub const MAX: u32 = 65535;

    /// The MTU as configured by a person.
    ///
    /// # Errors
    /// Outside [`Self::MIN`]..=[`Self::MAX`].
    pub fn new(bytes: u32) -> Result<Self, MtuError> {
        if (Self::MIN..=Self::MAX).contains(&bytes) { Ok(Self(bytes)) } else { Err(MtuError(bytes)) }
    }

    /// What is left of `uplink` for pods where some peer is reached through VXLAN.
    ///
    /// # Errors
    /// The uplink is too small to carry a tunnel of [`Self::MIN`] bytes.
    pub fn over_vxlan(uplink: UnderlayMtu, underlay: Underlay) -> Result<Self, MtuError> {
        Self::new(uplink.0.saturating_sub(underlay.vxlan_overhead()).min(Self::MAX))
    }

    /// The whole of `uplink`, where every peer is reached without encapsulation.
    ///
    /// # Errors
    /// The uplink is smaller than [`Self::MIN`].
    pub fn direct(uplink: UnderlayMtu) -> Result<Self, MtuError> {
        Self::new(uplink.0.min(Self::MAX))
    }

    /// The MTU in bytes.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for OverlayMtu {
    /// Ethernet's 1500.
    fn default() -> Self {
        Self(1500)
    }
}

/// An MTU that no pod interface can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("MTU {0} for pods is outside {min}..={max}", min = OverlayMtu::MIN, max = OverlayMtu::MAX)]
pub struct MtuError(pub u32);

/// Largest segments in bytes that a link takes whole, by direction and family: segmentation (GSO) on its way
/// out, and coalescing (GRO) on its way in. Above [`SEGMENT_SIZE`] this is "BIG TCP".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentSizes {
    /// Out, all families but IPv4 (`IFLA_GSO_MAX_SIZE`, include/uapi/linux/if_link.h).
    pub gso: u32,
    /// Out, IPv4 (`IFLA_GSO_IPV4_MAX_SIZE`).
    pub gso_ipv4: u32,
    /// In, all families but IPv4 (`IFLA_GRO_MAX_SIZE`).
    pub gro: u32,
    /// In, IPv4 (`IFLA_GRO_IPV4_MAX_SIZE`).
    pub gro_ipv4: u32,
    /// The most that the device's hardware or driver takes (`IFLA_TSO_MAX_SIZE`).
    pub most: u32,
}

/// Segment size in bytes that every link has unless told otherwise (`GSO_LEGACY_MAX_SIZE`,
/// include/linux/netdevice.h).
pub const SEGMENT_SIZE: u32 = 65536;
/// Largest segment size the kernel takes (`GSO_MAX_SIZE`, include/linux/netdevice.h).
pub const SEGMENT_SIZE_MAX: u32 = 8 * 65535;

impl SegmentSizes {
    /// All the same.
    #[must_use]
    pub const fn of(size: u32) -> Self {
        Self { gso: size, gso_ipv4: size, gro: size, gro_ipv4: size, most: SEGMENT_SIZE_MAX }
    }

    /// What the link takes of either family without segmenting in software.
    #[must_use]
    pub fn takes(self) -> u32 {
        self.gso.min(self.gso_ipv4)
    }

    /// Whether all four are `size`.
    #[must_use]
    pub fn is(self, size: u32) -> bool {
        [self.gso, self.gso_ipv4, self.gro, self.gro_ipv4].iter().all(|own| *own == size)
    }
}

impl Default for SegmentSizes {
    fn default() -> Self {
        Self::of(SEGMENT_SIZE)
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5), zero excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// Not 1..=16777215.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is outside 1..=16777215")]
pub struct VniError(pub u32);

impl Vni {
    /// The identifier as a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Name of the VXLAN device: at most 14 bytes for every VNI.
    #[must_use]
    pub fn device(self, underlay: Underlay) -> IfName {
        let prefix = match underlay {
            Underlay::V4 => VXLAN_PREFIX_V4,
            Underlay::V6 => VXLAN_PREFIX_V6,
        };
        format!("{prefix}{}", self.0).parse().expect("prefix and eight digits are a valid interface name")
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(n: u32) -> Result<Self, Self::Error> {
        if (1..1 << 24).contains(&n) { Ok(Self(n)) } else { Err(VniError(n)) }
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

/// What is derived from an attachment's identity, so that DEL needs nothing that ADD remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentIds {
    /// Name of the host end.
    pub host_if: IfName,
    /// MAC of the host end: the pod's permanent neighbour entry points at it.
    pub host_mac: Mac,
    /// MAC of the pod end.
    pub pod_mac: Mac,
    /// Owner tag in the address pool, never zero.
    pub owner: u64,
}

impl AttachmentIds {
    /// Derives everything from (container id, interface name).
    #[must_use]
    pub fn of(container: &ContainerId, ifname: &IfName) -> Self {
        let seed = digest(&[b"attachment", container.as_str().as_bytes(), ifname.as_str().as_bytes()]);
        let mut name = String::with_capacity(15);
        name.push_str(HOST_IF_PREFIX);
        name.push_str(&base32(&seed[..9]));
        let mut owner = [0; 8];
        owner.copy_from_slice(&seed[24..32]);
        Self {
            host_if: name.parse().expect("prefix and 13 base32 characters are a valid interface name"),
            host_mac: Mac::local(&seed[10..16]),
            pod_mac: Mac::local(&seed[16..22]),
            owner: u64::from_le_bytes(owner).max(1),
        }
    }
}

/// Whether an interface of this name may be the host end of one of our pods.
#[must_use]
pub fn is_host_if(name: &str) -> bool {
    name.len() == 15
        && name.strip_prefix(HOST_IF_PREFIX).is_some_and(|rest| rest.bytes().all(|b| BASE32.contains(&b)))
}

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The first 65 bits of `bytes` as 13 characters of RFC 4648's alphabet, in lower case.
fn base32(bytes: &[u8]) -> String {
    let bit = |i: usize| usize::from(bytes[i / 8] >> (7 - i % 8) & 1);
    (0..13).map(|c| char::from(BASE32[(0..5).fold(0, |n, b| n << 1 | bit(c * 5 + b))])).collect()
}

/// SHA-256 over length-prefixed parts, so that no two different lists of parts collide.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(container: &str, ifname: &str) -> AttachmentIds {
        AttachmentIds::of(&container.parse().unwrap(), &ifname.parse().unwrap())
    }

    /// Names are a disk and kernel format: a change orphans every running pod's interface.
    #[test]
    fn derived_names_never_change() {
        let a = ids("0f3e8b", "eth0");
        assert_eq!(a, ids("0f3e8b", "eth0"));
        assert!(is_host_if(a.host_if.as_str()), "{}", a.host_if);
        assert_ne!(a.host_if, ids("0f3e8b", "eth1").host_if);
        assert_ne!(a.host_mac, a.pod_mac);
        assert_eq!(a.host_if.as_str(), "fnuugbpipskpd6c");
    }

    #[test]
    fn overhead_is_50_and_70_bytes() {
        assert_eq!(OverlayMtu::over_vxlan(UnderlayMtu(1500), Underlay::V4).unwrap().get(), 1450);
        assert_eq!(OverlayMtu::over_vxlan(UnderlayMtu(1500), Underlay::V6).unwrap().get(), 1430);
        assert_eq!(OverlayMtu::over_vxlan(UnderlayMtu(1300), Underlay::V4), Err(MtuError(1250)));
    }

    #[test]
    fn every_vni_makes_a_name_that_fits() {
        let largest = Vni::try_from((1 << 24) - 1).unwrap();
        assert_eq!(largest.device(Underlay::V6).as_str(), "flat6.16777215");
        assert!(Vni::try_from(0).is_err() && Vni::try_from(1 << 24).is_err());
    }

    proptest! {
        #[test]
        fn macs_are_local_unicast_and_round_trip(name in "[a-z0-9][a-z0-9.-]{0,30}") {
            let mac = Mac::of_vtep(&name.parse().unwrap());
            prop_assert_eq!(mac.0[0] & 3, 2);
            prop_assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        }

        #[test]
        fn different_attachments_have_different_names(a in "[a-z0-9]{1,64}", b in "[a-z0-9]{1,64}") {
            prop_assume!(a != b);
            prop_assert_ne!(ids(&a, "eth0").host_if, ids(&b, "eth0").host_if);
        }
    }
}
