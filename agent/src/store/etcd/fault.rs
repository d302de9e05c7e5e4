//! Why a session with etcd ended.

use std::fmt;

use crate::status::chain;

/// gRPC's code for a revision that is compacted, or a message that is too large to be taken whole: going
/// on from where one was is not possible.
const OUT_OF_RANGE: i32 = 11;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    text: String,
    /// What is known has to be read anew.
    pub(crate) stale: bool,
}

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), stale: false }
    }

    pub(crate) fn stale(text: impl Into<String>) -> Self {
        Self { text: text.into(), stale: true }
    }

    /// Names where it happened.
    pub(crate) fn at(self, what: &str) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<etcd_client::Error> for Fault {
    fn from(error: etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let mut text = status.message().to_owned();
                if text.is_empty() {
                    text = format!("{:?}", status.code());
                }
                let mut source = std::error::Error::source(&status);
                while let Some(cause) = source {
                    let said = cause.to_string();
                    // Each layer repeats the one below.
                    if !text.contains(&said) {
                        text = format!("{text}: {said}");
                    }
                    source = cause.source();
                }
                Self { text, stale: i32::from(status.code()) == OUT_OF_RANGE }
            }
            etcd_client::Error::TransportError(error) => Self::new(chain(&error)),
            other => Self::new(other.to_string()),
        }
    }
}
