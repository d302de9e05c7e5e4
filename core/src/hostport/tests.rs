use super::*;
use crate::attach::tests::attachment;

fn mapping(host_address: &str, host_port: u16) -> HostPort {
    let host_address = host_address.parse().unwrap();
    HostPort { protocol: Protocol::Tcp, host_address, host_port, container_port: 80 }
}

fn pod(container: &str, addresses: &[&str], host_ports: Vec<HostPort>) -> Attachment {
    let container = container.parse().unwrap();
    let ids = crate::link::AttachmentIds::of(&container, &"eth0".parse().unwrap());
    Attachment { container, host_ifname: ids.host_if, host_ports, ..attachment(addresses) }
}

fn held(pods: &[&Attachment]) -> Vec<Held> {
    pods.iter().filter_map(|pod| PodPorts::of(pod)).flat_map(|ports| held_by(&ports)).collect()
}

fn text(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

const BOTH: [&str; 2] = ["10.22.0.5", "fd00:22::5"];

#[test]
fn each_family_that_is_asked_for_and_there_gets_an_element() {
    let count = |host: &str, addresses: &[&str]| {
        let ports = PodPorts::of(&pod("a", addresses, vec![mapping(host, 8080)]));
        let of = |v4: bool| {
            ports.iter().flat_map(|p| &p.elements).filter(move |e| match e {
                Element::Port { pod, .. } => pod.is_ipv4() == v4,
                Element::Hairpin(_) => false,
            })
        };
        (of(true).count(), of(false).count())
    };
    assert_eq!(count("", &BOTH), (1, 1));
    assert_eq!(count("", &BOTH[..1]), (1, 0));
    assert_eq!(count("0.0.0.0", &BOTH), (1, 0));
    assert_eq!(count("::", &BOTH), (0, 1));
    assert_eq!(count("127.0.0.1", &BOTH), (1, 0));
    assert_eq!(count("2001:db8::1", &BOTH), (0, 1));
    assert_eq!(count("::", &BOTH[..1]), (0, 0));
    let v4: Vec<IpAddr> = vec!["10.22.0.5".parse().unwrap()];
    assert!(!mapping("::", 1).fits(&v4) && mapping("", 1).fits(&v4) && !mapping("2001:db8::1", 1).fits(&v4));
    assert_eq!(PodPorts::of(&pod("a", &BOTH, Vec::new())), None);
}

#[test]
fn one_address_and_all_addresses_are_in_each_others_way() {
    let conflict = |a: &str, b: &str| {
        let (a, b) = (pod("a", &BOTH, vec![mapping(a, 80)]), pod("b", &BOTH, vec![mapping(b, 80)]));
        PodPorts::of(&b).unwrap().conflicts(&held(&[&a])).next().is_some()
    };
    for (a, b) in
        [("", ""), ("", "192.0.2.1"), ("0.0.0.0", "192.0.2.1"), ("", "::"), ("192.0.2.1", "192.0.2.1")]
    {
        assert!(conflict(a, b) && conflict(b, a), "{a:?} {b:?}");
    }
    for (a, b) in [("0.0.0.0", "::"), ("192.0.2.1", "192.0.2.2"), ("192.0.2.1", "2001:db8::1")] {
        assert!(!conflict(a, b) && !conflict(b, a), "{a:?} {b:?}");
    }
    let (own, other_port) = (pod("a", &BOTH, vec![mapping("", 80)]), pod("b", &BOTH, vec![mapping("", 81)]));
    let ports = PodPorts::of(&own).unwrap();
    assert_eq!(ports.conflicts(&held(&[&own, &other_port])).count(), 0, "neither its own nor another port");
}

#[test]
fn the_holder_is_read_from_the_comment_however_long_the_names() {
    let mut a = pod("a", &BOTH, vec![mapping("", 80)]);
    a.pod = Some("é".repeat(200));
    let ports = PodPorts::of(&a).unwrap();
    assert!(ports.comment.len() <= LONGEST_COMMENT);
    assert_eq!(held_by(&ports)[0].holder(), Some(a.host_ifname.clone()));
    let held = |comment: &str| Held {
        element: Element::Hairpin(BOTH[0].parse().unwrap()),
        comment: comment.to_owned(),
    };
    assert_eq!((held("").holder(), held("fn1 x").holder(), held("web").holder()), (None, None, None));
    assert!(held("web").holder_text().contains("web"));
}

#[test]
fn records_keep_their_form_and_old_ones_are_read() {
    let a = pod("a", &BOTH, vec![mapping("", 80), mapping("127.0.0.1", 81)]);
    let json = serde_json::to_value(&a).unwrap();
    let wanted = serde_json::json!([
        { "protocol": "tcp", "hostIP": "", "hostPort": 80, "containerPort": 80 },
        { "protocol": "tcp", "hostIP": "127.0.0.1", "hostPort": 81, "containerPort": 80 },
    ]);
    assert_eq!(json["hostPorts"], wanted);
    assert_eq!(serde_json::from_value::<Attachment>(json.clone()).unwrap(), a);
    let mut old = json;
    old.as_object_mut().unwrap().remove("hostPorts");
    assert_eq!(serde_json::from_value::<Attachment>(old).unwrap().host_ports, []);
}

#[test]
fn healing_a_whole_table_looks_at_the_chains_only() {
    let (a, b) = (pod("a", &BOTH, vec![mapping("", 80)]), pod("b", &["10.22.0.6"], vec![mapping("", 81)]));
    let seen = held(&[&a, &b]);
    let steps = heal(&[a.clone(), b], &seen, |_| false);
    assert!(matches!(&steps[..], [Step::PutHostPorts(ports)] if ports.holder == a.host_ifname), "{steps:?}");
}

#[test]
fn healing_adds_what_is_missing_and_removes_what_nobody_has() {
    let (a, b) = (pod("a", &BOTH, vec![mapping("", 80)]), pod("b", &["10.22.0.6"], vec![mapping("", 81)]));
    let steps = heal(std::slice::from_ref(&a), &held(&[&b]), |_| false);
    assert_eq!(steps.len(), 2, "{:?}", text(&steps));
    assert!(matches!(&steps[0], Step::DropHostPorts(Holding::These(these)) if these.len() == 2));
    assert!(matches!(&steps[1], Step::PutHostPorts(ports) if ports.holder == a.host_ifname));
    let stays = heal(&[], &held(&[&b]), |holder| *holder == b.host_ifname);
    assert_eq!(text(&stays), [""; 0], "somebody lives there");
    let nameless = Held { comment: String::new(), ..held(&[&b]).remove(0) };
    assert_eq!(heal(&[], &[nameless], |_| true).len(), 1);
}

#[test]
fn healing_mends_an_element_that_leads_elsewhere() {
    let a = pod("a", &["10.22.0.5"], vec![mapping("", 80)]);
    let moved = pod("a", &["10.22.0.9"], vec![mapping("", 80)]);
    let steps = heal(std::slice::from_ref(&a), &held(&[&moved]), |_| true);
    assert!(matches!(&steps[..], [Step::DropHostPorts(_), Step::PutHostPorts(_)]), "{:?}", text(&steps));
}

/// An ADD that is about to be refused has a record for a moment.
#[test]
fn healing_takes_nothing_from_a_holder() {
    let (a, b) = (pod("a", &BOTH, vec![mapping("", 80)]), pod("b", &BOTH, vec![mapping("192.0.2.1", 80)]));
    let records = [a.clone(), b.clone()];
    for holder in [&a, &b] {
        let steps = heal(&records, &held(&[holder]), |_| true);
        assert_eq!(steps, [Step::PutHostPorts(PodPorts::of(holder).unwrap())], "what it has already");
    }
    assert_eq!(heal(&records, &[], |_| true).len(), 1, "one of both");
}

#[test]
fn check_names_what_is_missing_or_somebody_elses() {
    let a = pod("a", &BOTH, vec![mapping("", 80)]);
    let whole = held(&[&a]);
    assert_eq!(check(&a, &whole), Ok(()));
    for i in 0..whole.len() {
        let mut less = whole.clone();
        let gone = less.remove(i).element.to_string();
        let e = check(&a, &less).unwrap_err();
        assert_eq!((e.expected, e.found.as_str()), (gone, "none"));
    }
    let thief = pod("b", &BOTH, vec![mapping("", 80)]);
    assert!(check(&a, &held(&[&thief])).unwrap_err().found.contains(" b eth0"));
    let moved = pod("a", &["10.22.0.9"], vec![mapping("", 80)]);
    assert!(check(&a, &held(&[&moved])).unwrap_err().found.contains("10.22.0.9"));
}
