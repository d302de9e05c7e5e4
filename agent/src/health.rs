//! `/healthz`, `/readyz` and `/metrics`. Only answers; decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// A loop that has not come round for so long is stuck: four of its beats.
const STUCK: Duration = Duration::from_secs(20);
/// How long to wait for an address or port that is not to be had.
const RETRY: Duration = Duration::from_secs(5);

/// What the loop says each time it comes round.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    pub(crate) beat: Instant,
    /// Why the node is not ready; `None` where it is.
    pub(crate) not_ready: Option<String>,
}

impl Pulse {
    /// Before the first turn.
    pub(crate) fn starting() -> Self {
        Self { beat: Instant::now(), not_ready: Some("starting".to_owned()) }
    }
}

#[derive(Debug, Clone)]
struct Served {
    pulse: watch::Receiver<Pulse>,
    metrics: Arc<Metrics>,
}

/// Serves until told to stop. Pods do not depend on this: an address that is not to be had is logged and
/// tried again.
///
/// # Errors
/// Serving ended by itself.
pub(crate) async fn serve(
    listen: SocketAddr,
    pulse: watch::Receiver<Pulse>,
    metrics: Arc<Metrics>,
    mut stop: Shutdown,
) -> std::io::Result<()> {
    let mut said = false;
    let listener = loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => break listener,
            Err(error) if !said => {
                said = true;
                tracing::warn!(%listen, %error, "metrics and health are not served; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            // Cancel safe: a timer.
            () = tokio::time::sleep(RETRY) => {}
            // Cancel safe: a flag.
            () = stop.requested() => return Ok(()),
        }
    };
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Served { pulse, metrics });
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.requested().await }).await
}

async fn healthz(State(served): State<Served>) -> impl IntoResponse {
    let silent = served.pulse.borrow().beat.elapsed();
    if silent < STUCK {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the loop is stuck for {} s\n", silent.as_secs()))
    }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    let pulse = served.pulse.borrow();
    let silent = pulse.beat.elapsed();
    if silent >= STUCK {
        // What it said last need not be so any more.
        let why = format!("not ready: the loop is stuck for {} s\n", silent.as_secs());
        return (StatusCode::SERVICE_UNAVAILABLE, why);
    }
    match &pulse.not_ready {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn text(State(served): State<Served>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.text())
}
