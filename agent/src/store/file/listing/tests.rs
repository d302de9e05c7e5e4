use flatnet_core::overlay::cluster::RawCluster;
use proptest::prelude::*;

use super::*;

/// The ways to write a list: what comes before it, a node, what separates nodes, what comes after.
const FORMS: [[&str; 4]; 5] = [
    [
        "network: { ipv4: 10.0.0.0/8 }\nnodes:\n",
        "  - { name: NAME, address: 192.0.2.ADDRESS, subnets: [10.0.SUBNET.0/24] }\n",
        "",
        "",
    ],
    [
        "# ours\nnodes:\n",
        "- name: NAME\n  address: \"192.0.2.ADDRESS\" # here\n\n  subnets:\n  - 10.0.SUBNET.0/24\n",
        "",
        "network:\n  ipv4: 10.0.0.0/8\n",
    ],
    [
        "{ \"network\": { \"ipv4\": \"10.0.0.0/8\" }, \"nodes\": [\n",
        "{ \"name\": \"NAME\", \"address\": \"192.0.2.ADDRESS\", \"subnets\": [\"10.0.SUBNET.0/24\"] }",
        ",\n",
        "\n] }\n",
    ],
    [
        "{\n  \"nodes\": [\n",
        "    {\n      \"name\": \"NAME\",\n      \"address\": \"192.0.2.ADDRESS\",\n      \"subnets\": [\n        \
         \"10.0.SUBNET.0/24\"\n      ]\n    }",
        ",\n",
        "\n  ],\n  \"network\": {\n    \"ipv4\": \"10.0.0.0/8\"\n  }\n}\n",
    ],
    [
        "network: { ipv4: 10.0.0.0/8 }\nnodes: [\n",
        "{ name: NAME, address: 192.0.2.ADDRESS, subnets: [10.0.SUBNET.0/24] }",
        ",\n",
        "]\n",
    ],
];

/// Name, address, subnet.
type Node = (u8, u8, u8);

fn write(form: usize, nodes: &[Node]) -> String {
    let [head, node, between, end] = FORMS[form];
    let node = |(name, address, subnet): &Node| {
        node.replace("NAME", &format!("n{name}"))
            .replace("ADDRESS", &address.to_string())
            .replace("SUBNET", &subnet.to_string())
    };
    let nodes: Vec<String> = nodes.iter().map(node).collect();
    format!("{head}{}{end}", nodes.join(between))
}

fn read(text: &str) -> Option<Arc<Cluster>> {
    let raw: RawCluster = yaml::read(text).ok()?;
    Cluster::check(&raw).ok().map(Arc::new)
}

fn listing(text: &str) -> Option<Listing> {
    Listing::of(text.to_owned(), read(text)?)
}

const THREE: [Node; 3] = [(1, 1, 1), (2, 2, 2), (3, 3, 3)];

#[test]
fn nodes_that_come_go_and_change_are_read_alone() {
    let lists: [&[Node]; 7] = [
        &[THREE[0], THREE[1], THREE[2], (4, 4, 4)],
        &[(4, 4, 4), THREE[0], THREE[1], THREE[2]],
        &[THREE[0], (4, 4, 4), THREE[1], THREE[2]],
        &THREE[..2],
        &[THREE[0], THREE[2]],
        &[THREE[0], (2, 9, 7), THREE[2]],
        &[(7, 7, 7), (8, 8, 8), (3, 5, 3)],
    ];
    for form in 0..4 {
        let known = listing(&write(form, &THREE)).unwrap();
        for list in lists {
            let text = write(form, list);
            let followed = known.follow(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(Some(followed.cluster()), read(&text).as_ref(), "{text}");
        }
        assert_eq!(known.follow(&write(form, &THREE)).unwrap().cluster(), known.cluster());
    }
    assert!(listing(&write(4, &THREE)).is_none(), "no node begins a line as in a list");
}

/// What holds the whole together is read as a whole.
#[test]
fn what_concerns_others_is_not_read_alone() {
    let text = write(0, &THREE);
    let known = listing(&text).unwrap();
    let last = "  - { name: n3, address: 192.0.2.3, subnets: [10.0.3.0/24] }\n";
    for (from, to) in [
        ("10.0.0.0/8", "10.0.0.0/9"),
        ("name: n3", "name: n1"),
        ("192.0.2.3", "192.0.2.1"),
        ("10.0.3.0/24", "10.0.2.128/25"),
        ("10.0.3.0/24", "11.0.3.0/24"),
        ("name: n3", "name: \"n3"),
        ("name: n3", "name: &a n3"),
        (last, "---\n"),
        (last, "network: { ipv4: 10.0.0.0/8 }\n"),
        (last, "  -{ name: n4 }\n"),
    ] {
        assert!(text.contains(from) && known.follow(&text.replace(from, to)).is_none(), "{from} -> {to}");
    }
    assert!(listing(&text.replace("name: n3", "name: &a n3")).is_none(), "an anchor");
}

/// Two braces on one line and one elsewhere: as many lines begin with one as there are nodes.
#[test]
fn braces_of_something_else_are_not_taken_for_nodes() {
    let node = |n: u8| FORMS[2][1].replace("NAME", &format!("n{n}")).replace("ADDRESS", &n.to_string());
    let node = |n: u8| node(n).replace("SUBNET", &n.to_string());
    let text = format!(
        "{{ \"network\":\n{{ \"ipv4\": \"10.0.0.0/8\" }}, \"nodes\": [\n{},\n{}, {}\n] }}\n",
        node(1),
        node(2),
        node(3)
    );
    assert_eq!(read(&text).unwrap().nodes.len(), 3);
    assert!(listing(&text).is_none());
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((0u8..8, 1u8..9, 0u8..8), 1..7)
}

proptest! {
    /// Whatever becomes of a file, what is read of a part of it is what reading the whole says.
    #[test]
    fn a_part_says_what_the_whole_says(
        form in 0usize..5,
        lists in prop::collection::vec(nodes(), 1..5),
        cut in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        put in "[ \\n{}\\[\\],:#\"-]{0,4}|  - \\{ name: n9, address: 192.0.2.99, subnets: \\[10.0.9.0/24\\] \\}\n",
    ) {
        let distinct = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)];
        let mut known = listing(&write(form, &distinct));
        let mut texts: Vec<String> = lists.iter().map(|nodes| write(form, nodes)).collect();
        let mut spoilt = write(form, &distinct);
        let (from, to) = (cut.0.index(spoilt.len()), cut.1.index(spoilt.len()));
        spoilt.replace_range(from.min(to)..from.max(to).min(from.min(to) + 12), &put);
        texts.push(spoilt);
        for text in texts {
            let Some(listing) = &known else { break };
            if let Some(followed) = listing.follow(&text) {
                let whole = read(&text);
                prop_assert_eq!(Some(followed.cluster()), whole.as_ref(), "{}", text);
                known = Some(followed);
            }
        }
    }
}
