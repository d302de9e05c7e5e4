//! A model of what the kernel shows of one attachment: steps change it as they change the kernel, damages
//! as people do.

use proptest::prelude::*;

use super::*;
use crate::attach::tests::attachment;
use crate::attach::{self, SeenRoute};
use crate::cni::result::Promise;
use crate::step::Neighbour;

const DUAL: [&str; 2] = ["10.22.0.5", "fd00:22::5"];

fn record() -> Attachment {
    let mut record = attachment(&DUAL);
    record.routes = vec!["10.0.0.0/8".parse().unwrap(), "fd01::/16".parse().unwrap()];
    record.sysctls.insert("net/ipv4/ping_group_range".to_owned(), "0 5".to_owned());
    record
}

/// The same as a further interface of its pod.
fn further() -> Attachment {
    Attachment { metric: Some(2048), ..record() }
}

fn end_of(seen: &mut SeenAttachment, ns: Ns) -> Option<&mut SeenEnd> {
    match ns {
        Ns::Node => seen.node.as_mut(),
        Ns::Pod => seen.pod.as_mut(),
    }
}

fn set(end: &mut SeenEnd, change: &LinkChange) {
    if let Some(mac) = change.mac {
        end.neighbours.clear();
        end.mac = Some(mac);
    }
    end.mtu = change.mtu.unwrap_or(end.mtu);
    end.up = change.up.unwrap_or(end.up);
    end.alias = change.alias.clone().or(end.alias.take());
    for (conf, value) in &change.ipv4 {
        end.conf.retain(|(c, _)| c != conf);
        end.conf.push((*conf, *value));
    }
}

fn put_route(end: &mut SeenEnd, route: &Route, put: Put) {
    let metric = route.metric.unwrap_or(default_metric(&route.dst));
    let taken = |r: &SeenRoute| r.dst == route.dst && r.metric == metric;
    match put {
        Put::New => assert!(!end.routes.iter().any(taken), "{route} is there"),
        Put::Replace => end.routes.retain(|r| !taken(r)),
        Put::Beside => {}
    }
    end.routes.push(SeenRoute { dst: route.dst, gateway: gateway(route), metric });
}

/// What the kernel does.
fn apply(seen: &mut SeenAttachment, steps: &[Step]) {
    for step in steps {
        let end = end_of(seen, step.ns());
        match (step, end) {
            (Step::CreateVeth(veth), _) => {
                assert!(seen.node.is_none() && seen.pod.is_none(), "{step}: one of the names is taken");
                let end = |mac| SeenEnd { mtu: veth.mtu.get(), mac: Some(mac), ..SeenEnd::default() };
                (seen.node, seen.pod) = (Some(end(veth.host_mac)), Some(end(veth.pod_mac)));
            }
            (Step::DeleteLink(_), _) => {
                (seen.node, seen.pod) = (None, None);
                seen.own_routes.clear();
            }
            (Step::PutTableRoute(_, _, route), Some(_)) => {
                let route =
                    SeenRoute { dst: route.dst, gateway: gateway(route), metric: default_metric(&route.dst) };
                seen.own_routes.retain(|r| r.dst != route.dst);
                seen.own_routes.push(route);
            }
            (Step::PutRule(_, rule), _) => {
                // A second one of the same kind is refused, which does no harm.
                seen.rules.retain(|r| r != rule);
                seen.rules.push(*rule);
            }
            (Step::SetLink(link, _), _) if link.name.as_str() == "lo" => seen.loopback_up = true,
            (Step::SetLink(_, change), Some(end)) => set(end, change),
            (Step::AddAddr(_, address, _), Some(end)) => end.addresses.push(*address),
            (Step::PutRoute(_, route, put), Some(end)) => put_route(end, route, *put),
            (Step::PutNeighbour(_, neighbour), Some(end)) => {
                end.neighbours.retain(|n| n.ip != neighbour.ip);
                end.neighbours.push(*neighbour);
            }
            (Step::SetSysctl(_, key, value), _) => {
                seen.sysctls.insert(key.clone(), value.replace(' ', "\t"));
            }
            (Step::PutGuard | Step::Settle(_), _) => {}
            (step, _) => panic!("no repair needs {step}"),
        }
    }
}

fn healthy(record: &Attachment) -> SeenAttachment {
    let mut seen = SeenAttachment::default();
    apply(&mut seen, &attach::plan_add(record, &Extras::of(record)));
    seen
}

/// Every way in which one object can be wrong.
const DAMAGES: usize = 18;

fn damage(seen: &mut SeenAttachment, which: usize, ns: Ns) {
    match which {
        11 => seen.loopback_up = false,
        12 => seen.sysctls.clear(),
        13 => {
            (seen.node, seen.pod) = (None, None);
            seen.own_routes.clear();
        }
        15 => drop(seen.rules.pop()),
        16 => drop(seen.own_routes.pop()),
        17 => seen.own_routes.iter_mut().for_each(|r| r.gateway = None),
        14 if ns == Ns::Pod => seen.pod = None,
        14 if seen.pod.as_ref().is_some_and(|pod| pod.mac == Some(record().mac)) => seen.node = None,
        _ => {}
    }
    let Some(end) = end_of(seen, ns) else { return };
    let other = Mac([2, 9, 9, 9, 9, 9]);
    match which {
        0 => end.up = false,
        1 => end.mtu = 1300,
        2 => end.mac = Some(other),
        3 => end.addresses.clear(),
        4 => end.routes.clear(),
        5 => end.neighbours.clear(),
        6 => end.conf.iter_mut().for_each(|(_, value)| *value = 0),
        7 => end.alias = None,
        8 => end.neighbours.iter_mut().for_each(|n| n.mac = other),
        9 => end.routes.iter_mut().for_each(|r| r.gateway = Some("10.9.9.9".parse().unwrap())),
        10 => drop(end.routes.pop()),
        _ => {}
    }
}

/// What others add to an end.
fn added(end: &mut SeenEnd) {
    end.addresses.push("10.99.0.1/32".parse().unwrap());
    let dst = "203.0.113.0/24".parse().unwrap();
    end.routes.push(SeenRoute { dst, gateway: None, metric: 7 });
    end.neighbours.push(Neighbour { ip: "10.99.0.2".parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, 1]) });
}

fn check(record: &Attachment, seen: &SeenAttachment) -> Result<(), Difference> {
    attach::check(record, &Extras::of(record).routes, &Promise::default(), seen)
}

#[test]
fn a_healthy_pod_needs_nothing() {
    for addresses in [&DUAL[..], &DUAL[..1], &DUAL[1..]] {
        let record = attachment(addresses);
        let mut seen = healthy(&record);
        assert_eq!(plan_repair(&record, None, &seen), Ok(Vec::new()));
        added(seen.pod.as_mut().unwrap());
        added(seen.node.as_mut().unwrap());
        assert_eq!(plan_repair(&record, None, &seen), Ok(Vec::new()), "what others add stays");
        assert_eq!(plan_repair_node(&record, seen.node.as_ref().unwrap()), Vec::new());
    }
}

#[test]
fn every_damage_is_seen_and_put_right() {
    let record = further();
    let mut shown = 0;
    for which in 0..DAMAGES {
        for ns in [Ns::Node, Ns::Pod] {
            let mut seen = healthy(&record);
            damage(&mut seen, which, ns);
            let changed = seen != healthy(&record);
            let plan = plan_repair(&record, None, &seen).unwrap();
            assert_eq!(changed, !plan.is_empty(), "damage {which} on {ns}: {plan:?}");
            apply(&mut seen, &plan);
            assert_eq!(check(&record, &seen), Ok(()), "damage {which} on {ns}");
            shown += usize::from(changed);
        }
    }
    assert!(shown >= 32, "{shown}");
}

#[test]
fn one_missing_object_is_one_step() {
    let record = record();
    let mut seen = healthy(&record);
    seen.pod.as_mut().unwrap().routes.retain(|r| r.dst != "0.0.0.0/0".parse::<IpNetwork>().unwrap());
    let plan = plan_repair(&record, None, &seen).unwrap();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(
        plan[0].to_string().contains("add route 0.0.0.0/0 via 169.254.1.1 dev eth0 on pod"),
        "{}",
        plan[0]
    );
}

#[test]
fn somebody_elses_interface_is_never_touched() {
    let record = record();
    let mut seen = healthy(&record);
    seen.node = None;
    seen.pod.as_mut().unwrap().mac = Some(Mac([2, 9, 9, 9, 9, 9]));
    let e = plan_repair(&record, None, &seen).unwrap_err().to_string();
    assert!(e.contains("eth0 on pod") && e.contains("02:09:09:09:09:09"), "{e}");
}

proptest! {
    /// Whatever is damaged, alone or together: after the plan CHECK passes and nothing is left to do, and
    /// what others added to an end that lived is still there.
    #[test]
    fn after_the_plan_everything_is_right(
        damages in proptest::collection::vec((0..DAMAGES, any::<bool>()), 0..12), first: bool
    ) {
        let record = if first { record() } else { further() };
        let mut seen = healthy(&record);
        for (which, node) in damages {
            damage(&mut seen, which, if node { Ns::Node } else { Ns::Pod });
        }
        prop_assume!(seen.node.is_some() || seen.pod.as_ref().is_none_or(|p| p.mac == Some(record.mac)));
        let lived = seen.node.is_some() && seen.pod.is_some();
        if lived {
            added(seen.pod.as_mut().unwrap());
        }
        let plan = plan_repair(&record, None, &seen).unwrap();
        apply(&mut seen, &plan);
        prop_assert_eq!(check(&record, &seen), Ok(()));
        prop_assert_eq!(plan_repair(&record, None, &seen), Ok(Vec::new()));
        let theirs: IpNetwork = "10.99.0.1/32".parse().unwrap();
        prop_assert!(!lived || seen.pod.unwrap().addresses.contains(&theirs));
    }
}
