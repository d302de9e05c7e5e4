//! Names of images, as Docker and Kubernetes read them: `nginx` is `docker.io/library/nginx:latest`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// The registry of names that have none, and the place there of names that have no other.
const REGISTRY: &str = "docker.io";
const LIBRARY: &str = "library";
const TAG: &str = "latest";
/// The longest name without tag and digest, and the longest tag.
const LONGEST: usize = 255;
const LONGEST_TAG: usize = 128;

/// A name that no image can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no image name: {why}")]
pub(crate) struct InvalidReference {
    name: String,
    why: &'static str,
}

/// A name in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Reference {
    /// With its registry.
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The name without tag and digest, as people write it.
    pub(crate) fn familiar(&self) -> &str {
        let short = self.repository.strip_prefix(REGISTRY).and_then(|rest| rest.strip_prefix('/'));
        let short = short
            .map(|name| name.strip_prefix(LIBRARY).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name));
        short.unwrap_or(&self.repository)
    }

    /// The name without tag and digest, in full.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// Its tag; a name with a digest need not have one.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Its registry, and its name there.
    #[cfg(feature = "registry")]
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.repository.split_once('/').unwrap_or_default()
    }

    /// Whether it is no name of an image on a registry: what is built in, and what podman builds.
    pub(crate) fn is_only_here(&self) -> bool {
        ["builtin/", "localhost/"].iter().any(|prefix| self.familiar().starts_with(prefix))
    }

    /// The name to keep an image of this name under: a digest says more than a tag.
    #[cfg(feature = "registry")]
    pub(crate) fn to_keep(&self) -> Self {
        Self { tag: self.tag.clone().filter(|_| self.digest.is_none()), ..self.clone() }
    }

    /// The digest of the image that it has to be, if it says so.
    pub(crate) fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let wrong = |why| InvalidReference { name: text.to_owned(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("after @ comes sha256: and 64 digits"))?))
            }
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest.get(last..).and_then(|last| last.split_once(':')) {
            Some((end, tag)) => (rest.get(..last + end.len()).unwrap_or_default(), Some(tag)),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag is letters, digits, _, . and -, at most 128"));
        }
        let (registry, path) = split(name);
        if !is_registry(registry) {
            return Err(wrong("the registry is no host name"));
        }
        if path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("that is the id of an image"));
        }
        if !path.split('/').all(is_part) {
            return Err(wrong(
                "small letters and digits, with . _ __ or - between them, and / between parts",
            ));
        }
        let library = if registry == REGISTRY && !path.contains('/') { "library/" } else { "" };
        let repository = format!("{registry}/{library}{path}");
        if repository.len() > LONGEST {
            return Err(wrong("it is longer than 255"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| TAG.to_owned()));
        Ok(Self { repository, tag, digest })
    }
}

/// Registry and path. The first part is a registry if it could not be anything else.
fn split(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (if first == "index.docker.io" { REGISTRY } else { first }, rest)
        }
        _ => (REGISTRY, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = is_address.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_address || host.split('.').all(is_label)) && port.is_none_or(is_port)
}

fn is_tag(tag: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !tag.is_empty() && tag.len() <= LONGEST_TAG && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_part(part: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = [part.chars().next(), part.chars().last()];
    let between = part.split(is_plain).filter(|between| !between.is_empty());
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-');
    ends.iter().all(|end| end.is_some_and(is_plain)) && { between }.all(is_separator)
}

/// As people write it.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.familiar())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed_as_docker_completes_them() {
        let digest = Digest::of(b"");
        for (text, repository, tag) in [
            ("nginx", "docker.io/library/nginx", Some("latest")),
            ("nginx:1.27", "docker.io/library/nginx", Some("1.27")),
            ("docker.io/nginx:1.27", "docker.io/library/nginx", Some("1.27")),
            ("index.docker.io/library/nginx:1.27", "docker.io/library/nginx", Some("1.27")),
            ("me/tool", "docker.io/me/tool", Some("latest")),
            ("localhost/tool:v1", "localhost/tool", Some("v1")),
            ("localhost:5000/a/b", "localhost:5000/a/b", Some("latest")),
            ("[::1]:5000/a", "[::1]:5000/a", Some("latest")),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause", Some("3.9")),
            (&format!("nginx@{digest}"), "docker.io/library/nginx", None),
            (&format!("nginx:1@{digest}"), "docker.io/library/nginx", Some("1")),
        ] {
            let read: Reference = text.parse().unwrap();
            assert_eq!((read.repository(), read.tag()), (repository, tag), "{text}");
            assert_eq!(read.to_string().parse::<Reference>().unwrap(), read, "{text}");
            assert_eq!(read.digest().is_some(), text.contains('@'));
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        for text in ["nginx:1.27", "me/tool:latest", "localhost/tool:v1", "builtin/tools:v1", "a__b-c.d:x"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_that_no_image_can_have() {
        let long = "a".repeat(256);
        for text in [
            "",
            "Nginx",
            "nginx:",
            "nginx:a/b:",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a_-b",
            "a___b",
            "-a",
            "a@sha256:12",
            "nginx:.x",
            "nginx latest",
            "host:port/a",
            "[::x]/a",
            &long,
            &"0".repeat(64),
            "a:b:c",
            "ä",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }
}
