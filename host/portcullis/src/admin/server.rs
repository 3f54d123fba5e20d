//! Connections of the admin and health servers: one request each, little time, and the oldest goes when there are too
//! many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time;

use super::Report;
use super::pages::{Page, Site, answer};

/// From the first byte to the last.
const LIFETIME: Duration = Duration::from_secs(10);
/// Open at the same time, for each server. One more closes the oldest, so that clients that hold connections open
/// keep nobody out.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// How long to wait when the system gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever. Cancel safe: connections go on when it is dropped, until their runtime ends.
pub(super) async fn serve(listener: TcpListener, site: Site, report: Arc<dyn Report>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin server cannot listen"),
    };
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                time::sleep(PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(tokio::spawn(connection(stream, site, Arc::clone(&report))).abort_handle());
    }
}

async fn connection(stream: TcpStream, site: Site, report: Arc<dyn Report>) {
    let service = service_fn(|request| respond(request, site, Arc::clone(&report)));
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match time::timeout(LIFETIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin server failed"),
        Err(_) => tracing::debug!("a connection to the admin server took too long"),
    }
}

async fn respond(
    request: Request<Incoming>,
    site: Site,
    report: Arc<dyn Report>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    let page = tokio::task::spawn_blocking(move || {
        answer(site, &head.method, head.uri.path(), report.as_ref())
    });
    let page = page.await.unwrap_or_else(|_| Page {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        content_type: "text/plain; charset=utf-8",
        body: "the report failed\n".to_owned(),
    });
    let mut response = Response::new(Full::from(page.body));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
