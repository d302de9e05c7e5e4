//! Who we are to registries: names and passwords as `docker login` keeps them.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::super::Reference;
use crate::base64;

/// How Docker calls its own registry there.
const DOCKER: &str = "index.docker.io";

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login(String);

impl Login {
    /// As the value of a header.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", base64::encode(self.0.as_bytes()))
    }
}

/// Names and passwords by registry, those that count first at the front.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<(String, Login)>);

#[derive(Debug, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Debug, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Keys {
    /// Adds those of a document; they count after those that are there.
    pub(crate) fn add(&mut self, document: &[u8]) -> Result<()> {
        let config: DockerConfig =
            serde_json::from_slice(document).context("read it as docker's config.json")?;
        let mut found = vec![];
        for (registry, auth) in config.auths {
            // One without a password says that a program would know it.
            if let Some(login) = auth.login().with_context(|| format!("auth of {registry:?}"))? {
                found.push((place(&registry).to_owned(), login));
            }
        }
        // What says more of the name counts more.
        found.sort_by_key(|(place, _)| std::cmp::Reverse(place.len()));
        self.0.extend(found);
        Ok(())
    }

    /// Adds those of the user who runs us.
    pub(crate) fn add_own(&mut self) -> Result<()> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = var("DOCKER_CONFIG").or_else(|| var("HOME").map(|home| home.join(".docker")));
        let Some(file) = dir.map(|dir| dir.join("config.json")).filter(|file| file.exists()) else {
            return Ok(());
        };
        let told = || format!("read {}", file.display());
        self.add(&fs::read(&file).with_context(told)?).with_context(told)
    }

    /// The one for an image.
    pub(super) fn find(&self, name: &Reference) -> Option<&Login> {
        let (registry, path) = name.parts();
        let registry = if registry == "docker.io" { DOCKER } else { registry };
        let whole = format!("{registry}/{path}");
        let leads = |place: &str| whole.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        self.0.iter().find(|(place, _)| *place == whole || leads(place)).map(|(_, login)| login)
    }
}

impl Auth {
    fn login(self) -> Result<Option<Login>> {
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let bytes = base64::decode(&auth).context("it is no base64")?;
            let text = String::from_utf8(bytes).context("it is no text")?;
            return Ok(text.contains(':').then_some(Login(text)));
        }
        let (name, password) = (self.username.unwrap_or_default(), self.password.unwrap_or_default());
        Ok((!name.is_empty()).then(|| Login(format!("{name}:{password}"))))
    }
}

/// Registry and beginning of the name there: `https://index.docker.io/v1/` as `index.docker.io`.
fn place(text: &str) -> &str {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    let versionless = text.strip_suffix("/v1").or_else(|| text.strip_suffix("/v2")).unwrap_or(text);
    if versionless == "docker.io" { DOCKER } else { versionless }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_more_of_the_name_counts_more() {
        let mut keys = Keys::default();
        let document = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"},
            "reg.test": {"username": "c", "password": "d"}, "https://reg.test/team": {"auth": "ZTpm"},
            "reg.test:5000": {}}, "credsStore": "x"}"#;
        keys.add(document.as_bytes()).unwrap();
        keys.add(br#"{"auths": {"reg.test/team": {"auth": "YTpi"}, "other": {"auth": "YTpi"}}}"#).unwrap();
        for (name, login) in [
            ("nginx", Some("a:b")),
            ("reg.test/x", Some("c:d")),
            ("reg.test/team/x", Some("e:f")),
            ("reg.test/team", Some("e:f")),
            ("reg.test/teams/x", Some("c:d")),
            ("reg.test:5000/x", None),
            ("reg.test.org/x", None),
        ] {
            let found = keys.find(&name.parse().unwrap()).map(|login| login.0.as_str());
            assert_eq!(found, login, "{name}");
        }
        assert!(keys.add(br#"{"auths": {"a": {"auth": "!"}}}"#).is_err());
    }
}
