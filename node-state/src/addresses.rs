//! `addresses/SUBNET`: the address pool, one file of fixed-size slots per subnet.
//!
//! A slot is written with one aligned `pwrite` under the file's lock: taken or not, whatever kills the
//! process. The owner's tag is in the slot, so an address whose ADD died is found by DEL without any
//! other record. Nothing is held in memory: a taking reads a few slots after the last one handed out.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use flatnet_core::link::AttachmentIds;
use flatnet_core::pool::{Search, Slot, Subnet};
use ipnetwork::IpNetwork;
use nix::time::{ClockId, clock_gettime};

use crate::attachments::Attachments;
use crate::error::{PoolError, StateError};
use crate::files;

const MAGIC: [u8; 8] = *b"flatnet1";
const HEADER: u64 = 64;
const CURSOR_AT: u64 = 8;
const SLOT: u64 = 16;
/// Slots read at a time where the first ones will mostly do.
const NEAR: u64 = 256;
/// Slots read at a time where all are wanted.
const FAR: u64 = 8192;

/// Whether a lock was waited for in vain: then the next one is only tried, so that one stopped holder does
/// not cost its time again and again. Shared by all who come from one [`crate::StateDir`].
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitedInVain(Arc<AtomicBool>);

impl WaitedInVain {
    fn lock(&self, file: &File, path: &Path) -> Result<(), StateError> {
        let Self(in_vain) = self;
        let deadline = if in_vain.load(Ordering::Relaxed) { Instant::now() } else { files::patience() };
        let locked = files::lock(file, path, deadline);
        in_vain.store(matches!(locked, Err(StateError::Locked { .. })), Ordering::Relaxed);
        locked
    }
}

/// The address pool of one node.
#[derive(Debug, Clone)]
pub struct Addresses {
    folder: PathBuf,
    attachments: Attachments,
    waited: WaitedInVain,
}

/// A request for one address.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Who asks: [`AttachmentIds::owner`].
    pub owner: u64,
    /// This address and no other.
    pub wanted: Option<IpAddr>,
    /// Seconds a freed address rests.
    pub cooldown: u64,
    /// Whether the kernel still shows an address, so that it must not be handed out.
    pub in_use: &'a dyn Fn(IpAddr) -> bool,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("owner", &self.owner).field("wanted", &self.wanted).finish()
    }
}

/// How full a subnet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The subnet.
    pub network: IpNetwork,
    /// Addresses in use.
    pub used: u64,
    /// Addresses that can be handed out.
    pub capacity: u64,
}

/// An address in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) ip: IpAddr,
    pub(crate) network: IpNetwork,
    pub(crate) slot: Slot,
}

/// A subnet's file: locked, unless it is opened to look only.
struct Pool {
    file: File,
    path: PathBuf,
    subnet: Subnet,
}

impl Addresses {
    pub(crate) const fn at(folder: PathBuf, attachments: Attachments, waited: WaitedInVain) -> Self {
        Self { folder, attachments, waited }
    }

    /// Takes an address of `network`.
    ///
    /// # Errors
    /// None is free, the wanted one is not, or the pool's file cannot be used.
    pub fn take(&self, network: IpNetwork, request: Request<'_>) -> Result<IpAddr, PoolError> {
        let pool = self.open(network)?;
        let number = match request.wanted {
            Some(ip) => pool.wanted(ip, request)?,
            None => pool.search(request)?,
        };
        pool.write_slot(number, Slot { owner: request.owner, since: boot_seconds() })?;
        pool.write_cursor(number)?;
        Ok(pool.subnet.address(number))
    }

    /// Frees what `owner` has, in every subnet of this node: `hints` first, and where there are none,
    /// wherever its tag is found. Nothing to free is fine.
    ///
    /// # Errors
    /// Every pool file that could not be used.
    pub fn release(&self, owner: u64, hints: &[IpAddr]) -> Vec<StateError> {
        let mut failures = Vec::new();
        let networks = self.networks().unwrap_or_else(|e| {
            failures.push(e);
            Vec::new()
        });
        for network in networks {
            let subnet = Subnet::of(network);
            let slots: Vec<u64> = hints.iter().filter_map(|ip| subnet.slot(*ip)).collect();
            if !hints.is_empty() && slots.is_empty() {
                continue;
            }
            failures.extend(self.free(network, owner, slots).err());
        }
        failures
    }

    /// Frees those of `slots` that are the owner's; with none given, all that are. Those are looked for
    /// without the lock, because that takes long in a large pool: nobody else takes or frees what is its.
    fn free(&self, network: IpNetwork, owner: u64, mut slots: Vec<u64>) -> Result<(), StateError> {
        if slots.is_empty() {
            let Some(pool) = self.look(network)? else { return Ok(()) };
            slots =
                pool.used()?.into_iter().filter(|(_, slot)| slot.owner == owner).map(|(n, _)| n).collect();
        }
        if slots.is_empty() { Ok(()) } else { self.open(network)?.free(owner, &slots) }
    }

    /// Whether `network` has an address that is not in use. Makes nothing.
    ///
    /// # Errors
    /// The pool's file cannot be read.
    pub fn has_room(&self, network: IpNetwork) -> Result<bool, StateError> {
        let Some(pool) = self.look(network)? else { return Ok(true) };
        let mut room = false;
        pool.each((pool.subnet.next(pool.read_cursor()?), NEAR), |_, slot| {
            room = slot.owner == 0;
            room
        })?;
        Ok(room)
    }

    /// How many addresses of each subnet are in use, and how many there are.
    ///
    /// # Errors
    /// A pool's file cannot be read.
    pub fn usage(&self) -> Result<Vec<Usage>, StateError> {
        let count = |network| {
            let used = self.look(network)?.map_or(Ok(0), |pool| pool.used().map(|all| all.len() as u64))?;
            Ok(Usage { network, used, capacity: Subnet::of(network).capacity() })
        };
        self.networks()?.into_iter().map(count).collect()
    }

    /// Every address in use.
    pub(crate) fn used(&self) -> Result<Vec<Used>, StateError> {
        let mut all = Vec::new();
        for network in self.networks()? {
            let Some(pool) = self.look(network)? else { continue };
            let used = pool.used()?.into_iter();
            all.extend(used.map(|(number, slot)| Used { ip: pool.subnet.address(number), network, slot }));
        }
        Ok(all)
    }

    /// Frees an address if it is still in use as it was seen. Answers whether it was.
    pub(crate) fn free_unchanged(&self, seen: &Used) -> Result<bool, StateError> {
        let pool = self.open(seen.network)?;
        let Some(number) = pool.subnet.slot(seen.ip) else { return Ok(false) };
        if pool.read_slot(number)? != seen.slot {
            return Ok(false);
        }
        pool.free(seen.slot.owner, &[number])?;
        Ok(true)
    }

    fn path(&self, network: IpNetwork) -> PathBuf {
        self.folder.join(format!("{}-{}", network.network(), network.prefix()))
    }

    /// Every subnet that has a file.
    fn networks(&self) -> Result<Vec<IpNetwork>, StateError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StateError::io("list", &self.folder)(e)),
        };
        let mut networks = Vec::new();
        for entry in entries {
            let name = entry.map_err(StateError::io("list", &self.folder))?.file_name();
            let network = name
                .to_str()
                .and_then(|n| n.rsplit_once('-'))
                .and_then(|(ip, prefix)| IpNetwork::new(ip.parse().ok()?, prefix.parse().ok()?).ok());
            networks.extend(network);
        }
        networks.sort();
        Ok(networks)
    }

    /// Opens a subnet's file to look at it, without the lock: each slot is as some process left it, at some
    /// time. `None` where there is none that can be used.
    fn look(&self, network: IpNetwork) -> Result<Option<Pool>, StateError> {
        let path = self.path(network);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StateError::io("open", &path)(e)),
        };
        let pool = Pool { file, path, subnet: Subnet::of(network) };
        Ok(matches!(pool.state()?, PoolFile::Ready).then_some(pool))
    }

    /// Opens and locks a subnet's file, making it where there is none, and again where it is damaged.
    fn open(&self, network: IpNetwork) -> Result<Pool, StateError> {
        let path = self.path(network);
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        loop {
            let file = files::in_folder(&self.folder, open)?.map_err(StateError::io("open", &path))?;
            self.waited.lock(&file, &path)?;
            if !files::is_at(&file, &path) {
                continue;
            }
            let pool = Pool { file, path: path.clone(), subnet: Subnet::of(network) };
            match pool.state()? {
                PoolFile::Ready => return Ok(pool),
                PoolFile::Empty => {
                    pool.fill(&self.attachments)?;
                    return Ok(pool);
                }
                PoolFile::Damaged => files::set_aside(&path)?,
            }
        }
    }
}

enum PoolFile {
    Ready,
    Empty,
    Damaged,
}

impl Pool {
    fn state(&self) -> Result<PoolFile, StateError> {
        let length = self.file.metadata().map_err(StateError::io("read", &self.path))?.len();
        let mut magic = [0; 8];
        let read = self.file.read_at(&mut magic, 0).map_err(StateError::io("read", &self.path))?;
        Ok(match (length, read) {
            (0, _) => PoolFile::Empty,
            // A process died between making the file and finishing it: zeroes, no magic yet.
            (_, 8) if magic == MAGIC && length == self.length() => PoolFile::Ready,
            _ => PoolFile::Damaged,
        })
    }

    fn length(&self) -> u64 {
        HEADER + (self.subnet.last() + 1) * SLOT
    }

    /// Makes a new pool know the addresses of pods that are recorded: the file may be new because
    /// somebody removed it. The magic goes in last.
    fn fill(&self, attachments: &Attachments) -> Result<(), StateError> {
        self.file.set_len(self.length()).map_err(StateError::io("write", &self.path))?;
        let (records, _) = attachments.list()?;
        for record in records {
            let owner = AttachmentIds::of(&record.container, &record.ifname).owner;
            for number in record.addresses.iter().filter_map(|ip| self.subnet.slot(*ip)) {
                self.write_slot(number, Slot { owner, since: 0 })?;
            }
        }
        self.write_at(&MAGIC, 0)
    }

    fn wanted(&self, ip: IpAddr, request: Request<'_>) -> Result<u64, PoolError> {
        let network = self.subnet.network();
        let number = self.subnet.slot(ip).ok_or(PoolError::Outside { ip, network })?;
        let slot = self.read_slot(number)?;
        if slot.owner != 0 || (request.in_use)(ip) {
            return Err(PoolError::Taken(ip));
        }
        Ok(number)
    }

    fn search(&self, request: Request<'_>) -> Result<u64, PoolError> {
        let mut search = Search::new(boot_seconds(), request.cooldown);
        let start = self.subnet.next(self.read_cursor()?);
        let mut found = None;
        self.each((start, NEAR), |number, slot| {
            if search.see(number, slot) && !(request.in_use)(self.subnet.address(number)) {
                found = Some(number);
            }
            found.is_some()
        })?;
        let unused = |number: &u64| !(request.in_use)(self.subnet.address(*number));
        found
            .or_else(|| search.last_resort().filter(unused))
            .ok_or(PoolError::Exhausted { network: self.subnet.network(), capacity: self.subnet.capacity() })
    }

    /// Shows every slot once, from `start` round to it again, until `stop` says so; reads `page` at a time.
    fn each(
        &self,
        (start, page): (u64, u64),
        mut stop: impl FnMut(u64, Slot) -> bool,
    ) -> Result<(), StateError> {
        let (first, last) = (self.subnet.first(), self.subnet.last());
        for (from, to) in [(start, last + 1), (first, start)] {
            let mut at = from;
            while at < to {
                let count = page.min(to - at);
                for (number, slot) in (at..).zip(self.read_slots(at, count)?) {
                    if stop(number, slot) {
                        return Ok(());
                    }
                }
                at += count;
            }
        }
        Ok(())
    }

    fn used(&self) -> Result<Vec<(u64, Slot)>, StateError> {
        let mut all = Vec::new();
        self.each((self.subnet.first(), FAR), |number, slot| {
            if slot.owner != 0 {
                all.push((number, slot));
            }
            false
        })?;
        Ok(all)
    }

    /// Frees those of `slots` that are the owner's: never somebody else's by mistake.
    fn free(&self, owner: u64, slots: &[u64]) -> Result<(), StateError> {
        for number in slots {
            if self.read_slot(*number)?.owner == owner {
                self.write_slot(*number, Slot { owner: 0, since: boot_seconds() })?;
            }
        }
        Ok(())
    }

    fn read_slot(&self, number: u64) -> Result<Slot, StateError> {
        Ok(self.read_slots(number, 1)?.next().unwrap_or_default())
    }

    fn read_slots(&self, number: u64, count: u64) -> Result<impl Iterator<Item = Slot> + use<>, StateError> {
        let mut bytes = vec![0; usize::try_from(count * SLOT).unwrap_or_default()];
        self.file
            .read_exact_at(&mut bytes, HEADER + number * SLOT)
            .map_err(StateError::io("read", &self.path))?;
        let slots: Vec<Slot> = bytes
            .chunks_exact(16)
            .map(|slot| Slot { owner: word(&slot[..8]), since: word(&slot[8..]) })
            .collect();
        Ok(slots.into_iter())
    }

    fn write_slot(&self, number: u64, slot: Slot) -> Result<(), StateError> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&slot.owner.to_le_bytes());
        bytes[8..].copy_from_slice(&slot.since.to_le_bytes());
        self.write_at(&bytes, HEADER + number * SLOT)
    }

    fn read_cursor(&self) -> Result<u64, StateError> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, CURSOR_AT).map_err(StateError::io("read", &self.path))?;
        Ok(word(&bytes))
    }

    fn write_cursor(&self, number: u64) -> Result<(), StateError> {
        self.write_at(&number.to_le_bytes(), CURSOR_AT)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StateError> {
        self.file.write_all_at(bytes, at).map_err(StateError::io("write", &self.path))
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// Seconds since boot, at least one: the clock that neither a person nor NTP sets.
#[must_use]
pub fn boot_seconds() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|t| u64::try_from(t.tv_sec()).ok())
        .unwrap_or_default()
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateDir;
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    fn free(_: IpAddr) -> bool {
        false
    }

    fn request(owner: u64) -> Request<'static> {
        Request { owner, wanted: None, cooldown: 30, in_use: &free }
    }

    /// Who has which address: pairs of address and owner's tag.
    fn owners(pool: &Addresses) -> Vec<(IpAddr, u64)> {
        pool.used().unwrap().into_iter().map(|used| (used.ip, used.slot.owner)).collect()
    }

    fn net(s: &str) -> IpNetwork {
        s.parse().unwrap()
    }

    #[test]
    fn a_full_pool_says_so_and_a_freed_address_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let small = net("10.0.0.0/29");
        let all: HashSet<IpAddr> = (1..=6).map(|o| pool.take(small, request(o)).unwrap()).collect();
        assert_eq!(all.len(), 6);
        let e = pool.take(small, request(7)).unwrap_err().to_string();
        assert!(e.contains("10.0.0.0/29") && e.contains('6'), "{e}");
        assert!(!pool.has_room(small).unwrap());
        assert!(pool.release(3, &[]).is_empty());
        // Still cooling, but better than nothing.
        assert!(all.contains(&pool.take(small, request(8)).unwrap()));
    }

    #[test]
    fn a_freed_address_rests_while_another_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let small = net("10.0.0.0/29");
        let mut seen = Vec::new();
        for owner in 1..=6 {
            let ip = pool.take(small, request(owner)).unwrap();
            assert!(!seen.contains(&ip), "{ip} came back at once");
            seen.push(ip);
            assert!(pool.release(owner, &[ip]).is_empty());
        }
    }

    #[test]
    fn only_the_owner_frees() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let ip = pool.take(net("10.0.0.0/30"), request(1)).unwrap();
        assert!(pool.release(2, &[ip]).is_empty());
        assert_eq!(owners(&pool), [(ip, 1)]);
    }

    #[test]
    fn what_the_kernel_shows_is_not_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let first: IpAddr = "10.0.0.1".parse().unwrap();
        let in_use = |ip: IpAddr| ip == first;
        let asked = Request { in_use: &in_use, ..request(1) };
        assert_eq!(pool.take(net("10.0.0.0/30"), asked).unwrap().to_string(), "10.0.0.2");
        assert!(matches!(pool.take(net("10.0.0.0/30"), asked), Err(PoolError::Exhausted { .. })));
        let wanted = Request { wanted: Some(first), ..asked };
        assert!(matches!(pool.take(net("10.0.0.0/30"), wanted), Err(PoolError::Taken(_))));
    }

    #[test]
    fn requested_addresses_are_given_or_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let ask = |owner, ip: &str| {
            pool.take(net("fd00::/64"), Request { wanted: Some(ip.parse().unwrap()), ..request(owner) })
        };
        assert_eq!(ask(1, "fd00::9").unwrap().to_string(), "fd00::9");
        assert!(matches!(ask(2, "fd00::9"), Err(PoolError::Taken(_))));
        assert!(matches!(ask(2, "fd01::9"), Err(PoolError::Outside { .. })));
        assert!(matches!(ask(2, "10.0.0.9"), Err(PoolError::Outside { .. })));
    }

    #[test]
    fn every_kind_of_damage_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let small = net("10.0.0.0/29");
        let file = pool.path(small);
        pool.take(small, request(1)).unwrap();
        let good = fs::read(&file).unwrap();
        for bad in [&good[..20], &good[..good.len() - 1], &vec![0; good.len()][..], b"x"] {
            fs::write(&file, bad).unwrap();
            pool.take(small, request(2)).unwrap();
            assert_eq!(owners(&pool).len(), 1);
        }
        fs::write(&file, b"").unwrap();
        pool.take(small, request(2)).unwrap();
    }

    #[test]
    fn a_stopped_holder_makes_others_give_up_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let small = net("10.0.0.0/29");
        pool.take(small, request(1)).unwrap();
        let holder = File::open(pool.path(small)).unwrap();
        holder.lock().unwrap();
        let start = Instant::now();
        assert!(matches!(pool.take(small, request(2)), Err(PoolError::State(StateError::Locked { .. }))));
        assert_eq!(pool.release(1, &[]).len(), 1);
        assert!(start.elapsed() < Duration::from_secs(1), "one stopped holder is waited for once");
        drop(holder);
        pool.take(small, request(2)).unwrap();
    }

    #[test]
    fn threads_never_get_the_same_address() {
        let dir = tempfile::tempdir().unwrap();
        let pool = StateDir::new(dir.path()).addresses();
        let got: Vec<IpAddr> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8u64)
                .map(|w| {
                    let pool = &pool;
                    scope.spawn(move || {
                        (0..25u64)
                            .map(|i| pool.take(net("10.0.0.0/24"), request(1 + w * 100 + i)).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
        });
        assert_eq!(got.iter().collect::<HashSet<_>>().len(), 200);
    }
}
