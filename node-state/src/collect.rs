//! Collecting what nobody uses any more: attachments of the dead, marks of killed makers, addresses without
//! an attachment. Safe beside any ADD and DEL: what an ADD is at is marked and held, and what is taken away
//! is looked at once more when nobody else can be at it.

use std::collections::HashSet;
use std::net::IpAddr;

use flatnet_core::link::AttachmentIds;
use flatnet_core::node::Attachment;

use crate::StateDir;
use crate::addresses::{Used, boot_seconds};
use crate::error::StateError;
use crate::mark::SeenMark;

/// Who knows what the kernel shows.
pub struct Judge<'a> {
    /// Whether nobody uses the attachment, for long enough ([`flatnet_core::life::is_dead`]).
    pub is_dead: &'a dyn Fn(&Attachment) -> bool,
    /// Whether the kernel shows an address in use, whatever the files say.
    pub in_use: &'a dyn Fn(IpAddr) -> bool,
    /// Seconds for which addresses and marks are left alone.
    pub grace: u64,
}

impl std::fmt::Debug for Judge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// What was collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// Records of the dead, their addresses free again.
    pub attachments: Vec<Attachment>,
    /// Addresses that no attachment had.
    pub addresses: Vec<IpAddr>,
    /// What could not be looked at or taken away; the rest was.
    pub failures: Vec<StateError>,
}

impl Collected {
    /// Whether nothing was there to collect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.addresses.is_empty()
    }

    fn keep<T>(&mut self, result: Result<T, StateError>) -> Option<T> {
        result.map_err(|e| self.failures.push(e)).ok()
    }
}

impl StateDir {
    /// Takes away what nobody uses. Attachments whose addresses a third-party IPAM plugin gave stay: only
    /// DEL and GC can give those back.
    #[must_use]
    pub fn collect(&self, judge: &Judge<'_>) -> Collected {
        let mut collected = Collected::default();
        if let Some((records, _)) = collected.keep(self.attachments().list()) {
            for record in records.into_iter().filter(|r| r.ipam.is_none()) {
                if (judge.is_dead)(&record) {
                    let buried = self.bury(&record, judge);
                    let buried = collected.keep(buried).unwrap_or(false);
                    collected.attachments.extend(buried.then_some(record));
                }
            }
        }
        let marks = self.remove_stale_marks(judge.grace);
        collected.keep(marks);
        let freed = self.free_unowned(judge, &mut collected.failures);
        collected.addresses = collected.keep(freed).unwrap_or_default();
        collected
    }

    /// Frees the addresses of a dead attachment and drops its record, unless somebody is at it or it is
    /// another one by now.
    fn bury(&self, record: &Attachment, judge: &Judge<'_>) -> Result<bool, StateError> {
        let attachments = self.attachments();
        let ids = AttachmentIds::of(&record.container, &record.ifname);
        let Some(_held) = attachments.try_begin(&record.host_ifname, ids.owner)? else { return Ok(false) };
        let same = attachments.get(&record.host_ifname)?.as_ref() == Some(record);
        if !same || !(judge.is_dead)(record) {
            attachments.remove_mark(&record.host_ifname)?;
            return Ok(false);
        }
        if let Some(e) = self.addresses().release(ids.owner, &record.addresses).into_iter().next() {
            return Err(e);
        }
        attachments.remove(&record.host_ifname)?;
        Ok(true)
    }

    /// A mark without a record whose maker is dead: its addresses are found as those of nobody.
    fn remove_stale_marks(&self, grace: u64) -> Result<(), StateError> {
        let attachments = self.attachments();
        for (host_if, mark) in attachments.marks()? {
            if mark.held || mark.age < grace || !matches!(attachments.get(&host_if), Ok(None)) {
                continue;
            }
            if let Some(_held) = attachments.try_begin(&host_if, mark.owner.unwrap_or_default())?
                && matches!(attachments.get(&host_if), Ok(None))
            {
                attachments.remove_mark(&host_if)?;
            }
        }
        Ok(())
    }

    fn free_unowned(
        &self,
        judge: &Judge<'_>,
        failures: &mut Vec<StateError>,
    ) -> Result<Vec<IpAddr>, StateError> {
        let now = boot_seconds();
        // A stamp from the future is of an earlier boot.
        let age = |since: u64| if since > now { now } else { now - since };
        let mut unowned = self.addresses().used()?;
        unowned.retain(|used| age(used.slot.since) >= judge.grace);
        // Twice, because a mark that becomes a record while the folder is read may be in neither place;
        // after the addresses, because an ADD marks first and takes then.
        for _ in 0..2 {
            if unowned.is_empty() {
                return Ok(Vec::new());
            }
            let Some(owned) = self.owned()? else { return Ok(Vec::new()) };
            unowned.retain(|used| !owned.has(used));
        }
        let mut freed = Vec::new();
        for used in unowned.into_iter().filter(|used| !(judge.in_use)(used.ip)) {
            match self.addresses().free_unchanged(&used) {
                Ok(true) => freed.push(used.ip),
                Ok(false) => {}
                Err(e) => failures.push(e),
            }
        }
        Ok(freed)
    }

    /// What has an owner; `None` where that cannot be told now, because a maker has not signed yet.
    fn owned(&self) -> Result<Option<Owned>, StateError> {
        let (records, _) = self.attachments().list()?;
        let of = |r: &Attachment| AttachmentIds::of(&r.container, &r.ifname).owner;
        let addresses = records.iter().flat_map(|r| r.addresses.iter().map(|ip| (of(r), *ip))).collect();
        let marks = self.attachments().marks()?;
        let held: Vec<&SeenMark> = marks.iter().map(|(_, mark)| mark).filter(|mark| mark.held).collect();
        let makers: Option<HashSet<u64>> = held.iter().map(|mark| mark.owner).collect();
        Ok(makers.map(|makers| Owned { addresses, makers }))
    }
}

/// Addresses by owner, and owners that are at work.
struct Owned {
    addresses: HashSet<(u64, IpAddr)>,
    makers: HashSet<u64>,
}

impl Owned {
    fn has(&self, used: &Used) -> bool {
        self.makers.contains(&used.slot.owner) || self.addresses.contains(&(used.slot.owner, used.ip))
    }
}

#[cfg(test)]
mod tests;
