//! HTTP/1.1 over TCP, with TLS or without: connections, requests and watches.

use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::world::{Asked, World, refusal};

/// Between two bookmarks of a quiet watch; the real one takes about a minute.
const BOOKMARK: Duration = Duration::from_secs(2);

/// What connections and tests share.
pub(super) struct Shared {
    world: Mutex<World>,
    /// Says that something changed.
    pub(super) news: watch::Sender<u64>,
    /// Connections that were opened before this number was raised are cut.
    pub(super) cuts: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { world: Mutex::default(), news: watch::Sender::new(0), cuts: watch::Sender::new(0) }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and tells all watches.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let changed = change(&mut self.world());
        self.news.send_modify(|count| *count += 1);
        changed
    }
}

/// Serves until told to stop; then all connections are cut.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    listener.set_nonblocking(true).expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok(stream) = stream else { continue };
        // A cut is a cut: no goodbye.
        stream.set_zero_linger().expect("a stream");
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            let mut cut = shared.cuts.subscribe();
            tokio::select! {
                () = connection(stream, tls, Arc::clone(&shared)) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connection(stream: tokio::net::TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => Box::new(stream),
            Err(_) => return,
        },
    };
    let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
    // A client that goes away is no error here.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// Chunks as they come.
pub(super) struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

fn whole(code: u16, text: String) -> Response<Chunks> {
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(text.into()).expect("room for one");
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.body(Chunks(receiver)).expect("a response")
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Chunks>, Infallible> {
    let slow = shared.world().faults.slow;
    tokio::time::sleep(slow).await;
    let (parts, body) = request.into_parts();
    let query = Query::of(parts.uri.query().unwrap_or_default());
    let mut asked = asked(&parts.method, parts.uri.path(), &query);
    let bearer = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let refused = refuse(&shared.world(), bearer);
    let merge =
        parts.headers.get("content-type").is_some_and(|it| it == "application/strategic-merge-patch+json");
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let response = match (refused, asked.verb.as_str(), asked.resource.as_str()) {
        (Some((code, status)), ..) => whole(code, status.to_string()),
        (None, "list", "nodes") => list(&shared, &query),
        (None, "watch", "nodes") => watch_nodes(&shared, &query),
        (None, "patch", "nodes/status") if merge => {
            let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (code, node) = shared.change(|world| world.patch(&asked.name, &patch));
            whole(code, node.to_string())
        }
        _ => {
            let (code, status) = refusal(403, "this test's API server has no such thing");
            whole(code, status.to_string())
        }
    };
    asked.code = response.status().as_u16();
    shared.world().asked.push(asked);
    Ok(response)
}

fn refuse(world: &World, bearer: Option<&str>) -> Option<(u16, Value)> {
    if let Some(code) = world.faults.code {
        return Some(refusal(code, "as the test wants it"));
    }
    let good = world.token.as_ref().map(|token| format!("Bearer {token}"));
    (good.is_some() && bearer != good.as_deref()).then(|| refusal(401, "Unauthorized"))
}

/// Which rule of RBAC a request falls under.
fn asked(method: &Method, path: &str, query: &Query) -> Asked {
    let rest = path.strip_prefix("/api/v1/nodes").unwrap_or(path);
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let (resource, name) = match parts.as_slice() {
        [] => ("nodes".to_owned(), ""),
        [name] if rest != path => ("nodes".to_owned(), *name),
        [name, more] if rest != path => (format!("nodes/{more}"), *name),
        _ => (path.to_owned(), ""),
    };
    let verb = match method.as_str() {
        "GET" if query.get("watch").is_some_and(|it| it == "true" || it == "1") => "watch",
        "GET" if name.is_empty() => "list",
        "GET" => "get",
        "PATCH" => "patch",
        "PUT" => "update",
        "POST" => "create",
        "DELETE" => "delete",
        other => other,
    };
    Asked { verb: verb.to_owned(), resource, name: name.to_owned(), code: 0 }
}

fn list(shared: &Shared, query: &Query) -> Response<Chunks> {
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let page = shared.world().page(limit, query.get("continue").as_deref());
    match page {
        Ok(text) => whole(200, text),
        Err(()) => whole(410, refusal(410, "The provided continue parameter is too old").1.to_string()),
    }
}

fn watch_nodes(shared: &Arc<Shared>, query: &Query) -> Response<Chunks> {
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let gone = refusal(410, &format!("too old resource version: {from}")).1;
    if shared.world().faults.gone_at_once && shared.world().since(from).is_none() {
        return whole(410, gone.to_string());
    }
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(1_800);
    let bookmarks = query.get("allowWatchBookmarks").is_some_and(|it| it == "true");
    let (sender, receiver) = mpsc::channel(16);
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    tokio::spawn(follow(Arc::clone(shared), sender, (from, gone), (end, bookmarks)));
    Response::builder().header("content-type", "application/json").body(Chunks(receiver)).expect("a response")
}

async fn follow(
    shared: Arc<Shared>,
    lines: mpsc::Sender<Bytes>,
    (mut from, gone): (u64, Value),
    (end, bookmarks): (tokio::time::Instant, bool),
) {
    let mut news = shared.news.subscribe();
    let begun = tokio::time::Instant::now();
    loop {
        let (frozen, since, version, lasts) = {
            let world = shared.world();
            (world.faults.frozen, world.since(from), world.version, world.faults.watch_lasts)
        };
        let end = lasts.map_or(end, |lasts| end.min(begun + lasts));
        if !frozen {
            let Some(since) = since else {
                let line = format!("{}\n", json!({ "type": "ERROR", "object": gone }));
                let _ = lines.send(line.into()).await;
                return;
            };
            for (_, line) in since {
                if lines.send(Bytes::copy_from_slice(line.as_bytes())).await.is_err() {
                    return;
                }
            }
            from = version;
        }
        tokio::select! {
            _ = news.changed() => {}
            () = lines.closed() => return,
            () = tokio::time::sleep_until(end) => return,
            () = tokio::time::sleep(BOOKMARK), if bookmarks && !frozen => {
                let metadata = json!({ "resourceVersion": from.to_string(), "creationTimestamp": null });
                let object = json!({ "kind": "Node", "apiVersion": "v1", "metadata": metadata });
                let line = format!("{}\n", json!({ "type": "BOOKMARK", "object": object }));
                if lines.send(line.into()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The query of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), plain(value))).collect())
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }
}

/// What `%XX` stands for.
fn plain(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.expect("two hexadecimal digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("text")
}
