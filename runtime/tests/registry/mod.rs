//! A registry for tests, as far as pulling goes: documents and blobs over HTTP/1.1, one request a connection.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use netns_fixtures::NetNs;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use crate::archive::{arch, config, digest};

/// In what way something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends in the middle of it.
    Cut,
    /// Nothing more comes after the middle, until the fault is taken away.
    Stall,
}

/// Who may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Whoever says `bird:feather`.
    Basic,
    /// Whoever has a token, which `bird:feather` gets.
    Token,
}

/// What the registry has, and what it was asked.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// By digest, manifests among them, and by tag.
    pub(crate) content: BTreeMap<String, Vec<u8>>,
    pub(crate) faults: BTreeMap<String, Fault>,
    pub(crate) door: Door,
    /// Blobs are somewhere else, as those of large registries are.
    pub(crate) elsewhere: bool,
    /// `METHOD PATH`, in the order they came.
    pub(crate) asked: Vec<String>,
}

/// A registry. It is there for as long as the test runs.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    shelf: Arc<(Mutex<Shelf>, Condvar)>,
}

impl Registry {
    /// One that listens in `net`.
    pub(crate) fn start(net: &NetNs, address: &str) -> Self {
        let listener = net.run(|| TcpListener::bind(address)).expect("a namespace").expect("a listener");
        let shelf = Shelf {
            content: BTreeMap::new(),
            faults: BTreeMap::new(),
            door: Door::Open,
            elsewhere: false,
            asked: vec![],
        };
        let address = listener.local_addr().expect("an address");
        let registry = Self { address, shelf: Arc::new((Mutex::new(shelf), Condvar::new())) };
        let served = registry.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                // Who hangs up is not our concern.
                thread::spawn(move || drop(served.serve(stream)));
            }
        });
        registry
    }

    /// Who speaks TLS for it, at a port of its own, with this certificate and key.
    pub(crate) fn behind_tls(&self, net: &NetNs, certificate: &Path, key: &Path) -> SocketAddr {
        let chain = CertificateDer::pem_file_iter(certificate).expect("a file").map(|one| one.expect("PEM"));
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(chain.collect(), key);
        let config = Arc::new(config.expect("a certificate"));
        let listener = net.run(|| TcpListener::bind(self.address.ip().to_string() + ":0"));
        let listener = listener.expect("a namespace").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let served = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = ServerConnection::new(Arc::clone(&config)).expect("a connection");
                let served = served.clone();
                thread::spawn(move || drop(served.serve(StreamOwned::new(server, stream))));
            }
        });
        address
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.0.lock().expect("nobody panics with it")
    }

    /// Whoever waits for faults to go looks again.
    pub(crate) fn repair(&self) {
        self.shelf().faults.clear();
        self.shelf.1.notify_all();
    }

    /// What it was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf().asked)
    }

    /// How often a blob was begun to be sent since the last time.
    pub(crate) fn sent(&self, digest: &str) -> usize {
        self.asked().iter().filter(|line| **line == format!("GET /v2/team/web/blobs/{digest}")).count()
    }

    /// The name of an image here, with a tag (`:v1`) or a digest (`@sha256:...`).
    pub(crate) fn name(&self, end: &str) -> String {
        format!("{}/team/web{end}", self.address)
    }

    /// Has an image under a tag, below an index with other machines' images. Answers the index's digest.
    pub(crate) fn publish(&self, tag: &str, config: &[u8], layers: &[&[u8]]) -> String {
        let own = self.manifest(config, layers);
        let mut other = own.clone();
        other["digest"] = json!(digest(b"another machine's"));
        let machines = [(other, "s390x"), (own, arch())].map(|(mut one, arch)| {
            one["platform"] = json!({ "os": "linux", "architecture": arch });
            one
        });
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": machines });
        let index = index.to_string().into_bytes();
        self.shelf().content.insert(tag.to_owned(), index.clone());
        self.put(&index)
    }

    /// The same of an image that is made of layers as they are.
    pub(crate) fn publish_plain(&self, tag: &str, run: &Value, layers: &[&[u8]]) -> String {
        self.publish(tag, &config(run, layers), layers)
    }

    fn manifest(&self, config: &[u8], layers: &[&[u8]]) -> Value {
        let blob = |kind: &str, bytes: &[u8]| {
            json!({ "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": self.put(bytes), "size": bytes.len() })
        };
        let layers: Vec<_> = layers.iter().map(|bytes| blob("layer.v1.tar", bytes)).collect();
        let manifest =
            json!({ "schemaVersion": 2, "config": blob("config.v1+json", config), "layers": layers });
        blob("manifest.v1+json", manifest.to_string().as_bytes())
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        self.shelf().content.insert(digest.clone(), bytes.to_vec());
        digest
    }

    fn serve(&self, mut stream: impl Read + Write) -> std::io::Result<()> {
        let mut lines = BufReader::new(&mut stream).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut authorization = String::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("authorization")
            {
                value.clone_into(&mut authorization);
            }
        }
        self.shelf().asked.push(format!("{method} {path}"));
        self.answer(&mut stream, method, path, &authorization)
    }

    fn answer(
        &self,
        to: &mut impl Write,
        method: &str,
        path: &str,
        authorization: &str,
    ) -> std::io::Result<()> {
        // "bird:feather"
        let known = authorization == "Basic YmlyZDpmZWF0aGVy";
        if let Some(query) = path.strip_prefix("/token?") {
            let asks_well = query.contains("service=here") && query.contains("team%2Fweb");
            return match (known, asks_well) {
                (true, true) => reply(to, "200 OK", "", br#"{"token": "t0k3n"}"#),
                _ => reply(to, "401 Unauthorized", "", br#"{"errors": [{"message": "who are you?"}]}"#),
            };
        }
        let door = self.shelf().door;
        let elsewhere = self.shelf().elsewhere;
        let cdn = path.strip_prefix("/cdn/");
        let challenge = match door {
            Door::Basic if !known => "WWW-Authenticate: Basic realm=\"here\"\r\n".to_owned(),
            Door::Token if authorization != "Bearer t0k3n" => format!(
                "WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"here\",scope=\"repository:team/web:pull\"\r\n",
                self.address
            ),
            _ => String::new(),
        };
        if cdn.is_none() && !challenge.is_empty() {
            return reply(to, "401 Unauthorized", &challenge, b"");
        }
        if cdn.is_some() && !authorization.is_empty() {
            return reply(to, "400 Bad Request", "", b"that is not for us");
        }
        let what = path.rsplit('/').next().unwrap_or_default();
        if elsewhere && path.contains("/blobs/") {
            let there = format!("Location: http://localhost:{}/cdn/{what}\r\n", self.address.port());
            return reply(to, "307 Temporary Redirect", &there, b"");
        }
        let Some(bytes) = self.shelf().content.get(what).cloned() else {
            return reply(to, "404 Not Found", "", br#"{"errors": [{"message": "manifest unknown"}]}"#);
        };
        let head = format!("Docker-Content-Digest: {}\r\n", digest(&bytes));
        if method == "HEAD" {
            return to.write_all(&header("200 OK", &head, bytes.len()));
        }
        to.write_all(&header("200 OK", &head, bytes.len()))?;
        self.send(to, what, &bytes)
    }

    /// Sends something, as far as nothing is wrong with that.
    fn send(&self, to: &mut impl Write, what: &str, bytes: &[u8]) -> std::io::Result<()> {
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        to.write_all(first)?;
        let fault = self.shelf().faults.get(what).copied();
        match fault {
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::Stall) => {
                let stalls = |shelf: &mut Shelf| shelf.faults.get(what) == Some(&Fault::Stall);
                drop(self.shelf.1.wait_while(self.shelf(), stalls).expect("nobody panics with it"));
            }
            None => {}
        }
        to.write_all(rest)
    }
}

fn header(status: &str, more: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn reply(to: &mut impl Write, status: &str, more: &str, body: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&header(status, more, body.len()), body].concat())
}

/// The configuration and the layers in what `docker save` and `flatpod image save` write.
pub(crate) fn parts(archive: &[u8]) -> (Value, Vec<Vec<u8>>) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).expect("a file");
        files.insert(name, bytes);
    }
    let json = |name: &str| serde_json::from_slice::<Value>(&files[name]).expect("JSON");
    let manifest = json("manifest.json");
    let image = &manifest[0];
    let names = image["Layers"].as_array().expect("layers");
    let layers = names.iter().map(|name| files[name.as_str().expect("a name")].clone()).collect();
    (json(image["Config"].as_str().expect("a name")), layers)
}
