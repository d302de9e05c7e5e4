//! What can go wrong while a fixture is built or used.

use std::{io, time::Duration};

/// A fixture could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A system call was refused.
    #[error("{what}")]
    Os {
        /// What was tried, on which object.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A netlink request was refused.
    #[error("{what}")]
    Netlink {
        /// What was tried, on which object.
        what: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// The condition did not come true in time.
    #[error("{what}: not within {within:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
    },
    /// The fabric was asked for something it does not have.
    #[error("{0}")]
    Plan(String),
}

impl FixtureError {
    /// Wraps a system call's error with what was tried.
    pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Os { what, source }
    }

    /// Like [`Self::os`], for nix.
    pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let what = what.into();
        move |errno| Self::Os { what, source: errno.into() }
    }

    /// Whether this is a deadline that passed, as opposed to a refusal.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Os { source, .. } => {
                matches!(source.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
                    || source.raw_os_error() == Some(libc::EINPROGRESS)
            }
            Self::Netlink { .. } | Self::Plan(_) => false,
        }
    }
}
