//! Reading logs, also while they are written and rotated: every byte once, in order.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{rotated, rotated_file};

/// The most that is read at once.
const PIECE: usize = 256 * 1024;

/// A place in a log.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    /// The number of the file that is read: the one it has, or will have when it is rotated away.
    number: u64,
    file: File,
}

impl Reader {
    /// At the beginning of what there is of the log at `path`; nothing when there is none.
    pub(crate) fn oldest(path: &Path) -> Result<Option<Self>> {
        Self::at(path, 0)
    }

    /// At the beginning of the file that is written to.
    fn newest(path: &Path) -> Result<Option<Self>> {
        Self::at(path, rotated(path)?.last().map_or(0, |last| last + 1))
    }

    /// At the beginning of the file of this number, or of the first after it that is still there.
    fn at(path: &Path, number: u64) -> Result<Option<Self>> {
        let told = || format!("open the log {}", path.display());
        let open = |file: &Path| match File::open(file) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(told),
        };
        loop {
            let known = rotated(path)?;
            if let Some(found) = known.iter().find(|known| **known >= number) {
                if let Some(file) = open(&rotated_file(path, *found))? {
                    return Ok(Some(Self { path: path.to_owned(), number: *found, file }));
                }
                // It has just been removed: look again.
                continue;
            }
            let opened = open(path)?;
            if rotated(path)? != known {
                // Nobody knows which one that was.
                continue;
            }
            let number = known.last().map_or(number.max(1), |last| last + 1);
            return Ok(opened.map(|file| Self { path: path.to_owned(), number, file }));
        }
    }

    /// What comes next; nothing when there is no more by now.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>> {
        loop {
            let bytes = self.rest_of_file()?;
            if !bytes.is_empty() || !self.is_rotated() {
                return Ok(bytes);
            }
            // It was written to until it was rotated away.
            let bytes = self.rest_of_file()?;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
            match Self::at(&self.path, self.number + 1)? {
                Some(next) => *self = next,
                None => return Ok(vec![]),
            }
        }
    }

    /// Whether there is something to read.
    pub(crate) fn has_more(&self) -> bool {
        let mut file = &self.file;
        let at = file.stream_position().unwrap_or(0);
        self.file.metadata().is_ok_and(|meta| meta.len() > at) || self.is_rotated()
    }

    fn rest_of_file(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        let piece = u64::try_from(PIECE).unwrap_or(u64::MAX);
        (&self.file).take(piece).read_to_end(&mut bytes).context("read the log")?;
        Ok(bytes)
    }

    /// Whether another file is written to by now.
    fn is_rotated(&self) -> bool {
        let own = self.file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        let newest = fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino())).ok();
        newest.is_some() && own != newest
    }
}

/// As much of the end of the log at `path` as is needed for `is_enough` to be true of it, in whole files, and the place
/// after it. Nothing when there is no log.
pub(crate) fn last(path: &Path, is_enough: impl Fn(&[u8]) -> bool) -> Result<Option<(Vec<u8>, Reader)>> {
    let Some(reader) = Reader::newest(path)? else {
        return Ok(None);
    };
    let mut text = vec![];
    (&reader.file).read_to_end(&mut text).context("read the log")?;
    let mut number = reader.number;
    while !is_enough(&text) && number > 1 {
        number -= 1;
        // What has been removed meanwhile is removed.
        let Ok(mut before) = fs::read(rotated_file(path, number)) else { break };
        before.append(&mut text);
        text = before;
    }
    Ok(Some((text, reader)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{CriLog, Limits},
        *,
    };
    use crate::attach::Stream;

    fn text(bytes: &[u8]) -> Vec<String> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| String::from_utf8_lossy(line).split(' ').nth(3).unwrap().to_owned()).collect()
    }

    #[test]
    fn nothing_is_lost_and_nothing_comes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        assert!(Reader::oldest(&path).unwrap().is_none());
        let mut log = CriLog::open(&path, Limits { max_size: 400, max_files: 1000 }).unwrap();
        let mut reader = Reader::oldest(&path).unwrap().unwrap();
        let mut seen = vec![];
        for number in 0..2000 {
            log.write(Stream::Stdout, format!("{number}\n").as_bytes());
            // A reader that is behind by many files, by one, by none.
            if number % 97 == 0 || number > 1900 {
                loop {
                    let bytes = reader.read().unwrap();
                    if bytes.is_empty() {
                        break;
                    }
                    seen.extend(bytes);
                }
            }
        }
        assert!(text(&seen).into_iter().eq((0..2000).map(|n| n.to_string())));
        assert!(rotated(&path).unwrap().len() > 100);
        let (end, mut after) = last(&path, |text| text.len() > 1000).unwrap().unwrap();
        assert!(end.len() > 1000 && end.len() < 2000, "{}", end.len());
        assert_eq!(text(&end).last().unwrap(), "1999");
        log.write(Stream::Stdout, b"more\n");
        assert_eq!(text(&after.read().unwrap()), ["more"]);
        super::super::remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_reader_that_was_left_behind_goes_on_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = CriLog::open(&path, Limits { max_size: 400, max_files: 3 }).unwrap();
        log.write(Stream::Stdout, b"first\n");
        let mut reader = Reader::oldest(&path).unwrap().unwrap();
        (0..200).for_each(|number| log.write(Stream::Stdout, format!("{number}\n").as_bytes()));
        assert_eq!(rotated(&path).unwrap().len(), 2);
        assert!(fs::read_dir(dir.path()).unwrap().flatten().all(|f| f.metadata().unwrap().len() <= 400));
        let mut seen = vec![];
        loop {
            let bytes = reader.read().unwrap();
            if bytes.is_empty() {
                break;
            }
            seen.extend(bytes);
        }
        let seen = text(&seen);
        assert_eq!((seen[0].as_str(), seen.last().unwrap().as_str()), ("first", "199"));
        let numbers: Vec<u32> = seen[1..].iter().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
        // Another writer, after the first: it goes on where that stopped.
        let mut next = CriLog::open(&path, Limits { max_size: 400, max_files: 3 }).unwrap();
        next.write(Stream::Stdout, b"next\n");
        assert_eq!(text(&reader.read().unwrap()), ["next"]);
    }
}
