//! `attachments/HOSTINTERFACE.json`: one record per pod interface.

use std::fs;
use std::path::PathBuf;

use flatnet_core::link::is_host_if;
use flatnet_core::names::IfName;
use flatnet_core::node::{ATTACHMENT_VERSION, Attachment};

use crate::error::StateError;
use crate::files;
use crate::mark::{self, Mark, SeenMark};

/// The records of one node.
#[derive(Debug, Clone)]
pub struct Attachments {
    folder: PathBuf,
}

impl Attachments {
    pub(crate) const fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, host_if: &IfName) -> PathBuf {
        self.folder.join(format!("{host_if}.json"))
    }

    /// Marks that an attachment is being made, before anything is taken for it in the name of `owner`
    /// ([`flatnet_core::link::AttachmentIds::owner`]). Who finds the mark later, held by nobody, knows that
    /// its maker died, and that addresses may be held which no record names.
    ///
    /// # Errors
    /// The mark cannot be written, or another process is making the same attachment.
    pub fn begin(&self, host_if: &IfName, owner: u64) -> Result<Mark, StateError> {
        let path = self.path(host_if);
        let mark = Mark::make(&path, owner, files::patience())?;
        // The other one may have come as far as its record: that one is locked then, not the mark.
        if mark::is_held(&path) {
            mark.abandon();
            return Err(StateError::Locked { path });
        }
        Ok(mark)
    }

    /// The same for who comes to collect; `None`: somebody is at it.
    pub(crate) fn try_begin(&self, host_if: &IfName, owner: u64) -> Result<Option<Mark>, StateError> {
        let path = self.path(host_if);
        let Some(mark) = Mark::try_make(&path, owner)? else { return Ok(None) };
        if mark::is_held(&path) {
            mark.abandon();
            return Ok(None);
        }
        Ok(Some(mark))
    }

    /// Removes a mark that no record belongs to.
    pub(crate) fn remove_mark(&self, host_if: &IfName) -> Result<(), StateError> {
        files::remove(&files::beside(&self.path(host_if)))
    }

    /// Every mark there is.
    pub(crate) fn marks(&self) -> Result<Vec<(IfName, SeenMark)>, StateError> {
        let mut marks = Vec::new();
        for name in self.names()? {
            let host_if = name.strip_prefix('.').and_then(|n| n.strip_suffix(".json.tmp"));
            let Some(Ok(host_if)) = host_if.filter(|n| is_host_if(n)).map(str::parse::<IfName>) else {
                continue;
            };
            let seen = mark::look(&files::beside(&self.path(&host_if)))?;
            marks.extend(seen.map(|seen| (host_if, seen)));
        }
        Ok(marks)
    }

    /// Whether the mark of [`Self::begin`] is there without its record having followed.
    #[must_use]
    pub fn was_begun(&self, host_if: &IfName) -> bool {
        files::beside(&self.path(host_if)).exists()
    }

    /// Writes a record, whole or not at all, in place of the mark.
    ///
    /// # Errors
    /// It cannot be written; nothing is left half-done.
    pub fn put(&self, attachment: &Attachment) -> Result<(), StateError> {
        let path = self.path(&attachment.host_ifname);
        let content = serde_json::to_vec(attachment)
            .map_err(|e| StateError::Damaged { path: path.clone(), why: e.to_string() })?;
        files::replace(&path, &content)
    }

    /// Reads a record; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged. It stays where it is: who decides to go on without it calls
    /// [`Self::remove`] or [`Self::set_aside`].
    pub fn get(&self, host_if: &IfName) -> Result<Option<Attachment>, StateError> {
        let path = self.path(host_if);
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        let damaged = |why: String| StateError::Damaged { path: path.clone(), why };
        let record: Attachment = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.version != ATTACHMENT_VERSION {
            return Err(damaged(format!("version {}", record.version)));
        }
        if record.host_ifname != *host_if {
            return Err(damaged(format!("it is the record of {}", record.host_ifname)));
        }
        Ok(Some(record))
    }

    /// Whether an ADD is at it right now: its mark, which became the record, is still held.
    #[must_use]
    pub fn is_being_made(&self, host_if: &IfName) -> bool {
        let path = self.path(host_if);
        mark::is_held(&path) || mark::is_held(&files::beside(&path))
    }

    /// Removes a record and its mark; none there is fine.
    ///
    /// # Errors
    /// One is there and cannot be removed.
    pub fn remove(&self, host_if: &IfName) -> Result<(), StateError> {
        let path = self.path(host_if);
        files::remove(&path)?;
        files::remove(&files::beside(&path))
    }

    /// Moves a damaged record out of the way.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(&self, host_if: &IfName) -> Result<(), StateError> {
        files::set_aside(&self.path(host_if))?;
        files::remove(&files::beside(&self.path(host_if)))
    }

    /// Whether there is no record, readable or not, and no mark of one that is being made.
    ///
    /// # Errors
    /// The folder cannot be listed; a folder that is not there is empty.
    pub fn is_empty(&self) -> Result<bool, StateError> {
        let is_of_pod = |name: &String| {
            let host_if = name.trim_start_matches('.').split('.').next().unwrap_or_default();
            is_host_if(host_if) && !name.ends_with(".damaged")
        };
        Ok(!self.names()?.iter().any(is_of_pod))
    }

    /// All records, and what could not be read.
    ///
    /// # Errors
    /// The folder cannot be listed; a folder that is not there is empty.
    pub fn list(&self) -> Result<(Vec<Attachment>, Vec<StateError>), StateError> {
        let (mut records, mut failures) = (Vec::new(), Vec::new());
        for name in self.names()? {
            let host_if = name.strip_suffix(".json").filter(|n| is_host_if(n));
            let Some(Ok(host_if)) = host_if.map(str::parse) else { continue };
            match self.get(&host_if) {
                Ok(record) => records.extend(record),
                Err(e) => failures.push(e),
            }
        }
        records.sort_by(|a, b| a.host_ifname.cmp(&b.host_ifname));
        Ok((records, failures))
    }

    /// Names of the files in the folder; a folder that is not there has none.
    fn names(&self) -> Result<Vec<String>, StateError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StateError::io("list", &self.folder)(e)),
        };
        let name = |entry: std::io::Result<fs::DirEntry>| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(e) => Some(Err(StateError::io("list", &self.folder)(e))),
        };
        entries.filter_map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::StateDir;

    #[test]
    fn records_and_marks_are_something_and_what_was_set_aside_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let attachments = StateDir::new(dir.path()).attachments();
        assert!(attachments.is_empty().unwrap());
        let host_if = "fnabcdefghijklm".parse().unwrap();
        drop(attachments.begin(&host_if, 7).unwrap());
        assert!(!attachments.is_empty().unwrap(), "somebody is at it");
        attachments.remove(&host_if).unwrap();
        assert!(attachments.is_empty().unwrap());
        let record = dir.path().join("attachments/fnabcdefghijklm.json");
        std::fs::write(&record, "damaged").unwrap();
        assert!(!attachments.is_empty().unwrap(), "a record that cannot be read is a pod all the same");
        attachments.set_aside(&host_if).unwrap();
        assert!(attachments.is_empty().unwrap());
    }
}
