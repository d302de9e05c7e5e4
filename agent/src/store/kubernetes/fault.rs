//! Why a session with the API server ended.

use std::fmt;

use crate::status::chain;

/// HTTP: the credentials are not, or no longer, accepted.
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
/// HTTP: what was to be gone on from is forgotten.
const GONE: u16 = 410;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    text: String,
    /// What is known has to be read anew.
    pub(super) stale: bool,
    /// Nothing is wrong: the server asked for a new beginning.
    pub(super) expected: bool,
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), stale: false, expected: false }
    }

    pub(super) fn stale(text: impl Into<String>) -> Self {
        Self { stale: true, ..Self::new(text) }
    }

    /// What the API server answered in the place of what was asked for.
    pub(super) fn answered(code: u16, message: &str) -> Self {
        let text = match code {
            UNAUTHORIZED => {
                "401: it does not accept this node's token or certificate; they are read again".to_owned()
            }
            FORBIDDEN => format!("403: {message}; apply the ClusterRole of deploy/kubernetes"),
            _ => format!("{code}: {message}"),
        };
        Self { text, stale: code == GONE, expected: code == GONE }
    }

    /// Names where it happened.
    pub(super) fn at(self, what: &str) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::answered(status.code, &status.message),
            kube::Error::Service(error) => Self::new(chain(&*error)),
            other => Self::new(chain(&other)),
        }
    }
}
