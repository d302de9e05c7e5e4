//! What a shim and those who are attached to its container say to each other: one byte for what it is, and its bytes.
//! The sockets keep messages apart.

/// The longest piece of output or input in one message.
pub(super) const PIECE: usize = 64 * 1024;

/// Where a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As it is called in logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The first one from who attaches: whether it will write, and whether it wants what was written before anybody
    /// was attached.
    Hello { input: bool, early: bool },
    /// For the container to read.
    Input(Vec<u8>),
    /// There is no more to read.
    InputEnd,
    /// The terminal of who is attached has this size.
    Resize(Size),
    /// What the container wrote.
    Output(Stream, Vec<u8>),
    /// So many bytes of output were left out, because who is attached did not read fast enough.
    Missed(u64),
    /// The container has ended.
    Exit(i32),
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, rest) = match self {
            Self::Hello { input, early } => (b'h', vec![u8::from(*input), u8::from(*early)]),
            Self::Input(bytes) => (b'i', bytes.clone()),
            Self::InputEnd => (b'd', vec![]),
            Self::Resize(size) => (b'r', [size.rows.to_be_bytes(), size.columns.to_be_bytes()].concat()),
            Self::Output(Stream::Stdout, bytes) => (b'1', bytes.clone()),
            Self::Output(Stream::Stderr, bytes) => (b'2', bytes.clone()),
            Self::Missed(bytes) => (b'm', bytes.to_be_bytes().to_vec()),
            Self::Exit(code) => (b'x', code.to_be_bytes().to_vec()),
        };
        [&[kind], rest.as_slice()].concat()
    }

    /// Nothing for what is no message.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        Some(match kind {
            b'h' => match rest {
                [input, early] => Self::Hello { input: *input == 1, early: *early == 1 },
                _ => return None,
            },
            b'i' => Self::Input(rest.to_vec()),
            b'd' => Self::InputEnd,
            b'r' => match rest {
                [a, b, c, d] => Self::Resize(Size {
                    rows: u16::from_be_bytes([*a, *b]),
                    columns: u16::from_be_bytes([*c, *d]),
                }),
                _ => return None,
            },
            b'1' => Self::Output(Stream::Stdout, rest.to_vec()),
            b'2' => Self::Output(Stream::Stderr, rest.to_vec()),
            b'm' => Self::Missed(u64::from_be_bytes(rest.try_into().ok()?)),
            b'x' => Self::Exit(i32::from_be_bytes(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let all = [
            Message::Hello { input: true, early: false },
            Message::Input(b"a\n".to_vec()),
            Message::InputEnd,
            Message::Resize(Size { rows: 24, columns: 300 }),
            Message::Output(Stream::Stdout, vec![]),
            Message::Output(Stream::Stderr, vec![0, 255]),
            Message::Missed(1 << 40),
            Message::Exit(-1),
        ];
        for message in all {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for wrong in [&b""[..], b"?", b"h", b"r123", b"x1"] {
            assert_eq!(Message::decode(wrong), None);
        }
    }
}
