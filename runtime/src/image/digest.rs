//! What content is called by: the hash of its bytes.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const ALGORITHM: &str = "sha256:";
/// How many digits a hash has.
const DIGITS: usize = 64;

/// `sha256:` and 64 digits. No other algorithm is in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest(String);

impl Digest {
    /// That of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    fn from_hash(hash: Sha256) -> Self {
        let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(digits)
    }

    /// Only the digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// The first digits, which people compare.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..12).unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix(ALGORITHM).unwrap_or_default();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != DIGITS || !digits.bytes().all(is_digit) {
            bail!("{text:?} is no digest: {ALGORITHM} and {DIGITS} digits");
        }
        Ok(Self(digits.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A reader that hashes what passes.
pub(super) struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads to the end, and answers the digest of everything.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::from_hash(self.hash))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..bytes).unwrap_or_default());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_made() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Hashed::new(&b"abc"[..]).finish().unwrap(), Digest::of(b"abc"));
        for wrong in ["sha512:00", "e3b0", "sha256:E3B0", &empty.replace('e', "/")] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
