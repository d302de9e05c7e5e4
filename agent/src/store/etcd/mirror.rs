//! What etcd holds below our prefix, as of one revision.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flatnet_core::overlay::flannel::{Entry, KeyError, Offer, SubnetKey};

/// Keys below the prefix.
const CONFIG: &str = "config";
pub(super) const SUBNETS: &str = "subnets/";

/// A key that vanished is worked with for so long: a node whose lease was lost claims it again within
/// seconds, and its pods are to lose nothing meanwhile.
const GRACE: Duration = Duration::from_secs(10);

/// What etcd holds.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    /// Of all that is known here.
    pub(super) revision: i64,
    /// Which cluster of etcd's it is: another one has other revisions.
    pub(super) cluster: u64,
    network: Option<Vec<u8>>,
    held: BTreeMap<String, Held>,
    /// What it held until a moment ago, and until when that is worked with.
    gone: BTreeMap<String, (Entry, Instant)>,
    since: Since,
}

/// What became of the entries since somebody asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Since {
    /// Those of these names are new, all others as they were.
    Joined(Vec<String>),
    /// More than that.
    More,
}

#[derive(Debug, Clone)]
struct Held {
    entry: Result<Entry, KeyError>,
    claim: Claim,
}

/// What a change of a key refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Revision of the last change.
    pub(super) modified: i64,
    /// The lease it lives by; zero: none, it stays.
    pub(super) lease: i64,
}

/// A key as etcd has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Below the prefix.
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
    pub(super) created: i64,
    pub(super) modified: i64,
    pub(super) lease: i64,
}

impl Mirror {
    pub(super) const fn new(cluster: u64, revision: i64) -> Self {
        Self {
            revision,
            cluster,
            network: None,
            held: BTreeMap::new(),
            gone: BTreeMap::new(),
            since: Since::More,
        }
    }

    pub(super) fn put(&mut self, seen: &Seen<'_>) {
        if seen.key == CONFIG {
            self.network = Some(seen.value.to_vec());
        } else if let Some(name) = seen.key.strip_prefix(SUBNETS) {
            let entry = name.parse::<SubnetKey>().map(|key| Entry {
                key,
                offer: Offer::read(seen.value),
                created: seen.created,
            });
            let claim = Claim { modified: seen.modified, lease: seen.lease };
            let was_gone = self.gone.remove(name).is_some();
            let before = self.held.get(name).map(|held| &held.entry);
            match &mut self.since {
                _ if before == Some(&entry) && !was_gone => {}
                Since::Joined(names) if before.is_none() && !was_gone && entry.is_ok() => {
                    names.push(name.to_owned());
                }
                since => *since = Since::More,
            }
            self.held.insert(name.to_owned(), Held { entry, claim });
        }
    }

    /// What became of the entries since this was asked last.
    pub(super) fn since(&mut self) -> Since {
        std::mem::replace(&mut self.since, Since::Joined(Vec::new()))
    }

    /// The entry of this name.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.held.get(name)?.entry.as_ref().ok()
    }

    pub(super) fn delete(&mut self, key: &str, now: Instant) {
        if key == CONFIG {
            self.network = None;
        } else if let Some(name) = key.strip_prefix(SUBNETS)
            && let Some(Held { entry: Ok(entry), .. }) = self.held.remove(name)
        {
            self.gone.insert(name.to_owned(), (entry, now + GRACE));
            self.since = Since::More;
        }
    }

    /// Takes the place of `older`: what only that has vanished meanwhile.
    pub(super) fn succeed(&mut self, older: Self, now: Instant) {
        self.since = Since::More;
        self.gone = older.gone;
        self.gone.retain(|name, _| !self.held.contains_key(name));
        self.miss(older.held.into_values().filter_map(|held| held.entry.ok()), now);
    }

    /// Of `known` what is not there has vanished just now.
    pub(super) fn miss(&mut self, known: impl IntoIterator<Item = Entry>, now: Instant) {
        for entry in known {
            let name = entry.key.to_string();
            if !self.held.contains_key(&name) {
                self.since = Since::More;
                self.gone.insert(name, (entry, now + GRACE));
            }
        }
    }

    /// Keys that vanished a moment ago.
    pub(super) fn leaving(&self, now: Instant) -> impl Iterator<Item = &Entry> + Clone {
        self.gone.values().filter(move |(_, until)| *until > now).map(|(entry, _)| entry)
    }

    /// Forgets what has been gone for long enough, and says when there will be more of it.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<Instant> {
        self.gone.retain(|_, (_, until)| *until > now);
        self.gone.values().map(|(_, until)| *until).min()
    }

    /// The value of `config`.
    pub(super) fn network(&self) -> Option<&[u8]> {
        self.network.as_deref()
    }

    /// Every key that names subnets.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.held.values().filter_map(|held| held.entry.as_ref().ok())
    }

    /// What is wrong with the others.
    pub(super) fn strangers(&self) -> impl Iterator<Item = &KeyError> {
        self.held.values().filter_map(|held| held.entry.as_ref().err())
    }

    /// How the key of these subnets stands.
    pub(super) fn claim(&self, key: SubnetKey) -> Option<Claim> {
        self.held.get(&key.to_string()).map(|held| held.claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(key: &'a str, value: &'a str, modified: i64) -> Seen<'a> {
        Seen { key, value: value.as_bytes(), created: 1, modified, lease: 7 }
    }

    #[test]
    fn keys_come_and_go_and_strangers_are_told_apart() {
        let mut mirror = Mirror::new(1, 1);
        mirror.put(&seen("config", "{}", 2));
        mirror.put(&seen("subnets/10.5.1.0-24", r#"{"PublicIP":"192.0.2.1","BackendType":"host-gw"}"#, 3));
        mirror.put(&seen("subnets/10.5.2.0-24", "", 4));
        mirror.put(&seen("subnets/what is this", "", 5));
        mirror.put(&seen("networks/other", "", 6));
        assert_eq!(mirror.network(), Some(b"{}".as_slice()));
        assert_eq!(mirror.entries().count(), 2, "an entry without a good value has its subnet all the same");
        assert_eq!(mirror.strangers().count(), 1);
        let key = "10.5.1.0-24".parse().unwrap();
        assert_eq!(mirror.claim(key), Some(Claim { modified: 3, lease: 7 }));
        mirror.delete("subnets/10.5.1.0-24", Instant::now());
        mirror.delete("config", Instant::now());
        assert_eq!((mirror.claim(key), mirror.network()), (None, None));
    }

    #[test]
    fn only_those_that_join_are_told_by_name() {
        let value = r#"{"PublicIP":"192.0.2.1","BackendType":"host-gw"}"#;
        let mut mirror = Mirror::new(1, 1);
        assert_eq!(mirror.since(), Since::More, "nobody asked before");
        mirror.put(&seen("subnets/10.5.1.0-24", value, 2));
        mirror.put(&seen("subnets/10.5.1.0-24", value, 3));
        assert_eq!(mirror.since(), Since::Joined(vec!["10.5.1.0-24".to_owned()]));
        mirror.put(&seen("subnets/10.5.1.0-24", value, 4));
        assert_eq!(mirror.since(), Since::Joined(vec![]), "the same again");
        assert!(mirror.entry("10.5.1.0-24").is_some() && mirror.entry("10.5.2.0-24").is_none());
        mirror.put(&seen("subnets/10.5.2.0-24", value, 5));
        mirror.put(&seen("subnets/10.5.1.0-24", "", 6));
        assert_eq!(mirror.since(), Since::More, "another value");
        mirror.delete("subnets/10.5.1.0-24", Instant::now());
        assert_eq!(mirror.since(), Since::More);
        mirror.put(&seen("subnets/10.5.1.0-24", value, 7));
        assert_eq!(mirror.since(), Since::More, "it is back");
    }

    #[test]
    fn what_vanishes_is_worked_with_for_a_while() {
        let start = Instant::now();
        let value = r#"{"PublicIP":"192.0.2.1","BackendType":"host-gw"}"#;
        let mut mirror = Mirror::new(1, 1);
        mirror.put(&seen("subnets/10.5.1.0-24", value, 2));
        mirror.put(&seen("subnets/10.5.2.0-24", value, 3));
        mirror.delete("subnets/10.5.1.0-24", start);
        assert_eq!((mirror.entries().count(), mirror.leaving(start).count()), (1, 1));
        assert_eq!(mirror.sweep(start), Some(start + GRACE));
        // A list that has the one again and not the other.
        let mut fresh = Mirror::new(1, 9);
        fresh.put(&seen("subnets/10.5.1.0-24", value, 8));
        fresh.succeed(mirror, start);
        let leaving: Vec<String> = fresh.leaving(start).map(|entry| entry.key.to_string()).collect();
        assert_eq!(leaving, ["10.5.2.0-24"]);
        assert_eq!(fresh.leaving(start + GRACE).count(), 0);
        assert_eq!(fresh.sweep(start + GRACE), None);
        mirror = fresh;
        // What an earlier run knew.
        let known = ["10.5.2.0-24", "10.5.1.0-24", "10.5.3.0-24"].map(|key| Entry {
            key: key.parse().unwrap(),
            offer: Offer::read(value.as_bytes()),
            created: 0,
        });
        mirror.miss(known, start);
        assert_eq!((mirror.entries().count(), mirror.leaving(start).count()), (1, 2));
        mirror.put(&seen("subnets/10.5.2.0-24", value, 10));
        assert_eq!((mirror.entries().count(), mirror.leaving(start).count()), (2, 1));
        assert_eq!(mirror.sweep(start + GRACE), None);
    }
}
