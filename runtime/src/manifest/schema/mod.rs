//! What may be written in a manifest: every field of the objects that flatpod reads, its shape, and what flatpod
//! does with it.
//!
//! One table serves strict decoding (a field that is not here is an error), the refusal of what flatpod cannot do,
//! `flatpod explain` and `docs/manifests.md`. Its test compares it with the published schema of Kubernetes, field by
//! field, so that a field of a newer Kubernetes is in nobody's list only until the test has run.
//!
//! The rule for the sort: whatever would change isolation, data, order or reachability if it were dropped is
//! rejected; what only steers a scheduler or an authority that is not here is accepted with a notice.

mod container;
mod metadata;
mod placement;
mod pod;
mod volume;
mod workload;

pub use metadata::{CONFIG_MAP, SECRET};
pub use pod::{POD, POD_TEMPLATE};
pub use workload::{DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, REPLICATION_CONTROLLER, STATEFUL_SET};

/// The shape of a value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string; where it is required, it is not empty.
    Text,
    /// A string that may be empty even where it is required.
    FreeText,
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// An amount of a resource, `250m` or `64Mi`; also written as a number.
    Quantity,
    /// A number or a name, as a port in a probe.
    IntOrText,
    /// A time by RFC 3339.
    Time,
    /// Bytes in base64.
    Bytes,
    /// Anything: what is below is not looked at, because the field is dropped or refused whole.
    Any,
    /// An object of the table.
    One(&'static Object),
    /// A list.
    Many(&'static Shape),
    /// An object with keys of the user's choice.
    Map(&'static Shape),
}

/// What flatpod does with a field that is given.
#[derive(Debug, Clone, Copy)]
pub enum Policy {
    /// It has the effect that Kubernetes documents.
    Honoured,
    /// It is kept in the object but has no effect here; said once, unless the value is one of `silent`.
    Notice {
        /// Why it has no effect.
        why: &'static str,
        /// Values that ask for nothing.
        silent: &'static [&'static str],
    },
    /// Honoured by a flatpod that is built with the feature `registry`. In others it is without effect, and that is said
    /// once.
    WithRegistry(&'static str),
    /// Honoured for these values, refused for others.
    Only {
        /// The values, as text.
        values: &'static [&'static str],
        /// Why not others, and what to do.
        why: &'static str,
    },
    /// Refused, for this reason.
    Rejected(&'static str),
}

/// One field of an object.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// The shape of its value.
    pub shape: Shape,
    /// Whether an object without it is an error.
    pub required: bool,
    /// What flatpod does with it.
    pub policy: Policy,
    /// What a user should know about how it is honoured; may be empty.
    pub note: &'static str,
}

/// An object with a fixed set of fields.
#[derive(Debug)]
pub struct Object {
    /// Its name in Kubernetes' API, without package: `PodSpec`.
    pub name: &'static str,
    /// Its fields, sorted by name.
    pub fields: &'static [Field],
}

impl Object {
    /// The field with that key.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Field {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Values that need no notice.
    const fn silent(mut self, values: &'static [&'static str]) -> Self {
        if let Policy::Notice { why, .. } = self.policy {
            self.policy = Policy::Notice { why, silent: values };
        }
        self
    }
}

impl Shape {
    /// The object below, through lists and maps.
    #[must_use]
    pub fn object(&self) -> Option<&'static Object> {
        match self {
            Self::One(object) => Some(object),
            Self::Many(inner) | Self::Map(inner) => inner.object(),
            _ => None,
        }
    }

    /// As `flatpod explain` writes it: `string`, `[]Container`, `map[string]string`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Text | Self::FreeText => "string".to_owned(),
            Self::Bool => "boolean".to_owned(),
            Self::Int32 | Self::Int64 => "integer".to_owned(),
            Self::Quantity => "quantity".to_owned(),
            Self::IntOrText => "integer or string".to_owned(),
            Self::Time => "time".to_owned(),
            Self::Bytes => "base64".to_owned(),
            Self::Any => "-".to_owned(),
            Self::One(object) => object.name.to_owned(),
            Self::Many(inner) => format!("[]{}", inner.describe()),
            Self::Map(inner) => format!("map[string]{}", inner.describe()),
        }
    }
}

/// A list of strings.
const TEXTS: Shape = Shape::Many(&Shape::Text);
/// A list of strings, some of which may be empty.
const FREE_TEXTS: Shape = Shape::Many(&Shape::FreeText);
/// Strings by keys of the user's choice.
const TEXT_MAP: Shape = Shape::Map(&Shape::FreeText);

const fn honoured(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false, policy: Policy::Honoured, note: "" }
}

const fn notice(name: &'static str, shape: Shape, why: &'static str) -> Field {
    Field { name, shape, required: false, policy: Policy::Notice { why, silent: &[] }, note: "" }
}

const fn with_registry(name: &'static str, shape: Shape, why: &'static str) -> Field {
    Field { name, shape, required: false, policy: Policy::WithRegistry(why), note: "" }
}

const fn only(name: &'static str, shape: Shape, values: &'static [&'static str], why: &'static str) -> Field {
    Field { name, shape, required: false, policy: Policy::Only { values, why }, note: "" }
}

const fn rejected(name: &'static str, why: &'static str) -> Field {
    Field { name, shape: Shape::Any, required: false, policy: Policy::Rejected(why), note: "" }
}

#[cfg(test)]
mod tests;
