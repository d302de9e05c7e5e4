//! One session: from opening a connection to whatever ends it.

use std::time::Duration;

use flatnet_core::overlay::flannel::{Annotations, Me, Offer, Pods, SubnetKey};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Follower;
use super::connection::{Answer, Connection};
use super::fault::Fault;
use super::mirror::Mirror;
use super::object::{NETWORK_UNAVAILABLE, Own, Refusal, WatchLine};
use crate::pacing::{Changed, random_fraction};

/// One change is often several; so long after the first this node and the cluster are looked at. Many in a
/// row are slowed down by [`SHARE`].
const GATHER: Duration = Duration::from_millis(5);
/// A look that nobody asked for: an uplink may have another address.
const UNASKED: Duration = Duration::from_secs(10);
/// A watch that ended sooner was no good one.
const SHORT: Duration = Duration::from_secs(1);
/// After a change that was refused: somebody was faster.
const AGAIN: Duration = Duration::from_millis(200);
/// The same where the reason will not go by itself.
const REFUSED: Duration = Duration::from_secs(30);
/// Looking may take this share of the time: one part in so many.
const SHARE: u32 = 4;

/// What a session has to do, and when.
struct Agenda {
    /// When to look at this node and the cluster.
    look: Instant,
    /// When a change may be looked at again: looking takes a share of the time only.
    rested: Instant,
    /// When this node may be written to again.
    write: Instant,
}

impl Follower {
    /// Serves until something fails.
    pub(super) async fn session(&mut self) -> Fault {
        match self.serve().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Fault> {
        let api = Connection::open(&self.config).await?;
        if self.mirror.version.is_empty() || self.stale {
            self.list(&api).await?;
        }
        let now = Instant::now();
        let mut agenda = Agenda { look: now, rested: now, write: now };
        loop {
            let begun = Instant::now();
            let mut watch = api.watch(&self.mirror.version).await?;
            self.note_reached();
            loop {
                tokio::select! {
                    // Cancel safe: it says so, and a line is put into the mirror at once.
                    heard = watch.next() => {
                        let Some(line) = heard? else { break };
                        if self.take(line)? {
                            agenda.look = agenda.look.min(agenda.rested.max(Instant::now() + GATHER));
                        }
                    }
                    // Cancel safe: what is new stays marked as new. The sender goes only with the process.
                    Ok(()) = self.forwards.changed() => agenda.look = Instant::now(),
                    // Cancel safe: a timer.
                    () = tokio::time::sleep_until(agenda.look) => self.act(&api, &mut agenda).await?,
                }
            }
            if begun.elapsed() < SHORT {
                return Err(Fault::new("watch nodes: the API server ended it at once"));
            }
        }
    }

    async fn list(&mut self, api: &Connection) -> Result<(), Fault> {
        let mut fresh = Mirror::default();
        let take = |node| {
            fresh.put(node, &self.config.network, &self.settings);
        };
        let version = api.list(take).await?;
        fresh.version = version;
        let now = std::time::Instant::now();
        match std::mem::take(&mut self.remembered) {
            Some(members) => fresh.recall(&members, &self.settings, now),
            None => fresh.succeed(std::mem::take(&mut self.mirror), now),
        }
        self.mirror = fresh;
        self.stale = false;
        Ok(())
    }

    /// Puts a line of the watch into the mirror; says whether it matters.
    fn take(&mut self, line: WatchLine) -> Result<bool, Fault> {
        match line {
            WatchLine::Added(node) | WatchLine::Modified(node) => {
                self.mirror.version = node.version().to_owned();
                Ok(self.mirror.put(*node, &self.config.network, &self.settings))
            }
            WatchLine::Deleted(node) => {
                self.mirror.version = node.version().to_owned();
                Ok(self.mirror.delete(node.name(), &self.settings, std::time::Instant::now()))
            }
            WatchLine::Bookmark(object) => {
                self.mirror.version = object.metadata.resource_version;
                Ok(false)
            }
            WatchLine::Error(Refusal { code, message }) => {
                Err(Fault::answered(code, &message).at("watch nodes"))
            }
        }
    }

    async fn act(&mut self, api: &Connection, agenda: &mut Agenda) -> Result<(), Fault> {
        let start = Instant::now();
        agenda.look = start + UNASKED;
        let Some((own, key)) = self.standing() else { return Ok(()) };
        let offer = match self.offer(&own).await {
            Ok(offer) => offer,
            Err(text) => {
                self.voice.note_trouble(format!("this node's address: {text}"));
                return Ok(());
            }
        };
        if self.mirror.own.is_some() && agenda.write <= Instant::now() {
            self.write(api, agenda, (&own, &offer)).await?;
        }
        let me = Me { offer, previous: None, pods: Pods::Some };
        self.publish(&me, key);
        // What vanished goes for good when its time is up.
        if let Some(gone) = self.mirror.sweep(std::time::Instant::now()) {
            agenda.look = agenda.look.min(gone.into());
        }
        agenda.rested = Instant::now() + start.elapsed() * SHARE;
        Ok(())
    }

    /// This node and its subnets; as they were last where the API server has them no more. `None` where it
    /// never had them.
    fn standing(&mut self) -> Option<(Own, SubnetKey)> {
        let name = &self.settings.node;
        self.trouble = match &self.mirror.own {
            None => Some(format!(
                "Kubernetes has no node {name}; set `node` (FLATNET_NODE) to the name that `kubectl get nodes` \
                 shows; a node that was deleted is registered again when its kubelet starts"
            )),
            Some(own) => own.key.as_ref().err().map(|why| format!("this node {name}: {why}")),
        };
        if let Some(Own { key: Ok(key), .. }) = &self.mirror.own {
            self.last = self.mirror.own.clone().map(|own| (own, *key));
        }
        if self.last.is_none() {
            self.voice.note_trouble(self.trouble.clone()?);
        }
        // The object that is there is the one to write to, whatever subnets it has.
        let (last, key) = self.last.clone()?;
        Some((self.mirror.own.clone().unwrap_or(last), key))
    }

    /// Publishes what this node offers, and that its network works, where the API server does not know it.
    async fn write(
        &mut self,
        api: &Connection,
        agenda: &mut Agenda,
        (own, offer): (&Own, &Offer),
    ) -> Result<(), Fault> {
        let changes = own.annotations.changes(&Annotations::of(offer));
        let works = *self.forwards.borrow_and_update() && own.unavailable.as_deref() != Some("False");
        if changes.is_empty() && !works {
            self.voice.is_fight(Changed::Nothing);
            self.refused = None;
            return Ok(());
        }
        if self.voice.is_fight(Changed::Something) {
            let text = "something keeps changing this node's annotations; does flannel run here as well?";
            self.refused = Some(text.to_owned());
            agenda.write = Instant::now() + REFUSED / 2;
            return Ok(());
        }
        let name = self.settings.node.as_str().to_owned();
        match api.patch(&name, &patch(own, changes, works)).await? {
            Answer::Done(node) => {
                tracing::info!(store = "kubernetes", network_works = works, "this node published");
                self.refused = None;
                self.mirror.put(*node, &self.config.network, &self.settings);
            }
            Answer::Refused { code, text } => {
                // Somebody was faster, or the node was made anew: what is there now is on its way here.
                let soon = matches!(code, 404 | 409 | 422 | 429 | 500..);
                let pause = if soon { AGAIN.mul_f64(1.0 + 4.0 * random_fraction()) } else { REFUSED };
                agenda.write = Instant::now() + pause;
                agenda.look = agenda.look.min(agenda.write);
                let text = format!("this node cannot be written to: {text}");
                self.voice.say(&text);
                self.refused = (!soon).then_some(text);
            }
        }
        Ok(())
    }
}

/// What to merge into this node. The uid keeps it from another node of the same name.
fn patch(own: &Own, annotations: Map<String, Value>, works: bool) -> Value {
    let mut patch = json!({ "metadata": { "uid": own.uid } });
    if !annotations.is_empty() {
        patch["metadata"]["annotations"] = annotations.into();
    }
    if works {
        let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        patch["status"]["conditions"] = json!([{
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "FlatnetIsUp",
            "message": "flatnetd forwards for pods on this node",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        }]);
    }
    patch
}
