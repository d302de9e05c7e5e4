//! The few netlink requests that a fabric is made of, each done inside the namespace it is about.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::RawFd,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    address::{AddressAttribute, AddressFlags},
    link::{InfoBridge, InfoData, InfoVeth, LinkAttribute, LinkMessage, State},
};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder};

use crate::{FixtureError, NetNs, wait_until};

/// The kernel looks at carriers in a worker of its own, which waits for its turn on a busy machine.
const CARRIER: Duration = Duration::from_secs(10);

/// One end of a veth pair to be made.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: u32,
}

/// Runs `work` against a netlink socket of `ns`.
pub(crate) fn netlink<T: Send>(
    ns: &NetNs,
    what: &str,
    work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error> + Send,
) -> Result<T, FixtureError> {
    ns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(FixtureError::os("start a runtime for netlink"))?;
        runtime.block_on(async {
            let (connection, handle, _events) =
                rtnetlink::new_connection().map_err(FixtureError::os("open netlink"))?;
            let pump = tokio::spawn(connection);
            let result = work(handle).await;
            pump.abort();
            result.map_err(|source| FixtureError::Netlink { what: what.to_owned(), source })
        })
    })?
}

/// Makes a link of each kind that nodes have in a namespace that goes away, and says which kinds these are.
///
/// # Errors
/// When there can be no such namespace, or no link of one of the kinds.
pub fn try_kinds() -> Result<[&'static str; 3], FixtureError> {
    let ns = NetNs::new()?;
    let add = |kind: &'static str, link: LinkMessage| {
        let what = format!("add a link of kind {kind}");
        netlink(&ns, &what, async |h| h.link().add(link).execute().await).map(|()| kind)
    };
    Ok([
        add("veth", LinkVeth::new("one", "other").build())?,
        add("bridge", LinkBridge::new("bridge").build())?,
        add("vxlan", LinkVxlan::new("vxlan", 1).build())?,
    ])
}

/// Sets a link up.
pub(crate) async fn set_up(h: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    h.link().change(LinkUnspec::new_with_name(name).up().build()).execute().await
}

/// Sets a link down, as if the cable was pulled at this end.
pub(crate) async fn set_down(h: &Handle, name: &str) -> Result<(), rtnetlink::Error> {
    h.link().change(LinkUnspec::new_with_name(name).down().build()).execute().await
}

/// Makes a bridge that forwards at once and floods what it does not know, like a dumb switch.
pub(crate) async fn add_bridge(h: &Handle, end: End<'_>, mtu: u32) -> Result<(), rtnetlink::Error> {
    let bridge = LinkBridge::new(end.name)
        .index(end.index)
        .append_info_data(InfoBridge::MulticastSnooping(false))
        .mtu(mtu)
        .up()
        .build();
    h.link().add(bridge).execute().await
}

/// Makes a veth pair: `near` here, a port of the bridge `bridge`; `far` born in the namespace `far_ns`,
/// still down.
///
/// `near.index` is chosen by the caller so that it never equals the far end's: the kernel takes a
/// link whose peer has its own number for a plain one and reports its carrier up to a second late.
pub(crate) async fn add_port(
    h: &Handle,
    near: End<'_>,
    bridge: u32,
    far: (&str, RawFd),
    mtu: u32,
) -> Result<(), rtnetlink::Error> {
    let peer = LinkUnspec::new_with_name(far.0).mtu(mtu).setns_by_fd(far.1).build();
    let pair = LinkVeth::new(near.name, far.0)
        .index(near.index)
        .controller(bridge)
        .mtu(mtu)
        .up()
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    h.link().add(pair).execute().await
}

/// Waits until link `name` carries packets. A port of a bridge forwards nothing before, however long it is up.
pub(crate) fn wait_for_carrier(ns: &NetNs, name: &str) -> Result<(), FixtureError> {
    let index = index_of(ns, name)?;
    let state = || {
        let found = netlink(ns, &format!("read {name}"), async |h| {
            h.link().get().match_index(index).execute().try_next().await
        })?;
        let up = LinkAttribute::OperState(State::Up);
        Ok::<_, FixtureError>(found.is_some_and(|message| message.attributes.contains(&up)))
    };
    wait_until(&format!("carrier of {name}"), CARRIER, || match state() {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        Err(error) => Some(Err(error)),
    })?
}

/// Adds addresses to link `index`; IPv6 ones without duplicate address detection.
pub(crate) async fn add_addresses(
    h: &Handle,
    index: u32,
    addresses: &[IpNetwork],
) -> Result<(), rtnetlink::Error> {
    for address in addresses {
        let mut request = h.address().add(index, address.ip(), address.prefix());
        if address.is_ipv6() {
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        request.execute().await?;
    }
    Ok(())
}

/// Adds a default route by `gateway`.
pub(crate) async fn add_default(h: &Handle, gateway: IpAddr) -> Result<(), rtnetlink::Error> {
    let route = match gateway {
        IpAddr::V4(gw) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gw).build(),
        IpAddr::V6(gw) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gw).build(),
    };
    h.route().add(route).execute().await
}

/// Writes `net` sysctls inside `ns`: pairs of a path below `/proc/sys/net` and a value.
pub(crate) fn sysctls(ns: &NetNs, settings: &[(&str, &str)]) -> Result<(), FixtureError> {
    ns.run(|| {
        settings.iter().try_for_each(|(key, value)| {
            fs::write(format!("/proc/sys/net/{key}"), value)
                .map_err(FixtureError::os(format!("set sysctl net/{key} to {value}")))
        })
    })?
}

/// GSO and GRO sizes of a link; see [`NetNs::segment_sizes`]. iproute2 shows those of IPv4 only since 6.3.
pub(crate) fn segment_sizes(ns: &NetNs, name: &str) -> Result<[u32; 4], FixtureError> {
    let index = index_of(ns, name)?;
    let found = netlink(ns, &format!("read {name}"), async |h| {
        h.link().get().match_index(index).execute().try_next().await
    })?;
    let mut sizes = [0; 4];
    for attribute in found.into_iter().flat_map(|message| message.attributes) {
        match attribute {
            LinkAttribute::GsoMaxSize(size) => sizes[0] = size,
            LinkAttribute::GsoIpv4MaxSize(size) => sizes[1] = size,
            LinkAttribute::GroMaxSize(size) => sizes[2] = size,
            LinkAttribute::GroIpv4MaxSize(size) => sizes[3] = size,
            _ => {}
        }
    }
    Ok(sizes)
}

/// Sets all of [`segment_sizes`].
pub(crate) fn set_segment_sizes(ns: &NetNs, name: &str, size: u32) -> Result<(), FixtureError> {
    let mut message = LinkMessage::default();
    message.header.index = index_of(ns, name)?;
    message.attributes = vec![
        LinkAttribute::GsoMaxSize(size),
        LinkAttribute::GroMaxSize(size),
        LinkAttribute::GsoIpv4MaxSize(size),
        LinkAttribute::GroIpv4MaxSize(size),
    ];
    netlink(ns, &format!("set segment sizes of {name}"), async |h| h.link().change(message).execute().await)
}

/// The number of link `name` in `ns`.
pub(crate) fn index_of(ns: &NetNs, name: &str) -> Result<u32, FixtureError> {
    ns.run(|| nix::net::if_::if_nametoindex(name))?.map_err(FixtureError::errno(format!("find link {name}")))
}
