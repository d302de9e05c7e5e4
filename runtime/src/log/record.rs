//! Taking records apart: `TIME STREAM TAG TEXT`.

use crate::attach::Stream;

/// A line that a container wrote, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// When it was written, as in RFC 3339.
    pub(crate) time: &'a [u8],
    pub(crate) stream: Stream,
    /// Whether a line ends with it.
    pub(crate) is_end: bool,
    pub(crate) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that a line of a log is.
    pub(crate) fn of(line: &'a [u8]) -> Self {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut next = || fields.next().unwrap_or_default();
        let (time, stream, tag) = (next(), next(), next());
        let stream =
            if stream == Stream::Stderr.as_str().as_bytes() { Stream::Stderr } else { Stream::Stdout };
        Self { time, stream, is_end: tag == b"F", text: next() }
    }

    /// The records of whole lines of a log.
    pub(crate) fn all(lines: &'a [u8]) -> impl Iterator<Item = Self> {
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Self::of)
    }
}
