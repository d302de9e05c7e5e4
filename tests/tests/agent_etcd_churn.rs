//! A network in which nothing stands still: nodes join, leave, move and vanish, members of etcd are killed and
//! frozen, agents are killed; and pods talk all the time. Afterwards every kernel holds exactly what etcd's
//! keys ask for, and no packet was lost.
//!
//! `FLATNET_CHURN_SECONDS` says for how long, `FLATNET_SEED` repeats the decisions of a run.
#![expect(clippy::unwrap_used, reason = "a failed test is what a panic here means")]
#![expect(clippy::print_stdout, reason = "figures for who asks for them")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use flatnet_tests::agent::AgentNode;
use flatnet_tests::dice::Dice;
use flatnet_tests::etcd::{EtcdNodes, Member, Tables};
use flatnet_tests::streams::Datagrams;
use ipnetwork::IpNetwork;
use netns_fixtures::{NetNs, wait_until};

/// Nodes of one segment send each other packets as they are, all others in VXLAN.
const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#;
/// How long it goes on unless told.
const SECONDS: u64 = 12;
/// How many nodes there are beside the real ones.
const SIMULATED: usize = 20;
/// Every pod sends every other one a datagram so often.
const EVERY: Duration = Duration::from_millis(5);
/// Between two events.
const PAUSE: Duration = Duration::from_millis(40);
/// After the end of an agent's lease nobody goes away for so long.
const CALM: Duration = Duration::from_secs(2);
/// Until everything is as it should be: the grace for vanished keys (10 s), the guard's time, and an election.
const SETTLED: Duration = Duration::from_secs(90);

/// A member of etcd that is away, until when.
enum Away {
    Killed(Instant),
    Frozen(Instant),
}

/// What is going on.
struct Churn {
    all: EtcdNodes,
    dice: Dice,
    members: Vec<Option<Away>>,
    /// Agents that are away, until when.
    agents: Vec<Option<Instant>>,
    /// What happened, and how often.
    keys: u32,
    refused: u32,
    faults: u32,
    kills: u32,
    revoked: u32,
    /// How long there was no quorum.
    headless: Duration,
    /// Nobody goes away before this.
    calm: Instant,
    /// Which agents have been ready since they started.
    ready: [bool; 3],
}

impl Churn {
    fn new(seed: u64) -> Self {
        let mut all = EtcdNodes::prepare("aab", 3);
        // Leases that end within the run unless they are renewed, and a guard that asks for little patience.
        for i in 1..=3 {
            all.configure(i, ", leaseSeconds: 15", "removeConfirmSeconds: 2\n");
        }
        all.start_store(NETWORK);
        all.start_agents();
        let members = all.etcd.iter().map(|_| None).collect();
        let agents = all.nodes.iter().map(|_| None).collect();
        Self {
            all,
            dice: Dice::new(seed),
            members,
            agents,
            keys: 0,
            refused: 0,
            faults: 0,
            kills: 0,
            revoked: 0,
            headless: Duration::ZERO,
            calm: Instant::now(),
            ready: [false; 3],
        }
    }

    /// Between these many milliseconds from now.
    fn soon(&mut self, least: usize, most: usize) -> Instant {
        let wait = least + self.dice.below(most - least);
        Instant::now() + Duration::from_millis(u64::try_from(wait).unwrap())
    }

    fn go_on_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.happen();
        }
    }

    /// One event, and whoever was away for long enough is back.
    fn happen(&mut self) {
        let looked = Instant::now();
        std::thread::park_timeout(PAUSE);
        match self.dice.below(100) {
            0..7 => self.fault(),
            7..9 => self.kill_agent(),
            9..12 => self.revoke(),
            _ => self.change_key(),
        }
        if self.members.iter().flatten().count() > 1 {
            self.headless += looked.elapsed();
        }
        self.return_by(Instant::now());
        self.watch_readiness();
    }

    /// Whoever was ready stays so until it is killed, whatever becomes of etcd.
    fn watch_readiness(&mut self) {
        for i in 0..3 {
            let node = &self.all.nodes[i];
            if self.agents[i].is_some() {
                continue;
            }
            let status = node.status();
            if status["pid"] != u64::from(node.pid()) {
                continue;
            }
            assert!(status["ready"] == true || !self.ready[i], "{status:#}\n{}", node.log());
            self.ready[i] = status["ready"] == true;
        }
    }

    /// Whoever was to be away until then is back.
    fn return_by(&mut self, now: Instant) {
        for (member, away) in self.all.etcd.iter_mut().zip(&mut self.members) {
            back(member, away, now);
        }
        for (node, away) in self.all.nodes.iter_mut().zip(&mut self.agents) {
            if away.take_if(|until| *until <= now).is_some() {
                node.start();
            }
        }
    }

    /// One member goes away, or two of three, which leaves no quorum.
    fn fault(&mut self) {
        let (which, both) = (self.dice.below(3), self.dice.below(3) == 0);
        self.take_away(which);
        if both {
            self.take_away((which + 1) % 3);
        }
    }

    fn take_away(&mut self, which: usize) {
        let (kill, until) = (self.dice.below(2) == 0, self.soon(500, 4_000));
        if self.members[which].is_some() || Instant::now() < self.calm {
            return;
        }
        self.faults += 1;
        self.members[which] = Some(if kill {
            self.all.etcd[which].kill();
            Away::Killed(until)
        } else {
            self.all.etcd[which].pause();
            Away::Frozen(until)
        });
    }

    fn kill_agent(&mut self) {
        let which = self.dice.below(3);
        let until = self.soon(0, 1_500);
        if self.agents[which].is_none() && Instant::now() >= self.calm {
            self.kills += 1;
            self.ready[which] = false;
            self.all.nodes[which].kill();
            self.agents[which] = Some(until);
        }
    }

    /// An agent's lease ends, and its key with it: it claims its subnet again, and the others go on with it
    /// meanwhile. Not while somebody is away, who might be for longer than the others wait.
    fn revoke(&mut self) {
        let which = self.dice.below(3);
        if self.members.iter().any(Option::is_some) || self.agents.iter().any(Option::is_some) {
            return;
        }
        let (member, key) = (&self.all.etcd[0], EtcdNodes::key(self.all.subnet(which + 1)));
        let lease = ask(member, &["get", "-w", "fields", &key]);
        let lease = lease.and_then(|text| text.split_once("\"Lease\" : ")?.1.lines().next()?.parse().ok());
        let Some(lease) = lease.filter(|lease: &i64| *lease != 0) else { return };
        if ask(member, &["lease", "revoke", &format!("{lease:x}")]).is_some() {
            self.revoked += 1;
            self.calm = Instant::now() + CALM;
        }
    }

    /// A simulated node has one of two subnets, addresses and MACs of its own: what it had before may stand
    /// beside what it has now.
    fn change_key(&mut self) {
        let slot = self.dice.below(SIMULATED);
        let mut one_of_two = || self.dice.below(2);
        let key = format!("/coreos.com/network/subnets/10.5.{}.0-24", 150 + slot + 50 * one_of_two());
        let address = match (slot % 2, one_of_two()) {
            // Of the segment of the first two nodes, of that of the third, and of neither.
            (0, other) => format!("192.0.2.{}", 100 + slot + 50 * other),
            (_, 0) => format!("198.51.100.{}", 100 + slot),
            _ => format!("203.0.113.{}", 100 + slot),
        };
        let mac = format!("7a:00:00:00:{slot:02x}:{:02x}", one_of_two());
        let value = format!(
            r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        );
        let what = self.dice.below(10);
        // Nobody to ask: that is what happened then.
        let Some(at) = self.members.iter().position(Option::is_none) else { return };
        let member = &self.all.etcd[at];
        let done = match what {
            0..5 => ask(member, &["put", &key, &value]).is_some(),
            5..7 => put_for_seconds(member, &key, &value),
            7 => ask(member, &["put", &key, "{"]).is_some(),
            _ => ask(member, &["del", &key]).is_some(),
        };
        *(if done { &mut self.keys } else { &mut self.refused }) += 1;
    }

    /// All simulated nodes go at once, which the agents do not believe at once.
    fn exodus(&self) {
        let Some(at) = self.members.iter().position(Option::is_none) else { return };
        for tens in ["15", "16", "20", "21"] {
            let key = |last: char| format!("/coreos.com/network/subnets/10.5.{tens}{last}");
            // Up to, but not, what follows the last digit.
            drop(ask(&self.all.etcd[at], &["del", &key('0'), &key(':')]));
        }
    }

    /// Everything runs again, and answers.
    fn heal(&mut self) {
        self.return_by(Instant::now() + Duration::from_secs(3_600));
        self.all.etcd.iter().for_each(Member::wait_healthy);
    }
}

fn back(member: &mut Member, away: &mut Option<Away>, now: Instant) {
    match away {
        Some(Away::Killed(until)) if *until <= now => member.start(),
        Some(Away::Frozen(until)) if *until <= now => member.resume(),
        _ => return,
    }
    *away = None;
}

/// What etcd answers, where it does; without a quorum it does not.
fn ask(member: &Member, args: &[&str]) -> Option<String> {
    let output = member.try_ctl(&[&["--command-timeout=1s"], args].concat());
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A node that vanishes by itself: nobody renews its lease.
fn put_for_seconds(member: &Member, key: &str, value: &str) -> bool {
    let lease = ask(member, &["lease", "grant", "3"]);
    let lease = lease.and_then(|text| Some(text.split_whitespace().nth(1)?.to_owned()));
    lease.is_some_and(|lease| ask(member, &["put", &format!("--lease={lease}"), key, value]).is_some())
}

fn seconds() -> u64 {
    std::env::var("FLATNET_CHURN_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"))
}

/// What the tables of node `i` should be by now, and what they are.
fn tables(all: &EtcdNodes, (i, own): (usize, IpNetwork), pod: IpAddr) -> (Tables, Tables) {
    let segment = if i == 3 { "198.51.100.0/24" } else { "192.0.2.0/24" };
    let wanted = Tables::wanted(&all.entries(), (own, segment.parse().unwrap()), &[pod]);
    (wanted, Tables::seen(all.node(i)))
}

fn check_tables(all: &EtcdNodes, subnets: &[IpNetwork], pods: &[(NetNs, IpAddr)]) {
    for i in 1..=3 {
        let look = || tables(all, (i, subnets[i - 1]), pods[i - 1].1);
        let settled = wait_until("the tables that etcd asks for", SETTLED, || {
            let (wanted, seen) = look();
            (wanted == seen).then_some(wanted)
        });
        let Ok(settled) = settled else {
            let (wanted, seen) = look();
            let node = all.node(i);
            panic!("n{i}:\n{}{:#}\n{}", wanted.differences(&seen), node.status(), node.log());
        };
        println!(
            "n{i}: {} routes, {} nexthops, {} neighbours, {} forwarding entries, {} senders: exactly those",
            settled.routes.len(),
            settled.nexthops.len(),
            settled.neighbours.len(),
            settled.fdb.len(),
            settled.senders.len()
        );
        // The status follows with the look that comes after a change.
        let told = || {
            let status = all.node(i).status();
            (status["peers"].as_array().map(Vec::len) == Some(settled.senders.len())).then_some(status)
        };
        let status = wait_until("the status to tell of all peers", SETTLED, told);
        let status = status.unwrap_or_else(|e| panic!("n{i}: {e}: {:#}", all.node(i).status()));
        let left_out = status["store"]["leftOut"].as_array().map_or(0, Vec::len);
        // Beyond twenty they are only counted.
        assert!(left_out > 20 || 1 + settled.senders.len() + left_out == all.entries().len(), "{status:#}");
    }
}

/// Says what it should, of a store that is well again, and did not fill its log meanwhile: each cause is said
/// once in a minute by each run of the agent.
fn check_words(node: &AgentNode, events: usize) {
    let quiet = wait_until("nothing to complain of", SETTLED, || {
        let store = &node.status()["store"];
        (store["error"].is_null() && store["unreachableSince"].is_null() && store["kept"] == 0).then_some(())
    });
    assert!(quiet.is_ok(), "{:#}\n{}", node.status(), node.log());
    let shown = String::from_utf8(node.run("status").stdout).unwrap();
    assert!(shown.contains("(ready"), "{shown}");
    let log = node.log();
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
    let mut warnings = BTreeMap::<&str, usize>::new();
    for (_, what) in log.lines().filter_map(|line| line.split_once(" WARN ")) {
        *warnings.entry(what).or_default() += 1;
    }
    let runs = log.matches(" starts ").count();
    let minutes = usize::try_from(seconds() / 60).unwrap() + 2;
    let often = warnings.iter().find(|(_, count)| **count > runs * minutes);
    assert!(often.is_none(), "{often:?} in {runs} runs\n{log}");
    let (lines, warnings) = (log.lines().count(), warnings.values().sum::<usize>());
    let kept = log.matches("; keeping ").count();
    println!(
        "{}: {lines} lines logged by {runs} runs, {warnings} of them warnings, {kept} of peers that are kept",
        node.node.name
    );
    // A node that comes and goes is three changes (it is put, it ends, its grace is over), each of them a
    // line of the store's and one of the kernel's.
    assert!(lines < 6 * events + warnings + 50 * runs, "{events} events\n{log}");
}

#[test]
fn a_network_that_never_stands_still_ends_up_as_etcd_says() {
    let seed = Dice::seed();
    println!("FLATNET_SEED={seed}");
    let mut churn = Churn::new(seed);
    let subnets: Vec<IpNetwork> = (1..=3).map(|i| churn.all.subnet(i)).collect();
    let pods: Vec<_> = (1..=3).map(|i| churn.all.pod(i, &format!("pod{i}"))).collect();
    let mut streams = Vec::new();
    for (a, b) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let ((from, source), (to, target)) = (&pods[a], &pods[b]);
        streams.push((a + 1, b + 1, Datagrams::start((from, *source), (to, *target), EVERY)));
    }
    let half = Duration::from_secs(seconds()) / 2;
    churn.go_on_for(half);
    churn.exodus();
    churn.go_on_for(half);
    churn.heal();
    println!(
        "{} changes of keys, {} refused; {} faults of members, {} ms without a quorum; {} kills of agents, \
         {} of their leases revoked",
        churn.keys,
        churn.refused,
        churn.faults,
        churn.headless.as_millis(),
        churn.kills,
        churn.revoked
    );
    let all = &churn.all;
    // Those of the agents; whoever else had one has vanished by then.
    let expired = || all.etcd[0].ctl(&["lease", "list"]).starts_with("found 3 leases").then_some(());
    wait_until("leases to end", SETTLED, expired).unwrap();
    check_tables(all, &subnets, &pods);
    assert_eq!((1..=3).map(|i| all.subnet(i)).collect::<Vec<_>>(), subnets, "nobody lost a subnet");
    for (a, b, stream) in streams {
        let loss = stream.stop();
        println!("n{a} to n{b}: {loss}");
        assert_eq!(loss.lost, 0, "n{a} to n{b}: {loss}\n{}", all.node(a).log());
    }
    let events = usize::try_from(churn.keys + churn.faults + churn.revoked).unwrap();
    all.nodes.iter().for_each(|node| check_words(node, events));
}
