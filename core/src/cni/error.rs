//! The error object a plugin answers with (CNI SPEC 1.1.0, section 5, "Error").

use serde_json::{Value, json};

use super::version::Version;

/// Error codes: 0 to 99 as the specification lists them, ours from 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: the asked version, or the verb in that version.
    IncompatibleVersion,
    /// 2: a field we do not support; the message names key and value.
    UnsupportedField,
    /// 4: an environment variable; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: not JSON, or not of the expected type.
    Decode,
    /// 7: a configuration value that cannot be.
    InvalidConfig,
    /// 11: trying again later may help.
    TryAgain,
    /// 50: STATUS, no ADD can be served.
    NotAvailable,
    /// 100: the kernel refused.
    Kernel,
    /// 101: the attachment exists already, or something holds its name.
    Conflict,
    /// 102: CHECK found a difference.
    Differs,
    /// 103: a plugin we delegate to is missing, or does not behave as one.
    Delegate,
    /// The code that a plugin we delegate to answered with.
    Delegated(u32),
}

impl Code {
    /// The number in the error object.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::Kernel => 100,
            Self::Conflict => 101,
            Self::Differs => 102,
            Self::Delegate => 103,
            Self::Delegated(code) => code,
        }
    }
}

/// A failed invocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}")]
pub struct CniError {
    /// What kind.
    pub code: Code,
    /// What was wrong: the thing and its value.
    pub msg: String,
    /// What to do about it, or what was left behind.
    pub details: Option<String>,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl ToString) -> Self {
        Self { code, msg: msg.to_string(), details: None }
    }

    /// Adds details.
    #[must_use]
    pub fn with(mut self, details: impl ToString) -> Self {
        self.details = Some(details.to_string());
        self
    }

    /// The object for stdout.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = json!({
            "cniVersion": version.as_str(),
            "code": self.code.number(),
            "msg": self.msg,
        });
        if let Some(details) = &self.details {
            object["details"] = json!(details);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next code after `code` in the order of their numbers: a new one does not compile without its place.
    fn next(code: Code) -> Option<Code> {
        Some(match code {
            Code::IncompatibleVersion => Code::UnsupportedField,
            Code::UnsupportedField => Code::InvalidEnvironment,
            Code::InvalidEnvironment => Code::Io,
            Code::Io => Code::Decode,
            Code::Decode => Code::InvalidConfig,
            Code::InvalidConfig => Code::TryAgain,
            Code::TryAgain => Code::NotAvailable,
            Code::NotAvailable => Code::Kernel,
            Code::Kernel => Code::Conflict,
            Code::Conflict => Code::Differs,
            Code::Differs => Code::Delegate,
            Code::Delegate | Code::Delegated(_) => return None,
        })
    }

    #[test]
    fn every_code_is_documented_and_no_other() {
        let page = include_str!("../../../docs/plugin.md");
        let table = page.split("## Error codes").nth(1).unwrap();
        let told: Vec<u32> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let codes = std::iter::successors(Some(Code::IncompatibleVersion), |code| next(*code));
        assert_eq!(told, codes.map(Code::number).collect::<Vec<_>>());
    }
}
