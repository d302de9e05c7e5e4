//! One session: from connecting to whatever ends it.

use std::time::Duration;

use flatnet_core::overlay::flannel::{Me, Network, Standing, SubnetKey};
use flatnet_core::overlay::settings::Settings;
use tokio::time::Instant;

use super::Follower;
use super::connection::Connection;
use super::fault::Fault;
use crate::pacing::{Changed, random, random_fraction};

/// One change is often several; so long after the first the claim and the cluster are looked at. Many in a row
/// are slowed down by [`SHARE`].
const GATHER: Duration = Duration::from_millis(5);
/// The same after a change of our own, or after somebody was faster.
const TURN: Duration = Duration::from_millis(30);
/// A look that nobody asked for: an uplink may have another address, a pod may be gone.
const UNASKED: Duration = Duration::from_secs(10);
/// The same while this node has no good claim.
const UNSETTLED: Duration = Duration::from_millis(500);
/// The same while somebody else keeps changing this node's entry.
const FIGHT_PAUSE: Duration = Duration::from_secs(5);
/// After a claim its own event is waited for, but not longer than this.
const ECHO: Duration = Duration::from_secs(3);
/// A lease is renewed after a third of its time, but at least so often.
const RENEW_MOST: Duration = Duration::from_secs(3600);

/// Looking may take this share of the time: one part in so many.
const SHARE: u32 = 4;

/// What a session has to do, and when.
struct Agenda {
    /// When to look at claim and cluster.
    look: Instant,
    /// When a change may be looked at again: looking takes a share of the time only.
    rested: Instant,
    /// When to renew the lease.
    renew: Instant,
    /// Until when to wait for the event of a claim of ours, which has this revision: what others claimed
    /// before is known then.
    echo: Option<(i64, Instant)>,
    /// The key whose lease is renewed.
    held: Option<SubnetKey>,
}

impl Follower {
    /// Serves until something fails.
    pub(super) async fn session(&mut self) -> Fault {
        let endpoint = self.config.endpoints[self.turn % self.config.endpoints.len()].clone();
        match self.serve(&endpoint).await {
            Ok(never) => match never {},
            Err(fault) => fault.at(&endpoint),
        }
    }

    async fn serve(&mut self, endpoint: &str) -> Result<std::convert::Infallible, Fault> {
        let mut etcd = Connection::open(&self.config, endpoint).await?;
        if self.mirror.is_none() || self.stale {
            let mut fresh = etcd.list().await?;
            let now = std::time::Instant::now();
            match self.mirror.take() {
                Some(older) => fresh.succeed(older, now),
                None => fresh.miss(std::mem::take(&mut self.peers), now),
            }
            self.mirror = Some(fresh);
            self.stale = false;
        }
        let mut mirror = self.mirror.take().ok_or_else(|| Fault::stale("nothing is known"))?;
        let watched = etcd.watch(&mirror).await;
        let mut stream = match watched {
            Ok(stream) => stream,
            Err(fault) => {
                self.mirror = Some(mirror);
                return Err(fault);
            }
        };
        let now = Instant::now();
        let mut agenda = Agenda { look: now, rested: now, renew: now + RENEW_MOST, echo: None, held: None };
        let mut reached = false;
        loop {
            let heard = tokio::select! {
                // Cancel safe: a message is taken from the stream whole, and put into the mirror at once.
                heard = etcd.next(&mut stream, &mut mirror) => Some(heard),
                // Cancel safe: a timer. Before etcd has confirmed the watch nothing is decided.
                () = tokio::time::sleep_until(agenda.look.min(agenda.renew)), if reached => None,
                // Cancel safe: a timer.
                () = tokio::time::sleep(ECHO), if !reached => Some(Err(Fault::new("watch: not confirmed"))),
            };
            self.mirror = Some(mirror);
            match heard {
                Some(heard) => {
                    let changed = heard?;
                    if !reached {
                        reached = true;
                        self.note_reached(endpoint);
                    }
                    if changed {
                        agenda.look = agenda.look.min(agenda.rested.max(Instant::now() + GATHER));
                    }
                }
                None => self.act(&mut etcd, &mut agenda).await?,
            }
            mirror = self.mirror.take().ok_or_else(|| Fault::stale("nothing is known"))?;
        }
    }

    async fn act(&mut self, etcd: &mut Connection, agenda: &mut Agenda) -> Result<(), Fault> {
        let now = Instant::now();
        if agenda.renew <= now {
            self.renew(etcd, agenda).await?;
        }
        if agenda.look > now || self.is_waiting(agenda) {
            return Ok(());
        }
        agenda.look = now + UNASKED;
        let start = Instant::now();
        let Some((network, settings)) = self.current_network() else { return Ok(()) };
        match self.me(&network, &settings).await {
            Ok(me) => self.settle(etcd, agenda, (&network, &settings, &me)).await?,
            Err(text) => self.voice.note_trouble(format!("this node's address: {text}")),
        }
        // What vanished goes for good when its time is up.
        let gone = self.mirror.as_mut().and_then(|mirror| mirror.sweep(std::time::Instant::now()));
        if let Some(gone) = gone {
            agenda.look = agenda.look.min(gone.into());
        }
        agenda.rested = Instant::now() + start.elapsed() * SHARE;
        Ok(())
    }

    /// Whether the event of our own claim is still on its way.
    fn is_waiting(&self, agenda: &mut Agenda) -> bool {
        let Some((revision, until)) = agenda.echo else { return false };
        let known = self.mirror.as_ref().map_or(0, |mirror| mirror.revision);
        if known >= revision || Instant::now() >= until {
            agenda.echo = None;
            return false;
        }
        agenda.look = Instant::now() + TURN;
        true
    }

    /// Compares this node's claim with what etcd holds, and does the one thing that is missing.
    async fn settle(
        &mut self,
        etcd: &mut Connection,
        agenda: &mut Agenda,
        (network, settings, me): (&Network, &Settings, &Me),
    ) -> Result<(), Fault> {
        if self.voice.is_fight(Changed::Nothing) {
            let text = "etcd: something keeps changing this node's entry; is its address unique?";
            self.trouble = Some(text.to_owned());
            self.voice.note_trouble(text.to_owned());
            agenda.look = Instant::now() + FIGHT_PAUSE;
            if let Some(key) = agenda.held {
                self.publish((network, settings), me, key);
            }
            return Ok(());
        }
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let standing = me.stand(network, mirror.entries(), random());
        let value = me.offer.write();
        let claim_of = |key| mirror.claim(key);
        let changed = match &standing {
            Standing::Held(_) => None,
            Standing::Lost { why, .. } => {
                self.memory.lost_why = Some(why.clone());
                None
            }
            Standing::Full => {
                let all: Vec<String> = network.networks.iter().map(ToString::to_string).collect();
                self.voice.note_trouble(format!("etcd: no subnet of {} is free", all.join(" and ")));
                agenda.look = Instant::now() + UNASKED.mul_f64(0.5 + random_fraction());
                return Ok(());
            }
            Standing::Free(key) => Some(etcd.claim(&key.to_string(), &value, self.config.lease).await?),
            Standing::Outdated(key) => match claim_of(*key) {
                Some(claim) => Some(etcd.rewrite(&key.to_string(), &value, claim).await?),
                None => Some(None),
            },
            Standing::Unusable(key) => match claim_of(*key) {
                Some(claim) => Some(etcd.release(&key.to_string(), claim).await?),
                None => Some(None),
            },
        };
        self.note_change(agenda, &standing, changed);
        self.conclude(etcd, agenda, (network, settings, me), standing).await
    }

    /// Says when to look again after a change of ours was taken, or refused.
    fn note_change(&mut self, agenda: &mut Agenda, standing: &Standing, changed: Option<Option<i64>>) {
        let now = Instant::now();
        match changed {
            None => {}
            Some(Some(revision)) => {
                self.voice.is_fight(Changed::Something);
                match standing {
                    Standing::Free(key) => tracing::info!(store = "etcd", %key, "subnet claimed"),
                    Standing::Outdated(key) => tracing::info!(store = "etcd", %key, "claim published anew"),
                    Standing::Unusable(key) => tracing::info!(store = "etcd", %key, "subnet given back"),
                    Standing::Held(_) | Standing::Lost { .. } | Standing::Full => {}
                }
                agenda.echo = Some((revision, now + ECHO));
                agenda.look = now + TURN;
            }
            // Somebody was faster: what they did is on its way here.
            Some(None) => agenda.look = now + TURN.mul_f64(1.0 + 3.0 * random_fraction()),
        }
    }

    async fn conclude(
        &mut self,
        etcd: &mut Connection,
        agenda: &mut Agenda,
        (network, settings, me): (&Network, &Settings, &Me),
        standing: Standing,
    ) -> Result<(), Fault> {
        match standing {
            Standing::Held(key) | Standing::Outdated(key) => {
                self.lost = None;
                self.memory.lost_why = None;
                if agenda.held != Some(key) {
                    agenda.held = Some(key);
                    self.renew(etcd, agenda).await?;
                }
                self.remember(key, settings);
                self.publish((network, settings), me, key);
            }
            Standing::Lost { key, .. } => {
                agenda.held = None;
                self.lost.get_or_insert_with(std::time::Instant::now);
                agenda.look = Instant::now() + UNSETTLED;
                self.publish((network, settings), me, key);
            }
            Standing::Free(_) | Standing::Unusable(_) | Standing::Full => agenda.held = None,
        }
        Ok(())
    }

    /// Lets the lease of our key begin anew. A lease that is gone takes the key with it, which is an event.
    async fn renew(&mut self, etcd: &mut Connection, agenda: &mut Agenda) -> Result<(), Fault> {
        agenda.renew = Instant::now() + RENEW_MOST;
        let claim = agenda.held.and_then(|key| self.mirror.as_ref()?.claim(key));
        // A key without a lease was given to this node for good.
        let Some(claim) = claim.filter(|claim| claim.lease != 0) else { return Ok(()) };
        match etcd.keep_alive(claim.lease).await? {
            Some(ttl) => agenda.renew = Instant::now() + (ttl / 3).min(RENEW_MOST),
            None => {
                agenda.held = None;
                agenda.look = agenda.look.min(Instant::now() + UNSETTLED);
            }
        }
        Ok(())
    }
}
