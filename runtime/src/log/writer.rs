//! Writing logs: `TIME STREAM TAG TEXT`, tag `F` for whole lines and `P` for pieces of longer ones.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Limits, rotated, rotated_file};
use crate::attach::Stream;

/// The longest piece in bytes, as in containerd.
const PIECE: usize = 16 * 1024;

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct CriLog {
    path: PathBuf,
    file: File,
    /// The size of the file.
    size: u64,
    /// The number that it will have.
    number: u64,
    limits: Limits,
    /// Of each stream, what has no end of line yet.
    pending: BTreeMap<Stream, Vec<u8>>,
}

impl CriLog {
    /// Goes on with the log at `path`, or begins it.
    pub(crate) fn open(path: &Path, limits: Limits) -> Result<Self> {
        let told = || format!("open the log {}", path.display());
        fs::create_dir_all(path.parent().context("a file is in a directory")?).with_context(told)?;
        let file = OpenOptions::new().create(true).append(true).open(path).with_context(told)?;
        let size = file.metadata().with_context(told)?.len();
        let number = rotated(path)?.last().map_or(1, |last| last + 1);
        Ok(Self { path: path.to_owned(), file, size, number, limits, pending: BTreeMap::new() })
    }

    /// Writes down what was read from a stream.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.feed(stream, bytes, Timestamp::now());
    }

    /// Writes the last, unfinished lines.
    pub(crate) fn finish(&mut self) {
        let now = Timestamp::now();
        for (stream, text) in std::mem::take(&mut self.pending) {
            if !text.is_empty() {
                self.put(&[record(now, stream, 'P', &text)]);
            }
        }
    }

    fn feed(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        let pending = self.pending.entry(stream).or_default();
        pending.extend_from_slice(bytes);
        let mut records = vec![];
        let mut done = 0;
        while let Some(rest) = pending.get(done..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().take(PIECE + 1).position(|byte| *byte == b'\n');
            let (tag, length, skipped) = match end {
                Some(at) => ('F', at, 1),
                None if rest.len() > PIECE => ('P', PIECE, 0),
                None => break,
            };
            records.push(record(now, stream, tag, rest.get(..length).unwrap_or_default()));
            done += length + skipped;
        }
        pending.drain(..done);
        self.put(&records);
    }

    fn put(&mut self, records: &[Vec<u8>]) {
        let mut batch = vec![];
        for record in records {
            let size = self.size + length(&batch);
            if size > 0 && size + length(record) > self.limits.max_size {
                self.append(&batch);
                batch.clear();
                self.rotate();
            }
            batch.extend_from_slice(record);
        }
        self.append(&batch);
    }

    fn append(&mut self, bytes: &[u8]) {
        // A full disk must not stop the container: its output is read on, and lost.
        let _ = self.file.write_all(bytes);
        self.size += length(bytes);
    }

    /// Begins another file, and removes the oldest. Where that fails, this one goes on.
    fn rotate(&mut self) {
        let fresh = rotated_file(&self.path, self.number).with_added_extension("new");
        let made = OpenOptions::new().create(true).truncate(true).write(true).open(&fresh);
        let renamed = made.and_then(|file| {
            fs::rename(&self.path, rotated_file(&self.path, self.number))?;
            fs::rename(&fresh, &self.path)?;
            Ok(file)
        });
        let Ok(file) = renamed else { return };
        (self.file, self.size) = (file, 0);
        if let Some(oldest) = (self.number + 1).checked_sub(self.limits.max_files) {
            // It may never have been.
            let _ = fs::remove_file(rotated_file(&self.path, oldest));
        }
        self.number += 1;
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn record(now: Timestamp, stream: Stream, tag: char, text: &[u8]) -> Vec<u8> {
    let mut record = format!("{now:.9} {} {tag} ", stream.as_str()).into_bytes();
    record.extend_from_slice(text);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pieces_and_streams() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/0.log");
        let mut log = CriLog::open(&path, Limits::default()).unwrap();
        let now: Timestamp = "2026-11-21T03:11:02.5Z".parse().unwrap();
        log.feed(Stream::Stdout, b"one\ntw", now);
        log.feed(Stream::Stderr, b"other\n", now);
        log.feed(Stream::Stdout, b"o\n\n", now);
        log.feed(Stream::Stdout, &[b'x'; PIECE + 5], now);
        log.feed(Stream::Stdout, b"\nlast", now);
        log.finish();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let at = "2026-11-21T03:11:02.500000000Z";
        assert_eq!(lines[0], format!("{at} stdout F one"));
        assert_eq!(lines[1], format!("{at} stderr F other"));
        assert_eq!(lines[2], format!("{at} stdout F two"));
        assert_eq!(lines[3], format!("{at} stdout F "));
        assert_eq!(lines[4], format!("{at} stdout P {}", "x".repeat(PIECE)));
        assert_eq!(lines[5], format!("{at} stdout F xxxxx"));
        assert!(lines[6].ends_with(" stdout P last"), "{}", lines[6]);
    }
}
