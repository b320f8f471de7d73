//! `/metrics`, `/livez` and `/readyz` over HTTP.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

/// What the runtime is asked for.
#[derive(Debug)]
pub enum Probe {
    /// The text of a scrape.
    Scrape(oneshot::Sender<String>),
    /// Why the controller is not ready; nothing when it is.
    Ready(oneshot::Sender<Vec<String>>),
    /// A sign of life.
    Live(oneshot::Sender<()>),
}

/// A loop that does not answer within this time is not alive.
const PATIENCE: Duration = Duration::from_secs(2);

type Probes = mpsc::Sender<Probe>;

/// Serves until the process ends.
///
/// # Errors
/// What the listener said.
pub async fn serve(listener: TcpListener, probes: Probes) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(probes);
    axum::serve(listener, router).await
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match ask(&probes, Probe::Scrape).await {
        Some(text) => (StatusCode::OK, content_type, text).into_response(),
        None => silent().into_response(),
    }
}

async fn live(State(probes): State<Probes>) -> impl IntoResponse {
    match ask(&probes, Probe::Live).await {
        Some(()) => (StatusCode::OK, "ok\n").into_response(),
        None => silent().into_response(),
    }
}

async fn ready(State(probes): State<Probes>) -> impl IntoResponse {
    match ask(&probes, Probe::Ready).await {
        Some(reasons) if reasons.is_empty() => (StatusCode::OK, "ok\n").into_response(),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response(),
        None => silent().into_response(),
    }
}

const fn silent() -> (StatusCode, &'static str) {
    (StatusCode::SERVICE_UNAVAILABLE, "the controller's loop does not answer\n")
}

async fn ask<T>(probes: &Probes, probe: impl FnOnce(oneshot::Sender<T>) -> Probe) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let conversation = async {
        probes.send(probe(answer)).await.ok()?;
        answered.await.ok()
    };
    timeout(PATIENCE, conversation).await.ok().flatten()
}
