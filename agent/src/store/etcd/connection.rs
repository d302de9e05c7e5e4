//! The requests that are made of etcd. The only module that knows its client.

use std::time::{Duration, Instant};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, Identity, KeyValue,
    PutOptions, TlsOptions, Txn, TxnOp, WatchClient, WatchOptions, WatchStream,
};

use super::fault::Fault;
use super::mirror::{Claim, Mirror, SUBNETS, Seen};
use crate::config::{EtcdConfig, Tls};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a quiet connection is tried, and how long that may take; etcd refuses more than one try in
/// five seconds.
const PROBE: Duration = Duration::from_secs(6);
const PROBE_PATIENCE: Duration = Duration::from_secs(4);
/// Keys per page: with room to spare below the 4 MiB that a message may have.
const PAGE: i64 = 2_000;
/// Room for one message of a watch. Nobody can ask for less than what one moment brought, and a cluster
/// that renews all its keys at once is some megabytes.
const WATCHED: usize = 256 << 20;

/// A connection to one endpoint.
pub(super) struct Connection {
    client: Client,
    watching: WatchClient,
    prefix: String,
}

/// Ends with the time that an answer may take.
async fn in_time<T>(
    what: &str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(result) => result.map_err(|e| Fault::from(e).at(what)),
        Err(_) => Err(Fault::new(format!("{what}: no answer within {} s", PATIENCE.as_secs()))),
    }
}

impl Connection {
    /// Connects, and signs in where that is asked for.
    pub(super) async fn open(config: &EtcdConfig, endpoint: &str) -> Result<Self, Fault> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(PROBE, PROBE_PATIENCE)
            .with_keep_alive_while_idle(false)
            // A member that lost sight of the others would serve old news.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(tls) = config.tls.as_ref().filter(|_| endpoint.starts_with("https://")) {
            options = options.with_tls(tls_options(tls).map_err(Fault::new)?);
        }
        if let Some((name, secret)) = &config.user {
            options = options.with_user(name, secret.read().map_err(Fault::new)?);
        }
        let client = in_time(endpoint, Client::connect([endpoint], Some(options))).await?;
        let watching = client.watch_client().max_decoding_message_size(WATCHED);
        Ok(Self { client, watching, prefix: format!("{}/", config.prefix) })
    }

    /// Reads everything, page by page, as of one revision.
    pub(super) async fn list(&mut self) -> Result<Mirror, Fault> {
        let first = self.prefix.clone().into_bytes();
        let mut end = first.clone();
        // The prefix ends in a slash; what follows all its keys begins with the character after that.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let (mut from, mut mirror) = (first, None::<Mirror>);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if let Some(mirror) = &mirror {
                options = options.with_revision(mirror.revision);
            }
            let page = in_time("list", self.client.get(from.clone(), Some(options))).await?;
            let known = match (&mut mirror, page.header()) {
                (Some(known), _) => known,
                (none, Some(header)) => none.insert(Mirror::new(header.cluster_id(), header.revision())),
                (None, None) => return Err(Fault::new("list: etcd answered without a revision")),
            };
            for pair in page.kvs() {
                if let Some(seen) = self.seen(pair) {
                    known.put(&seen);
                }
            }
            match page.kvs().last() {
                Some(last) if page.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => break,
            }
        }
        mirror.ok_or_else(|| Fault::new("list: etcd answered nothing"))
    }

    /// Follows everything that changes after what `mirror` knows.
    pub(super) async fn watch(&mut self, mirror: &Mirror) -> Result<WatchStream, Fault> {
        let options = WatchOptions::new().with_prefix().with_start_revision(mirror.revision + 1);
        in_time("watch", self.watching.watch(self.prefix.as_str(), Some(options))).await
    }

    /// Waits for the next message of a watch and puts it into `mirror`; says whether anything changed.
    pub(super) async fn next(&self, stream: &mut WatchStream, mirror: &mut Mirror) -> Result<bool, Fault> {
        let message = stream.message().await.map_err(|e| Fault::from(e).at("watch"))?;
        let message = message.ok_or_else(|| Fault::new("watch: etcd ended it"))?;
        if message.canceled() {
            return Err(match (message.compact_revision(), message.cancel_reason()) {
                (0, "") => Fault::new("watch: etcd ended it"),
                (0, reason) => Fault::new(format!("watch: {reason}")),
                (compacted, _) => Fault::stale(format!("watch: etcd forgot what was before {compacted}")),
            });
        }
        if let Some(header) = message.header() {
            if header.cluster_id() != mirror.cluster
                || message.created() && header.revision() < mirror.revision
            {
                return Err(Fault::stale("watch: etcd is not the one it was"));
            }
            mirror.revision = mirror.revision.max(header.revision());
        }
        for event in message.events() {
            let Some(pair) = event.kv() else { continue };
            match (event.event_type(), self.seen(pair)) {
                (EventType::Put, Some(seen)) => mirror.put(&seen),
                (EventType::Delete, Some(seen)) => mirror.delete(seen.key, Instant::now()),
                (_, None) => {}
            }
        }
        Ok(!message.events().is_empty())
    }

    /// A key below the prefix; one that is no text is nobody's.
    fn seen<'a>(&self, pair: &'a KeyValue) -> Option<Seen<'a>> {
        Some(Seen {
            key: std::str::from_utf8(pair.key()).ok()?.strip_prefix(&self.prefix)?,
            value: pair.value(),
            created: pair.create_revision(),
            modified: pair.mod_revision(),
            lease: pair.lease(),
        })
    }

    fn subnet(&self, name: &str) -> String {
        format!("{}{SUBNETS}{name}", self.prefix)
    }

    /// Claims a key that nobody has, with a lease of `ttl`. The revision of the claim; `None` where somebody
    /// was faster.
    pub(super) async fn claim(
        &mut self,
        name: &str,
        value: &str,
        ttl: Duration,
    ) -> Result<Option<i64>, Fault> {
        let key = self.subnet(name);
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let lease = in_time("grant a lease", self.client.lease_grant(seconds, None)).await?.id();
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(lease)));
        let free = Compare::version(key.as_str(), CompareOp::Equal, 0);
        let done = in_time("claim", self.client.txn(Txn::new().when([free]).and_then([put]))).await?;
        if done.succeeded() {
            return Ok(Some(done.header().map_or(0, etcd_client::ResponseHeader::revision)));
        }
        // Nothing hangs on it; where this fails it ends by itself.
        let _ = in_time("revoke a lease", self.client.lease_revoke(lease)).await;
        Ok(None)
    }

    /// Gives a key of ours another value, under the lease it has. The revision; `None` where the key changed
    /// meanwhile.
    pub(super) async fn rewrite(
        &mut self,
        name: &str,
        value: &str,
        claim: Claim,
    ) -> Result<Option<i64>, Fault> {
        let key = self.subnet(name);
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_ignore_lease()));
        self.change("publish", &key, claim, put).await
    }

    /// Gives a key of ours back. The revision; `None` where the key changed meanwhile.
    pub(super) async fn release(&mut self, name: &str, claim: Claim) -> Result<Option<i64>, Fault> {
        let key = self.subnet(name);
        let delete = TxnOp::delete(key.as_str(), None);
        self.change("give a subnet back", &key, claim, delete).await
    }

    async fn change(&mut self, what: &str, key: &str, claim: Claim, op: TxnOp) -> Result<Option<i64>, Fault> {
        let same = Compare::mod_revision(key, CompareOp::Equal, claim.modified);
        let done = in_time(what, self.client.txn(Txn::new().when([same]).and_then([op]))).await?;
        let revision = done.header().map_or(0, etcd_client::ResponseHeader::revision);
        Ok(done.succeeded().then_some(revision))
    }

    /// Lets a lease begin anew. How long it lives; `None` where it is gone.
    pub(super) async fn keep_alive(&mut self, lease: i64) -> Result<Option<Duration>, Fault> {
        let renew = async {
            let (mut keeper, mut answers) = self.client.lease_keep_alive(lease).await?;
            // The first answer is only looked at by the client; the second says how long.
            keeper.keep_alive().await?;
            answers.message().await
        };
        match tokio::time::timeout(PATIENCE, renew).await {
            Ok(Ok(answer)) => {
                let seconds = answer.map_or(0, |answer| answer.ttl());
                Ok(u64::try_from(seconds).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs))
            }
            Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => Ok(None),
            Ok(Err(e)) => Err(Fault::from(e).at("renew the lease")),
            Err(_) => Err(Fault::new(format!("renew the lease: no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

fn tls_options(tls: &Tls) -> Result<TlsOptions, String> {
    let read = |path: &std::path::Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca)?));
    match &tls.identity {
        None => Ok(options),
        Some((cert, key)) => Ok(options.identity(Identity::from_pem(read(cert)?, read(key)?))),
    }
}
