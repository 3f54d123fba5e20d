//! The only place that builds responses of our own: for failures, for what guests want the client to get, and for
//! redirects. Each failure has a stable code, a source and an answer to whether a retry is safe. It never decides when
//! to answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use portcullis_vm::{Fields, LocalReply};

use crate::body::Body;
use crate::facts::Flags;
use crate::message::Response;

/// Carries [`Failure::code`] in every response that reports a failure.
pub const CODE_HEADER: HeaderName = HeaderName::from_static("x-portcullis-code");

const GRPC: &str = "application/grpc";
const TEXT: &str = "text/plain";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC over HTTP/2, "Percent-Encoded": everything but printable ASCII, and the percent sign.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// In what form a client expects to hear of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A status and a text.
    Http,
    /// Status 200 and a `grpc-status`, without a body.
    Grpc,
}

impl Dialect {
    /// By the request's content type: `application/grpc`, alone or followed by `+` or `;`.
    pub fn of(request: &Fields) -> Dialect {
        let rest = request.get(CONTENT_TYPE).and_then(|value| value.strip_prefix(GRPC.as_bytes()));
        match rest {
            Some([] | [b'+' | b';', ..]) => Dialect::Grpc,
            _ => Dialect::Http,
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client.
    Downstream,
    /// The backend.
    Upstream,
    /// A Wasm filter.
    Filter,
    /// Our configuration.
    Us,
}

impl Source {
    /// Label value for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Downstream => "downstream",
            Source::Upstream => "upstream",
            Source::Filter => "filter",
            Source::Us => "us",
        }
    }
}

/// Why an exchange gets an answer of ours instead of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No rule of the listener matches.
    NoRoute,
    /// The rule cannot work, or the reference to a backend that was picked is invalid. The reason.
    BrokenRule(String),
    /// The backend has no endpoint, or the names of its endpoints have no address. The reason.
    NoEndpoint(String),
    /// No connection to the endpoint. The reason.
    Connect(String),
    /// The connection broke before the head of a response. The reason.
    Reset(String),
    /// The upstream's answer is no HTTP. The reason.
    Protocol(String),
    /// `timeouts.backendRequest` is over.
    AttemptTimeout,
    /// `timeouts.request` is over.
    RequestTimeout,
    /// A filter trapped or is suspended, and its `failStrategy` closes.
    Filter,
    /// A filter holds the request's body, and it exceeds `limits.body`.
    RequestTooLarge,
    /// A filter holds the response's body, and it exceeds `limits.body`.
    ResponseTooLarge,
    /// The request breaks the protocol. The reason.
    BadRequest(String),
    /// The request's head did not arrive in time.
    HeaderTimeout,
    /// The request's head is too large.
    HeadersTooLarge,
    /// The request's target is longer than any recipient takes.
    TargetTooLong,
}

struct Row {
    code: &'static str,
    status: StatusCode,
    source: Source,
    flags: Flags,
    details: &'static str,
    cause: &'static str,
}

const fn row(
    code: &'static str,
    status: StatusCode,
    source: Source,
    flags: Flags,
    details: &'static str,
    cause: &'static str,
) -> Row {
    Row { code, status, source, flags, details, cause }
}

impl Failure {
    /// Details are those of Envoy's `%RESPONSE_CODE_DETAILS%` where it has the case.
    #[rustfmt::skip]
    fn row(&self) -> Row {
        use Source::{Downstream, Upstream, Us};
        match self {
            Failure::NoRoute => row("P0701", StatusCode::NOT_FOUND, Us, Flags::NO_ROUTE,
                "route_not_found", "no route matches the host and path of the request"),
            Failure::BrokenRule(_) => row("P0702", StatusCode::INTERNAL_SERVER_ERROR, Us, Flags::NO_CLUSTER,
                "cluster_not_found", "the route that matches cannot serve the request"),
            Failure::NoEndpoint(_) => row("P0703", StatusCode::SERVICE_UNAVAILABLE, Upstream, Flags::NO_HEALTHY_UPSTREAM,
                "no_healthy_upstream", "the backend has no endpoint to send the request to"),
            Failure::Connect(_) => row("P0704", StatusCode::SERVICE_UNAVAILABLE, Upstream, Flags::UPSTREAM_CONNECTION_FAILURE,
                "upstream_reset_before_response_started{connection_failure}", "no connection to the backend"),
            Failure::Reset(_) => row("P0705", StatusCode::SERVICE_UNAVAILABLE, Upstream, Flags::UPSTREAM_CONNECTION_TERMINATION,
                "upstream_reset_before_response_started{connection_termination}",
                "the backend closed the connection before it answered"),
            Failure::AttemptTimeout => row("P0706", StatusCode::GATEWAY_TIMEOUT, Upstream, Flags::UPSTREAM_TIMEOUT,
                "upstream_per_try_timeout", "the backend did not answer in time"),
            Failure::RequestTimeout => row("P0706", StatusCode::GATEWAY_TIMEOUT, Upstream, Flags::UPSTREAM_TIMEOUT,
                "response_timeout", "the request was not answered in time"),
            Failure::Filter => row("P0707", StatusCode::SERVICE_UNAVAILABLE, Source::Filter, Flags::none(),
                "wasm_fail_stream", "a filter failed"),
            Failure::RequestTooLarge => row("P0708", StatusCode::PAYLOAD_TOO_LARGE, Downstream, Flags::none(),
                "request_payload_too_large", "the request's body is larger than a filter may hold"),
            Failure::ResponseTooLarge => row("P0709", StatusCode::INTERNAL_SERVER_ERROR, Upstream, Flags::none(),
                "response_payload_too_large", "the response's body is larger than a filter may hold"),
            Failure::BadRequest(_) => row("P0710", StatusCode::BAD_REQUEST, Downstream, Flags::DOWNSTREAM_PROTOCOL_ERROR,
                "http.codec_error", "the request is malformed"),
            Failure::HeaderTimeout => row("P0711", StatusCode::REQUEST_TIMEOUT, Downstream, Flags::DOWNSTREAM_PROTOCOL_ERROR,
                "request_header_timeout", "the request's head did not arrive in time"),
            Failure::HeadersTooLarge => row("P0712", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Downstream,
                Flags::DOWNSTREAM_PROTOCOL_ERROR, "http.headers_too_large", "the request's head is too large"),
            Failure::TargetTooLong => row("P0712", StatusCode::URI_TOO_LONG, Downstream,
                Flags::DOWNSTREAM_PROTOCOL_ERROR, "http.uri_too_long", "the request's target is too long"),
            Failure::Protocol(_) => row("P0713", StatusCode::BAD_GATEWAY, Upstream, Flags::UPSTREAM_PROTOCOL_ERROR,
                "upstream_reset_before_response_started{protocol_error}", "the backend's answer is not valid HTTP"),
        }
    }

    /// The stable code that `portcullis explain` knows.
    pub fn code(&self) -> &'static str {
        self.row().code
    }

    /// Status of the answer.
    pub fn status(&self) -> StatusCode {
        self.row().status
    }

    /// Whose fault it is.
    pub fn source(&self) -> Source {
        self.row().source
    }

    /// For the access log.
    pub fn flags(&self) -> Flags {
        self.row().flags
    }

    /// Envoy's `response_code_details`; no white space.
    pub fn details(&self) -> &'static str {
        self.row().details
    }

    /// Whether nothing of the request can have been processed, so that even a request with side effects may be sent
    /// again.
    pub fn retry_safe(&self) -> bool {
        matches!(self, Failure::NoEndpoint(_) | Failure::Connect(_))
    }

    /// What happened, in plain words; the reason is for logs, not for clients.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Failure::BrokenRule(reason)
            | Failure::NoEndpoint(reason)
            | Failure::Connect(reason)
            | Failure::Reset(reason)
            | Failure::Protocol(reason)
            | Failure::BadRequest(reason) => Cow::Borrowed(reason),
            _ => Cow::Borrowed(self.row().cause),
        }
    }

    fn grpc_status(&self) -> u8 {
        match self {
            Failure::AttemptTimeout | Failure::RequestTimeout => 4,
            Failure::BrokenRule(_) => 14,
            _ => grpc_status_of(self.status()),
        }
    }
}

/// The answer to a failure: a line of text with code and cause, or the gRPC form of it. The reason stays with us, since
/// it may name internal addresses.
pub fn respond(failure: &Failure, dialect: Dialect) -> Response<Body> {
    let row = failure.row();
    let mut response = match dialect {
        Dialect::Http => {
            let text = Bytes::from(format!("{} {}\n", row.code, row.cause));
            let mut response = Response::new(row.status, Body::Full(text.clone()));
            response.set(CONTENT_TYPE, TEXT);
            response.set(CONTENT_LENGTH, text.len().to_string());
            response
        }
        Dialect::Grpc => {
            let message = format!("{} {}", row.code, row.cause);
            trailers_only(failure.grpc_status(), message.as_bytes())
        }
    };
    response.set(CODE_HEADER, row.code);
    response
}

/// The response that a guest wants the client to get. Its headers come after ours; those that frame the message are
/// ours alone. A status that cannot end an exchange (1xx) becomes 500.
pub fn local(reply: LocalReply, dialect: Dialect) -> Response<Body> {
    let status = match reply.status {
        status if status.is_informational() => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    let mut response = match dialect {
        Dialect::Grpc => {
            let code = reply.grpc_status.unwrap_or_else(|| grpc_status_of(status));
            trailers_only(code, &reply.body)
        }
        Dialect::Http => plain(status, reply.body, reply.headers.contains(CONTENT_TYPE)),
    };
    let fixed: &[HeaderName] = match dialect {
        Dialect::Http => &[],
        Dialect::Grpc => &[CONTENT_TYPE, GRPC_STATUS, GRPC_MESSAGE],
    };
    for (name, value) in reply.headers.iter() {
        if !frames(name) && !fixed.iter().any(|fixed| fixed.as_str().as_bytes() == name) {
            // A head that is full drops what the guest adds; ours are in already.
            let _full = response.head.headers.append(name, value);
        }
    }
    response
}

/// A redirect; a location that no header can hold (control characters) is a bad request.
pub fn redirect(status: StatusCode, location: &[u8]) -> Response<Body> {
    let mut response = Response::new(status, Body::Empty);
    if response.head.headers.insert(LOCATION, location).is_err() {
        let reason = "the location to redirect to has control characters".to_owned();
        return respond(&Failure::BadRequest(reason), Dialect::Http);
    }
    response.set(CONTENT_LENGTH, "0");
    response
}

/// Envoy's `httpToGrpcStatus`, after the gRPC project's `http-grpc-status-mapping.md`.
pub fn grpc_status_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn plain(status: StatusCode, body: Bytes, typed: bool) -> Response<Body> {
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = body.len();
    let body = if bodiless { Body::Empty } else { Body::from(body) };
    let mut response = Response::new(status, body);
    if bodiless {
        return response;
    }
    response.set(CONTENT_LENGTH, length.to_string());
    if length > 0 && !typed {
        response.set(CONTENT_TYPE, TEXT);
    }
    response
}

fn trailers_only(status: u8, message: &[u8]) -> Response<Body> {
    let mut response = Response::new(StatusCode::OK, Body::Empty);
    response.set(CONTENT_TYPE, GRPC);
    response.set(GRPC_STATUS, status.to_string());
    let message = percent_encode(message, MESSAGE).to_string();
    if !message.is_empty() {
        response.set(GRPC_MESSAGE, message);
    }
    response
}

/// Whether a header frames the message or belongs to one connection, so that no guest may set it.
fn frames(name: &[u8]) -> bool {
    const NAMES: [&str; 7] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.iter().any(|framing| framing.as_bytes() == name)
}
