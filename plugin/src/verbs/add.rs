//! ADD: everything that can refuse comes first, then the address, then the record, then the kernel.

use std::net::IpAddr;

use flatnet_core::attach::{self, Extras};
use flatnet_core::beside::metric_beside;
use flatnet_core::cni::conf::{AddConf, Base};
use flatnet_core::cni::env::{Asked, Env, Target};
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::result;
use flatnet_core::execute::{clear, execute};
use flatnet_core::hostport::{Holding, PodPorts};
use flatnet_core::link::AttachmentIds;
use flatnet_core::node::{ATTACHMENT_VERSION, Attachment};
use flatnet_core::step::{Ns, Step};
use flatnet_kernel::{NetlinkKernel, NetnsFd, attachment, facts, sysctl};
use flatnet_node_state::{Mark, StateDir, boot_seconds};
use ipnetwork::IpNetwork;
use serde_json::Value;

use super::del;
use crate::ipam::Ipam;
use crate::lease::Lessor;
use crate::settings::Settings;
use crate::{context, ports, seen};

pub(crate) fn run(base: &Base, target: &Target, env: Env<'_>) -> Result<Value, CniError> {
    let mut conf = base.add_conf()?;
    apply_args(&mut conf, Asked::read(env)?);
    refuse_second_place(base, target)?;
    let ipam = Ipam::of(base, env)?;
    let ns = open_sandbox(target)?;
    let inode = ns.inode();
    let state = StateDir::new(&base.state_dir);
    let settings = Settings::resolve(base, &conf, &state)?;
    let ids = AttachmentIds::of(&target.container, &target.ifname);
    let kernel = NetlinkKernel::open_node().map_err(|e| context::io("open netlink", &e))?;
    let mut kernel = kernel.with_pod(ns).map_err(|e| context::netns(&e))?;
    let mtu = mtu(&mut kernel, &settings)?;
    // Held to the end: whoever collects, and the same ADD again at the same time, would take us for dead.
    let _mark = begin(&mut kernel, &state, (target, &ids), ipam.as_ref())?;
    let mut cookie = |ns| kernel.netlink(ns).ok()?.namespace_cookie().ok();
    let (netns_cookie, node_cookie) = (cookie(Ns::Pod), cookie(Ns::Node));

    let attachment = Attachment {
        version: ATTACHMENT_VERSION,
        network: base.name.clone(),
        container: target.container.clone(),
        ifname: target.ifname.clone(),
        host_ifname: ids.host_if.clone(),
        netns: target.required_netns()?.display().to_string(),
        netns_inode: inode,
        netns_cookie,
        node_cookie,
        boot: attachment::boot_id().ok(),
        made_at: boot_seconds(),
        addresses: Vec::new(),
        mac: conf.mac.unwrap_or(ids.pod_mac),
        host_mac: ids.host_mac,
        mtu,
        pod: target.pod.clone(),
        limits: conf.limits,
        host_ports: conf.host_ports.clone(),
        routes: conf.routes.iter().map(|route| route.dst).collect(),
        sysctls: conf.sysctls.clone(),
        metric: metric(&mut kernel)?,
        ipam_routes: Vec::new(),
        ipam: ipam.is_some().then(|| base.raw_ipam().cloned()).flatten(),
    };
    let source = Source { settings: &settings, ipam: ipam.as_ref() };
    let made = make(&mut kernel, &state, &mut conf, source, attachment);
    let attachment = made.inspect_err(|_| {
        // The first error is the one to report.
        drop(ipam.as_ref().map(|ipam| ipam.forward("DEL")));
        // What cannot be freed now, DEL or the next ADD frees: the mark or the record tells them.
        if state.addresses().release(ids.owner, &[]).is_empty() {
            drop(state.attachments().remove(&ids.host_if));
        }
    })?;
    let made = result::render(base.version, &attachment, &routes(&conf, &attachment), conf.dns.as_ref());
    Ok(match base.prev_result()? {
        Some(before) => result::append(before, made),
        None => made,
    })
}

/// `CNI_ARGS` count where the configuration does not ask (CONVENTIONS: `args` go before `CNI_ARGS`).
fn apply_args(conf: &mut AddConf, asked: Asked) {
    if conf.requested.is_empty() {
        conf.requested = asked.ips;
    }
    conf.mac = conf.mac.or(asked.mac);
}

/// After a plugin that made the pod's interface there is nothing left for us to do.
fn refuse_second_place(base: &Base, target: &Target) -> Result<(), CniError> {
    let ifname = target.ifname.as_str();
    if !base.prev_result()?.is_some_and(|before| result::has_pod_interface(before, ifname)) {
        return Ok(());
    }
    Err(CniError::new(
        Code::InvalidConfig,
        format!("prevResult has the pod's interface {ifname} already: another plugin of the list made it"),
    )
    .with("flatnet makes the interface itself: it goes first in the list, in place of that plugin"))
}

/// Destinations beyond the default ones: the configuration's, then the IPAM plugin's.
pub(super) fn routes(conf: &AddConf, attachment: &Attachment) -> Vec<IpNetwork> {
    conf.routes.iter().map(|r| r.dst).chain(attachment.ipam_routes.iter().copied()).collect()
}

/// The pod's namespace, verified, and not the one we run in: an interface there would be the node's.
pub(crate) fn open_sandbox(target: &Target) -> Result<NetnsFd, CniError> {
    let ns = NetnsFd::open(target.required_netns()?).map_err(|e| context::netns(&e))?;
    let own = NetnsFd::current().map_err(|e| context::netns(&e))?;
    if ns.is_same(&own) {
        return Err(CniError::new(
            Code::InvalidEnvironment,
            format!("CNI_NETNS {} is the namespace that flatnet itself runs in", ns.path().display()),
        )
        .with("a pod needs a namespace of its own"));
    }
    Ok(ns)
}

/// Makes sure that the attachment can be made, by nobody but us.
fn begin(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    (target, ids): (&Target, &AttachmentIds),
    ipam: Option<&Ipam<'_>>,
) -> Result<Mark, CniError> {
    let begun_before = state.attachments().was_begun(&ids.host_if);
    let mark = state.attachments().begin(&ids.host_if, ids.owner).map_err(|e| context::state(&e))?;
    if let Err(e) = refuse_what_is_there(kernel, target, ids) {
        mark.abandon();
        return Err(e);
    }
    if begun_before || !matches!(state.attachments().get(&ids.host_if), Ok(None)) {
        free_of_the_dead(kernel, state, ids, ipam)?;
    }
    Ok(mark)
}

/// A second ADD, or an interface in the way, is an error that changes nothing.
fn refuse_what_is_there(
    kernel: &mut NetlinkKernel,
    target: &Target,
    ids: &AttachmentIds,
) -> Result<(), CniError> {
    let failed = |e: std::io::Error| context::io("look for the interface", &e);
    let node = kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?;
    if facts::link(node, &ids.host_if).map_err(failed)?.is_some() {
        return Err(CniError::new(
            Code::Conflict,
            format!("container {} has {} already ({})", target.container, target.ifname, ids.host_if),
        )
        .with("DEL removes it"));
    }
    let pod = kernel.netlink(Ns::Pod).map_err(|e| context::kernel(&e))?;
    if facts::link(pod, &target.ifname).map_err(failed)?.is_some() {
        return Err(CniError::new(
            Code::Conflict,
            format!("CNI_IFNAME {} exists in the pod already, made by somebody else", target.ifname),
        ));
    }
    Ok(())
}

/// A record or a mark without its interface is what a killed ADD or a dead pod left: its host ports and
/// addresses are nobody's. The record itself is about to be replaced.
fn free_of_the_dead(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    ids: &AttachmentIds,
    ipam: Option<&Ipam<'_>>,
) -> Result<(), CniError> {
    let ports = Step::DropHostPorts(Holding::Of(ids.host_if.clone()));
    if let Some(e) = clear(kernel, &[ports]).first() {
        return Err(context::kernel(e));
    }
    ipam.map_or(Ok(()), |ipam| ipam.forward("DEL"))?;
    match del::free(state, ids).0.first() {
        Some(e) => Err(context::state(e)),
        None => Ok(()),
    }
}

fn mtu(kernel: &mut NetlinkKernel, settings: &Settings) -> Result<flatnet_core::link::OverlayMtu, CniError> {
    match settings.mtu {
        Some(mtu) => Ok(mtu),
        None => Ok(seen::uplink_mtu(kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?)),
    }
}

/// The first interface of a pod has the plain default route, a further one comes after it.
fn metric(kernel: &mut NetlinkKernel) -> Result<Option<u32>, CniError> {
    let pod = kernel.netlink(Ns::Pod).map_err(|e| context::kernel(&e))?;
    let taken = facts::default_metrics(pod).map_err(|e| context::io("read the pod's routes", &e))?;
    Ok(metric_beside(&taken))
}

/// Where addresses come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    settings: &'a Settings,
    ipam: Option<&'a Ipam<'a>>,
}

/// Addresses, record, kernel. On failure the caller takes the first two back; the executor has taken
/// back the third.
fn make(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    conf: &mut AddConf,
    source: Source<'_>,
    mut attachment: Attachment,
) -> Result<Attachment, CniError> {
    let owner = AttachmentIds::of(&attachment.container, &attachment.ifname).owner;
    match source.ipam {
        None => {
            let netlink = kernel.netlink(Ns::Node).map_err(|e| context::kernel(&e))?;
            attachment.addresses = Lessor::new(netlink, state, conf, owner).lease(source.settings)?;
        }
        Some(ipam) => {
            let given = ipam.add()?;
            attachment.addresses = given.addresses;
            attachment.ipam_routes =
                given.routes.into_iter().filter(|dst| !conf.routes.iter().any(|r| r.dst == *dst)).collect();
            conf.dns = conf.dns.take().or(given.dns);
        }
    }
    ports::refuse_impossible(&attachment.host_ports, &attachment.addresses)?;
    state.attachments().put(&attachment).map_err(|e| context::state(&e))?;
    let extras = Extras {
        node_sysctls: if source.settings.alone { node_sysctls(&attachment) } else { Vec::new() },
        masquerade: source.settings.masquerade.clone(),
        segment_size: source.settings.segment_size,
        ..Extras::of(&attachment)
    };
    apply(kernel, state, &attachment, &attach::plan_add(&attachment, &extras))?;
    let stale = PodPorts::of(&attachment).map(|ports| ports.stale_flows()).unwrap_or_default();
    if !stale.is_empty() {
        // Clients that began before the pod was there; without it they find it when they begin anew.
        drop(clear(kernel, &[Step::ForgetFlows(stale)]));
    }
    Ok(attachment)
}

/// The host ports come before the link in the plan, so that a refusal costs little. What a pod that is gone
/// left there is taken away first, when it turns out to be in the way.
fn apply(
    kernel: &mut NetlinkKernel,
    state: &StateDir,
    attachment: &Attachment,
    plan: &[Step],
) -> Result<(), CniError> {
    let mut left = ports::ATTEMPTS;
    loop {
        left -= 1;
        match execute(kernel, plan).map_err(|e| context::exec(plan, &e)) {
            Err(e) if e.code == Code::Conflict && left > 0 => {
                let way = ports::clear_the_way(kernel, state, attachment)?;
                drop(clear(kernel, &way));
            }
            made => return made,
        }
    }
}

/// Without an agent the plugin itself makes the node forward. An interface that takes its default route
/// from router advertisements keeps doing so: forwarding would make it stop (`accept_ra`, ip-sysctl).
fn node_sysctls(attachment: &Attachment) -> Vec<(String, String)> {
    let mut all = Vec::new();
    if attachment.addresses.iter().any(IpAddr::is_ipv4) {
        all.push(("net/ipv4/ip_forward".to_owned(), "1".to_owned()));
    }
    let forwards = sysctl::read("net/ipv6/conf/all/forwarding").is_ok_and(|v| v == "1");
    if attachment.addresses.iter().any(IpAddr::is_ipv6) && !forwards {
        for name in sysctl::accepting_ra() {
            all.push((format!("net/ipv6/conf/{name}/accept_ra"), "2".to_owned()));
        }
        all.push(("net/ipv6/conf/all/forwarding".to_owned(), "1".to_owned()));
    }
    all
}
