//! One repository of a registry, asked over HTTP (OCI distribution specification 1.1, and Docker's tokens).

use std::{
    io::Read,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use http_auth::ChallengeRef;
use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::Response,
    tls::{RootCerts, TlsConfig},
};

use super::{
    super::{Reference, blobs::DOCUMENT, blobs::json, digest::Digest},
    Access,
    keys::Login,
};

/// What a name may lead to.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const ANYTHING: &str = "*/*";
/// To find a registry, and to hear anything more from it.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);
/// So much of what a registry says of an error is told.
const TOLD: u64 = 4096;

/// A repository.
#[derive(Debug)]
pub(super) struct Remote {
    agent: Agent,
    registry: String,
    path: String,
    /// Where everything is: `https://HOST/v2/PATH`.
    base: String,
    login: Option<Login>,
    /// What the registry wants to see with each request.
    authorization: Mutex<Option<String>>,
}

impl Remote {
    /// The repository of this image.
    pub(super) fn new(name: &Reference, access: &Access) -> Self {
        let (registry, path) = name.parts();
        let plain = is_here(registry) || access.insecure.iter().any(|one| one == registry);
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let scheme = if plain { "http" } else { "https" };
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .tls_config(tls.unversioned_rustls_crypto_provider(crypto).build())
            .https_only(!plain)
            .http_status_as_error(false)
            .user_agent(concat!("flatpod/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        Self {
            agent: config.build().into(),
            registry: registry.to_owned(),
            path: path.to_owned(),
            base: format!("{scheme}://{host}/v2/{path}"),
            login: access.keys.find(name).cloned(),
            authorization: Mutex::new(None),
        }
    }

    /// The digest of what a name leads to, if the registry says it without showing that.
    pub(super) fn digest(&self, name: &Reference) -> Result<Option<Digest>> {
        let url = self.manifest_url(&what(name));
        let answer = self.ask(|agent, authorization| {
            let request = agent.head(&url).header("Accept", MANIFESTS);
            match authorization {
                Some(value) => request.header("Authorization", value).call(),
                None => request.call(),
            }
        })?;
        let header = answer.headers().get("docker-content-digest").filter(|_| answer.status().is_success());
        Ok(header.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// The manifest or index that a name leads to.
    pub(super) fn top(&self, name: &Reference) -> Result<Vec<u8>> {
        match name.digest() {
            Some(digest) => self.manifest(digest),
            None => self.document(&self.manifest_url(&what(name)), MANIFESTS),
        }
    }

    /// The manifest or index of this digest.
    pub(super) fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        verified(self.document(&self.manifest_url(&digest.to_string()), MANIFESTS)?, digest)
    }

    /// The configuration of this digest.
    pub(super) fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        verified(self.document(&self.blob_url(digest), ANYTHING)?, digest)
    }

    /// The blob of this digest, which nobody has verified.
    pub(super) fn blob(&self, digest: &Digest) -> Result<impl Read + use<>> {
        Ok(self.get(&self.blob_url(digest), ANYTHING)?.into_body().into_reader())
    }

    fn manifest_url(&self, what: &str) -> String {
        format!("{}/manifests/{what}", self.base)
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/blobs/{digest}", self.base)
    }

    fn document(&self, url: &str, kinds: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        let body = self.get(url, kinds)?.into_body().into_reader();
        body.take(DOCUMENT + 1).read_to_end(&mut bytes).with_context(|| format!("GET {url}"))?;
        if bytes.len() as u64 > DOCUMENT {
            bail!("GET {url}: it is larger than {} MiB", DOCUMENT >> 20);
        }
        Ok(bytes)
    }

    fn get(&self, url: &str, kinds: &str) -> Result<Response<Body>> {
        let told = || format!("GET {url}");
        let answer = self.ask(|agent, authorization| {
            let request = agent.get(url).header("Accept", kinds);
            match authorization {
                Some(value) => request.header("Authorization", value).call(),
                None => request.call(),
            }
        });
        let answer = answer.with_context(told)?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(answer)).with_context(told) }
    }

    /// Asks, and once more when the registry wants to know who does.
    fn ask(
        &self,
        request: impl Fn(&Agent, Option<String>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let known = || self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = request(&self.agent, known())?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let Some(fresh) = self.authorize(&answer)? else { return Ok(answer) };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
        Ok(request(&self.agent, known())?)
    }

    /// What the registry wants to see, by its own words; `None` when that cannot be had.
    fn authorize(&self, answer: &Response<Body>) -> Result<Option<String>> {
        for header in answer.headers().get_all("www-authenticate") {
            let text = header.to_str().context("read WWW-Authenticate")?;
            let challenges = http_auth::parse_challenges(text).map_err(|_| {
                anyhow!("the registry wants to know who asks in a way that nobody reads: {text:?}")
            })?;
            for challenge in &challenges {
                if challenge.scheme.eq_ignore_ascii_case("basic") && self.login.is_some() {
                    return Ok(self.login.as_ref().map(Login::basic));
                }
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    return self.token(challenge).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Asks for a token.
    fn token(&self, challenge: &ChallengeRef<'_>) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let told = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = told("realm").context("the registry does not say who gives tokens")?;
        let failed = || format!("ask {realm} for a token");
        let scope = told("scope").unwrap_or_else(|| format!("repository:{}:pull", self.path));
        let mut request = self.agent.get(&realm).query("scope", scope);
        if let Some(service) = told("service") {
            request = request.query("service", service);
        }
        if let Some(login) = &self.login {
            request = request.header("Authorization", login.basic());
        }
        let answer = request.call().with_context(failed)?;
        if !answer.status().is_success() {
            return Err(self.refused(answer)).with_context(failed);
        }
        let mut bytes = vec![];
        answer.into_body().into_reader().take(DOCUMENT).read_to_end(&mut bytes).with_context(failed)?;
        let token: Token = json(&bytes, "the token").with_context(failed)?;
        let token = token.token.or(token.access_token).context("there is none").with_context(failed)?;
        Ok(format!("Bearer {token}"))
    }

    /// What the registry says of an error, and what to do.
    fn refused(&self, answer: Response<Body>) -> anyhow::Error {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<OneError>,
        }
        #[derive(Deserialize)]
        struct OneError {
            message: String,
        }
        let status = answer.status();
        let mut bytes = vec![];
        // Nothing more is to be told when this fails.
        let _ = answer.into_body().into_reader().take(TOLD).read_to_end(&mut bytes);
        let errors = serde_json::from_slice::<Errors>(&bytes).map(|all| all.errors).unwrap_or_default();
        let words: Vec<_> =
            errors.into_iter().map(|one| one.message).filter(|text| !text.is_empty()).collect();
        let told = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
        let remedy = match (status.as_u16(), &self.login) {
            (401 | 403, None) => format!(
                "; there is no password for {0}: docker login {0}, or imagePullSecrets in the pod",
                self.registry
            ),
            (401 | 403, Some(_)) => format!("; the password for {} is not taken", self.registry),
            _ => String::new(),
        };
        anyhow!("{status}{told}{remedy}")
    }
}

fn what(name: &Reference) -> String {
    name.digest().map_or_else(|| name.tag().unwrap_or_default().to_owned(), ToString::to_string)
}

fn verified(bytes: Vec<u8>, digest: &Digest) -> Result<Vec<u8>> {
    super::same("what came", &Digest::of(&bytes), digest)?;
    Ok(bytes)
}

/// Whether a registry is on this machine: packets to it leave it nowhere.
fn is_here(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}
