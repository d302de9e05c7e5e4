//! `.flatnet-installed`: which files of a directory are from us, by their digests. It lies beside them, so it
//! lives and is copied with them; its name has no extension that a runtime loads.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::folder::{Folder, FolderError};

/// The record's file.
pub(crate) const NAME: &str = ".flatnet-installed";
/// The format that this build reads and writes.
const VERSION: u32 = 1;

/// What a file says, and its digest once somebody asked for it: programs are large.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    digest: OnceCell<String>,
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, digest: OnceCell::new() }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Content {
    fn digest(&self) -> &String {
        let hex = || Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        self.digest.get_or_init(hex)
    }
}

/// What installs put into one directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// For each file its SHA-256: two while one content is being replaced by another.
    files: BTreeMap<String, Vec<String>>,
}

impl Default for Record {
    fn default() -> Self {
        Self { version: VERSION, files: BTreeMap::new() }
    }
}

impl Record {
    /// Reads a directory's record. A damaged one says nothing: what it named is not removed then.
    pub(crate) fn read(folder: &Folder) -> Result<Self, FolderError> {
        let read = folder.read(NAME)?.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Ok(read.filter(|record| record.version == VERSION).unwrap_or_default())
    }

    /// Whether an install wrote this content.
    pub(crate) fn has(&self, name: &str, content: &Content) -> bool {
        self.files.get(name).is_some_and(|digests| digests.contains(content.digest()))
    }

    /// Notes that `content` is about to take the place of `found`. Written first, so that whichever of
    /// them is there later is known.
    pub(crate) fn expect(
        &mut self,
        folder: &Folder,
        name: &str,
        found: Option<&Content>,
        content: &Content,
    ) -> Result<(), FolderError> {
        let earlier = found.filter(|found| *found != content && self.has(name, found));
        let digests: Vec<String> = earlier.into_iter().chain([content]).map(|c| c.digest().clone()).collect();
        if self.files.get(name) == Some(&digests) {
            return Ok(());
        }
        self.files.insert(name.to_owned(), digests);
        let text = serde_json::to_vec(self).expect("text and lists of text are JSON");
        folder.put(NAME, &text, 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_contents_are_ours_while_one_replaces_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(dir.path()).unwrap();
        let mut record = Record::read(&folder).unwrap();
        let [a, b, c, d, theirs] =
            ["a", "b", "c", "d", "theirs"].map(|text| Content::from(text.as_bytes().to_vec()));
        record.expect(&folder, "f", None, &a).unwrap();
        record.expect(&folder, "f", Some(&a), &b).unwrap();
        // b never came; c is next.
        record.expect(&folder, "f", Some(&a), &c).unwrap();
        let read = Record::read(&folder).unwrap();
        assert_eq!(read, record);
        for (content, ours) in [(&a, true), (&b, false), (&c, true)] {
            assert_eq!(read.has("f", content), ours, "{content:?}");
        }
        record.expect(&folder, "f", Some(&c), &d).unwrap();
        assert!(!Record::read(&folder).unwrap().has("f", &a), "that upgrade is over");
        // Somebody else's file is not made ours by being replaced.
        record.expect(&folder, "g", Some(&theirs), &d).unwrap();
        assert!(!record.has("g", &theirs));
    }

    #[test]
    fn a_damaged_record_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(dir.path()).unwrap();
        for damaged in ["", "{", r#"{"version":2,"files":{"f":[]}}"#] {
            std::fs::write(dir.path().join(NAME), damaged).unwrap();
            assert_eq!(Record::read(&folder).unwrap(), Record::default());
        }
    }
}
