//! Where a field is in an object, as Kubernetes writes it: `spec.containers[0].ports[1].name`.

use std::fmt;

/// The path of a field; the root is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(String);

impl Path {
    /// The object itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// A field of this object.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn entry(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// What this is a part of, `None` for the object itself.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let cut = match self.0.strip_suffix(']') {
            Some(inner) => inner.rfind('['),
            None => self.0.rfind('.'),
        };
        Some(Self(self.0[..cut.unwrap_or(0)].to_owned()))
    }

    /// Whether this is `other` or below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_lead_back_to_the_root() {
        let path = Path::root().field("spec").field("containers").index(0).field("name");
        assert_eq!(path.as_str(), "spec.containers[0].name");
        let mut up = Vec::new();
        let mut at = Some(path);
        while let Some(path) = at {
            up.push(path.to_string());
            at = path.parent();
        }
        assert_eq!(up, ["spec.containers[0].name", "spec.containers[0]", "spec.containers", "spec", ""]);
    }

    #[test]
    fn a_longer_name_is_not_within() {
        let spec = Path::root().field("spec");
        assert!(spec.field("a").is_within(&spec));
        assert!(!Path::root().field("special").is_within(&spec));
    }
}
