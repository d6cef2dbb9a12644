//! What a scheduler or an executor says over HTTP, on the port that it has: `/metrics` as Prometheus reads them, and, of a scheduler,
//! Ballista's status API (`/api/executors`, `/api/jobs`, `/api/job/ID/stages`, …).
//!
//! Pages are read only. With a token they are for whoever has it (`Authorization: Bearer …`); without one they are for this
//! machine's programs, and not for a page of a browser that calls it by another name.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use tonic::Status;
use tonic::service::{InterceptorLayer, Routes};

use super::security::Guard;

/// What Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as Prometheus reads them.
#[derive(Debug, Default)]
pub(super) struct Metrics(String);

impl Metrics {
    /// One that only grows; its name ends in `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.add(name, "counter", help, values);
    }

    /// One that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.add(name, "gauge", help, values);
    }

    /// `labels` is empty, or `name="value"`.
    fn add(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// Bytes of the process, where the system says.
    pub(super) fn process(&mut self) {
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let resident = pages.and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok());
        if let Some(resident) = resident {
            self.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", &[("", 4096 * resident)]);
        }
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

/// Gathers the text of `/metrics`.
pub(super) type Gathers = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

/// Everything that listens on one port: what programs of the cluster say to each other, and pages. `more` has others than
/// `/metrics`, and `about` says which there are.
pub(super) fn routes(grpc: Routes, guard: Guard, metrics: Gathers, more: Router, about: &'static str) -> Routes {
    let own = Router::new()
        .route("/", get(move || async move { text(about.into()) }))
        .route("/metrics", get(move || async move { text(metrics().await) }));
    let guards = guard.clone();
    let pages = own.merge(more).layer(from_fn(move |request: Request, next: Next| {
        let refused = refusal(&guards, request.method(), request.headers());
        async move {
            match refused {
                Some((status, reason)) => (status, format!("{reason}\n")).into_response(),
                None => next.run(request).await,
            }
        }
    }));
    let grpc = grpc.into_axum_router().layer(InterceptorLayer::new(guard));
    Routes::from(grpc.merge(pages).fallback(async |headers: HeaderMap| {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match kind.starts_with("application/grpc") {
            true => Status::unimplemented("").into_http::<Body>(),
            false => (StatusCode::NOT_FOUND, "no such page: / says which there are\n").into_response(),
        }
    }))
}

fn text(text: String) -> Response {
    ([(CONTENT_TYPE, TEXT)], text).into_response()
}

/// Why a page is not shown; `None`: it is.
fn refusal(guard: &Guard, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let said = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method != Method::GET && method != Method::HEAD {
        return Some((
            StatusCode::METHOD_NOT_ALLOWED,
            "pages are only read: Ctrl-C where a query was asked cancels it",
        ));
    }
    if guard.has_token() {
        let token = said(AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
        let reason = "the token of the cluster is wanted: Authorization: Bearer …";
        return (!guard.is_token(token)).then_some((StatusCode::UNAUTHORIZED, reason));
    }
    // HTTP/2 has the name elsewhere, and browsers speak it with TLS alone
    let host = said(HOST);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_own = ["", "localhost", "127.0.0.1", "[::1]"].contains(&name) || name.starts_with("127.");
    (!is_own).then_some((StatusCode::FORBIDDEN, "without a token pages are for this machine, by the name of localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_lines_that_prometheus_reads() {
        let mut metrics = Metrics::default();
        metrics.counter("a_total", "All.", &[("result=\"done\"", 3), ("result=\"failed\"", 0)]);
        metrics.gauge("b", "Now.", &[("", 7)]);
        assert_eq!(
            metrics.text(),
            "# HELP a_total All.\n# TYPE a_total counter\na_total{result=\"done\"} 3\na_total{result=\"failed\"} 0\n\
             # HELP b Now.\n# TYPE b gauge\nb 7\n"
        );
    }

    #[test]
    fn a_page_of_a_browser_by_another_name_is_refused() {
        let asked = |host: &'static str, method| {
            let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
            refusal(&Guard::default(), &method, &headers).map(|(status, _)| status)
        };
        assert_eq!(asked("localhost:50050", Method::GET), None);
        assert_eq!(asked("127.0.0.1:50050", Method::GET), None);
        assert_eq!(asked("evil.example:50050", Method::GET), Some(StatusCode::FORBIDDEN));
        assert_eq!(asked("localhost:50050", Method::PATCH), Some(StatusCode::METHOD_NOT_ALLOWED));
    }
}
