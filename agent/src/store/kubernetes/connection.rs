//! The requests that are made of the API server: the only module that knows its client. What is asked for
//! here is what the ClusterRole of deploy/kubernetes allows, and a test holds the two together.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use http::{Method, Request};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder};

use super::fault::Fault;
use super::object::{NodeList, NodeObject, WatchLine};
use crate::config::KubernetesConfig;
use crate::pacing::random_fraction;
use crate::status::chain;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Nodes per page: some megabytes of JSON, for a Node is some ten kilobytes.
const PAGE: u32 = 250;
/// The kernel tries a quiet connection so often, and gives it up after so many tries without an answer.
const PROBE: Duration = Duration::from_secs(10);
const PROBE_AGAIN: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// The same for one on which something was sent.
const UNANSWERED: Duration = Duration::from_secs(20);
/// A watch on which nothing comes for so long is begun again: a server sends a bookmark about every minute.
const QUIET: Duration = Duration::from_secs(150);
/// A watch lasts so long, and up to twice that, so that the nodes of a cluster do not all come at once.
const WATCH: f64 = 240.0;

/// A connection to the API server, with the credentials of the moment it was opened.
pub(super) struct Connection {
    client: kube::Client,
}

/// A watch under way.
pub(super) struct Watch {
    lines: Pin<Box<dyn AsyncBufRead + Send>>,
    /// Of a line that has not come whole yet.
    line: Vec<u8>,
    /// When the last line came whole.
    heard: Instant,
}

/// What became of a change of ours.
pub(super) enum Answer {
    Done(Box<NodeObject>),
    /// The API server would not, for a reason that ends no session.
    Refused {
        code: u16,
        text: String,
    },
}

/// Ends with the time that an answer may take.
async fn in_time<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| {
        Err(kube::Error::Service(format!("no answer within {} s", PATIENCE.as_secs()).into()))
    })
}

fn get(path: &str) -> Result<Request<Vec<u8>>, Fault> {
    let request = Request::builder().method(Method::GET).uri(path).header("accept", "application/json");
    request.body(Vec::new()).map_err(|e| Fault::new(chain(&e)))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|e| Fault::stale(format!("the answer makes no sense: {e}")))
}

/// Where the API server is, and who we are.
async fn access(config: &KubernetesConfig) -> Result<kube::Config, Fault> {
    let Some(path) = &config.kubeconfig else {
        return kube::Config::incluster_env().map_err(|e| {
            Fault::new(format!("no service account: {}; set store.kubernetes.kubeconfig", chain(&e)))
        });
    };
    let at = |e: &dyn std::error::Error| Fault::new(format!("{}: {}", path.display(), chain(e)));
    let file = Kubeconfig::read_from(path).map_err(|e| at(&e))?;
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(|e| at(&e))
}

impl Connection {
    /// Reads all credentials anew and makes ready to connect.
    pub(super) async fn open(config: &KubernetesConfig) -> Result<Self, Fault> {
        let access = access(config).await?;
        if let Some(proxy) = &access.proxy_url {
            return Err(Fault::new(format!(
                "the kubeconfig names the proxy {proxy}, which Flatnet does not use"
            )));
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(PROBE));
        tcp.set_keepalive_interval(Some(PROBE_AGAIN));
        tcp.set_keepalive_retries(Some(PROBES));
        tcp.set_tcp_user_timeout(Some(UNANSWERED));
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_idle_timeout(PROBE)
            .build(access.rustls_https_connector_with_connector(tcp)?);
        let service = ServiceBuilder::new()
            .layer(access.base_uri_layer())
            .option_layer(access.auth_layer()?)
            .layer(access.extra_headers_layer()?)
            .map_err(BoxError::from)
            .service(http);
        Ok(Self { client: kube::Client::new(service, access.default_namespace) })
    }

    /// Hands all nodes to `take`, page by page, and answers as of which version.
    pub(super) async fn list(&self, mut take: impl FnMut(NodeObject)) -> Result<String, Fault> {
        let mut more = String::new();
        loop {
            let page = get(&format!("/api/v1/nodes?limit={PAGE}{more}"))?;
            let text =
                in_time(self.client.request_text(page)).await.map_err(|e| Fault::from(e).at("list nodes"))?;
            let page: NodeList = read(text.as_bytes()).map_err(|fault| fault.at("list nodes"))?;
            page.items.into_iter().for_each(&mut take);
            match page.metadata.r#continue.filter(|next| !next.is_empty()) {
                Some(next) => more = format!("&continue={}", escaped(&next)),
                None => return Ok(page.metadata.resource_version),
            }
        }
    }

    /// Follows everything that changes after `version`.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch, Fault> {
        let seconds = WATCH * (1.0 + random_fraction());
        let request = get(&format!(
            "/api/v1/nodes?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds:.0}&resourceVersion={}",
            escaped(version)
        ))?;
        let lines = in_time(self.client.request_stream(request)).await;
        let lines = lines.map_err(|e| Fault::from(e).at("watch nodes"))?;
        Ok(Watch { lines: Box::pin(lines), line: Vec::new(), heard: Instant::now() })
    }

    /// Merges `patch` into the status of the node called `name`, and into its annotations.
    pub(super) async fn patch(&self, name: &str, patch: &Value) -> Result<Answer, Fault> {
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(format!("/api/v1/nodes/{}/status?fieldManager=flatnetd", escaped(name)))
            .header("content-type", "application/strategic-merge-patch+json")
            .header("accept", "application/json")
            .body(patch.to_string().into_bytes())
            .map_err(|e| Fault::new(chain(&e)))?;
        match in_time(self.client.request_text(request)).await {
            Ok(text) => Ok(Answer::Done(Box::new(read(text.as_bytes()).map_err(|fault| fault.at("patch"))?))),
            Err(kube::Error::Api(status)) if status.code != 401 => {
                let text = Fault::answered(status.code, &status.message).to_string();
                Ok(Answer::Refused { code: status.code, text })
            }
            Err(error) => Err(Fault::from(error).at("patch nodes/status")),
        }
    }
}

impl Watch {
    /// The next line; `None` where the watch ended as a watch does, or has been quiet for too long. Cancel
    /// safe: what has come of a line stays, and so does the time since the one before.
    pub(super) async fn next(&mut self) -> Result<Option<WatchLine>, Fault> {
        let more = self.lines.read_until(b'\n', &mut self.line);
        let Ok(result) = tokio::time::timeout_at(self.heard + QUIET, more).await else { return Ok(None) };
        let fault = |text: &str| Fault::new(format!("watch nodes: {text}"));
        result.map_err(|e| fault(&chain(&e)))?;
        match self.line.last() {
            None => Ok(None),
            Some(b'\n') => {
                let line = read(&self.line).map_err(|fault| fault.at("watch nodes"));
                self.line.clear();
                self.heard = Instant::now();
                line.map(Some)
            }
            Some(_) => Err(fault("cut in the middle of a line")),
        }
    }
}

/// For a query or a path: what is not plain as `%XX` (RFC 3986).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::with_capacity(text.len()), |mut all, byte| {
        if plain(byte) {
            all.push(char::from(byte));
        } else {
            all.push_str(&format!("%{byte:02X}"));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::task::{Context, Poll};

    use futures_util::AsyncRead;

    use super::*;

    /// A connection on which nothing comes.
    struct Silence;

    impl AsyncRead for Silence {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncBufRead for Silence {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            Poll::Pending
        }

        fn consume(self: Pin<&mut Self>, _: usize) {}
    }

    /// The session stops listening whenever it has something else to do: silence lasts all the same.
    #[test]
    fn a_watch_that_is_quiet_ends_however_often_one_stops_listening() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let heard = Instant::now() - QUIET + Duration::from_millis(300);
            let mut watch = Watch { lines: Box::pin(Silence), line: Vec::new(), heard };
            let mut interrupted = 0;
            let ended = async {
                loop {
                    tokio::select! {
                        heard = watch.next() => break heard,
                        () = tokio::time::sleep(Duration::from_millis(20)) => interrupted += 1,
                    }
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
            assert!(matches!(ended, Ok(Ok(None))), "it goes on");
            assert!(interrupted > 0);
        });
    }

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(escaped("n1.example"), "n1.example");
        assert_eq!(escaped("a=b&c/é"), "a%3Db%26c%2F%C3%A9");
    }
}
