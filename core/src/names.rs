//! Names that come from outside, parsed once into types that cannot be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest interface name in bytes: `IFNAMSIZ - 1` (include/uapi/linux/if.h).
pub const IF_NAME_MAX: usize = 15;

/// An interface name the kernel will accept (`dev_valid_name`, net/core/dev.c), without `%`, which the
/// kernel would take for a template (`eth%d`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

/// Why a text is not an interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IfNameError {
    /// No byte at all.
    #[error("interface name is empty")]
    Empty,
    /// More than [`IF_NAME_MAX`] bytes.
    #[error("interface name {name:?} has {bytes} bytes, the kernel takes at most {IF_NAME_MAX}")]
    TooLong {
        /// The name as given.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// `.` and `..` (directories), `all` and `default` (sysctl folders).
    #[error("interface name {0:?} is reserved")]
    Reserved(String),
    /// A byte the kernel refuses or reads as something else.
    #[error(
        "interface name {name:?} has {character:?}; '/', ':', '%', spaces and control characters are refused"
    )]
    BadCharacter {
        /// The name as given.
        name: String,
        /// The first offending character.
        character: char,
    },
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() {
            return Err(IfNameError::Empty);
        }
        if let Some(character) =
            s.chars().find(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control())
        {
            return Err(IfNameError::BadCharacter { name: s.to_owned(), character });
        }
        if s.len() > IF_NAME_MAX {
            return Err(IfNameError::TooLong { name: s.to_owned(), bytes: s.len() });
        }
        if matches!(s, "." | ".." | "all" | "default") {
            return Err(IfNameError::Reserved(s.to_owned()));
        }
        Ok(Self(s.to_owned()))
    }
}

/// A text that is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No byte at all.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Longer than any file name may be.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not `[A-Za-z0-9][A-Za-z0-9_.-]*`.
    #[error(
        "{what} {name:?} must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
    )]
    Bad {
        /// Which kind of name.
        what: &'static str,
        /// The name as given.
        name: String,
    },
}

fn check_plain(what: &'static str, s: &str, max: usize) -> Result<(), NameError> {
    if s.is_empty() {
        return Err(NameError::Empty { what });
    }
    if s.len() > max {
        return Err(NameError::TooLong { what, bytes: s.len(), max });
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !s.as_bytes()[0].is_ascii_alphanumeric() || !s.bytes().all(plain) {
        return Err(NameError::Bad { what, name: s.to_owned() });
    }
    Ok(())
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                check_plain($what, s, $max)?;
                Ok(Self(s.to_owned()))
            }
        }

        text_value!($name, NameError);
    };
}

macro_rules! text_value {
    ($name:ident, $error:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text_value!(IfName, IfNameError);
plain_name!(
    /// `CNI_CONTAINERID` (CNI SPEC 1.1.0, section 2, Parameters).
    ContainerId, "container id", 1024
);
plain_name!(
    /// The `name` of a network configuration (CNI SPEC 1.1.0, section 1).
    NetworkName, "network name", 1024
);
plain_name!(
    /// The name of a node, as in the cluster's store.
    NodeName, "node name", 253
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interface_names_the_kernel_refuses_are_refused() {
        for bad in ["", "a/b", "a b", "a:b", ".", "..", "eth%d", "sixteen-bytes-xx", "a\n", "all", "default"]
        {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
        for good in ["eth0", "a", "fifteen-bytes-x", "net1.100", "é"] {
            assert!(good.parse::<IfName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_error_names_the_value() {
        let e = "0123456789abcdef".parse::<IfName>().unwrap_err().to_string();
        assert!(e.contains("0123456789abcdef") && e.contains("16 bytes"), "{e}");
        let e = "../x".parse::<ContainerId>().unwrap_err().to_string();
        assert!(e.contains("container id") && e.contains("../x"), "{e}");
    }

    proptest! {
        #[test]
        fn whatever_parses_is_short_and_has_no_path_characters(s in "\\PC{0,20}") {
            if let Ok(name) = s.parse::<IfName>() {
                prop_assert!((1..=IF_NAME_MAX).contains(&name.as_str().len()));
                prop_assert!(!name.as_str().contains(['/', ':', ' ']));
            }
            if let Ok(id) = s.parse::<ContainerId>() {
                prop_assert!(id.as_str().as_bytes()[0].is_ascii_alphanumeric());
                prop_assert!(!id.as_str().contains('/'));
            }
        }
    }
}
