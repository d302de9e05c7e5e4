//! A steady stream of pings from one namespace, and what of it was lost.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use netns_fixtures::{KillOnDrop, NetNs, wait_until};

use super::SOON;

/// Milliseconds between two pings.
const EVERY: u32 = 5;

/// Pings under way.
#[derive(Debug)]
pub struct Traffic {
    ping: KillOnDrop,
    /// Sequence numbers of answers, in the order of their arrival.
    answers: Arc<Mutex<Vec<u32>>>,
    reader: Option<JoinHandle<()>>,
}

/// What was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Pings, or datagrams, that were sent.
    pub sent: u32,
    /// Those that were not answered, or did not arrive.
    pub lost: u32,
    /// The longest time in milliseconds of which nothing arrived.
    pub gap_ms: u32,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} lost, longest gap {} ms", self.lost, self.sent, self.gap_ms)
    }
}

impl Traffic {
    /// Starts pinging `to` from the address `from` in `ns`, and returns once answers flow.
    ///
    /// # Panics
    /// It never does.
    #[must_use]
    pub fn start(ns: &NetNs, from: IpAddr, to: IpAddr) -> Self {
        let first = wait_until("a first answer", SOON, || {
            netns_fixtures::probe::Ping::to(to).from(from).send(ns, SOON).ok()
        });
        assert!(first.is_ok(), "{from} to {to}: {first:?}");
        #[expect(clippy::disallowed_methods, reason = "a test sends traffic with ping")]
        let mut command = Command::new("ping");
        let interval = format!("{}", f64::from(EVERY) / 1000.0);
        command.args(["-n", "-i", &interval, "-I", &from.to_string(), &to.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        ns.enter_for_child(&mut command).expect("enter the namespace");
        let mut ping = KillOnDrop::new(command.spawn().expect("start ping"));
        let answers = Arc::<Mutex<Vec<u32>>>::default();
        let (sink, lines) =
            (Arc::clone(&answers), BufReader::new(ping.child().stdout.take().expect("a pipe")));
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok).filter(|line| line.contains("time=")) {
                let number = line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split(' ').next());
                let number = number.and_then(|number| number.parse::<u32>().ok());
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend(number);
            }
        });
        let traffic = Self { ping, answers, reader: Some(reader) };
        traffic.flows("traffic");
        traffic
    }

    fn answered(&self) -> usize {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for twenty more answers.
    ///
    /// # Panics
    /// They do not come soon; `what` says after what.
    pub fn flows(&self, what: &str) {
        let enough = self.answered() + 20;
        let seen = wait_until(what, SOON, || (self.answered() >= enough).then_some(()));
        assert!(seen.is_ok(), "{seen:?}");
    }

    /// Stops, and tells what was lost. The last pings may still be on their way and do not count.
    ///
    /// # Panics
    /// Nothing was answered.
    #[must_use]
    pub fn stop(mut self) -> Loss {
        drop(self.ping.child().kill());
        self.reader.take().into_iter().for_each(|reader| reader.join().expect("the reader ends"));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        answers.sort_unstable();
        let gap = answers.windows(2).map(|pair| pair[1] - pair[0] - 1).max().expect("answers");
        let (first, last) = (answers[0], answers[answers.len() - 1]);
        let sent = last - first + 1;
        let answered = u32::try_from(answers.len()).expect("a count");
        Loss { sent, lost: sent - answered, gap_ms: gap * EVERY }
    }
}
