//! `/metrics`, `/livez` and `/readyz` over HTTP.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::connections::{Connections, accept_failed};

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

/// Connections at a time. Beyond that the oldest makes room.
const PLACES: usize = 64;

/// Longest life of a connection: one request and its answer.
const LIFE: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

type Probes = mpsc::Sender<Probe>;

/// Serves until the runtime is gone.
pub async fn serve(listener: TcpListener, probes: Probes) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(probes.clone());
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    // A scrape has a connection of its own: none has to be kept for the next.
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    let mut connections = Connections::new(PLACES);
    loop {
        let accepted = tokio::select! {
            () = probes.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let conversation = timeout(LIFE, http.serve_connection(TokioIo::new(stream), service.clone()));
                connections.serve(async { drop(conversation.await) }).await;
            }
            Err(error) => accept_failed("`admin.metrics`", &error).await,
        }
    }
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
