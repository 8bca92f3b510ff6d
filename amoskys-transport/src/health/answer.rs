use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::state::Health;

/// Makes the text of the metrics.
pub(super) type Render = Arc<dyn Fn() -> String + Send + Sync>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The text format that Prometheus reads.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers one request. The body of the request is not read.
pub(super) async fn answer(
    request: Request<Incoming>,
    health: Health,
    metrics: Option<Render>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match (request.uri().path(), metrics) {
        ("/livez", _) => respond(StatusCode::OK, TEXT, "ok\n"),
        ("/readyz", _) => ready(&health),
        ("/metrics", Some(render)) => {
            // It may take a while, and is the embedder's: neither may keep others waiting or end the server.
            match tokio::task::spawn_blocking(move || render()).await {
                Ok(text) => respond(StatusCode::OK, METRICS, text),
                Err(error) => {
                    tracing::warn!(%error, "the metrics could not be rendered");
                    let text = "the metrics could not be rendered\n";
                    respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
                }
            }
        }
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /livez, /readyz and perhaps /metrics\n",
        ),
    }
}

fn ready(health: &Health) -> Response<Full<Bytes>> {
    let failing = health.failing();
    let status = match failing.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = serde_json::json!({ "ready": failing.is_empty(), "failing": failing });
    respond(status, JSON, format!("{body}\n"))
}

fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
