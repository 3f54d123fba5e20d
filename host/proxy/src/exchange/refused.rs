//! Requests that are refused before any filter sees them: answered, counted and logged like every other.

use std::time::{Duration, SystemTime};

use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Response, Uri, Version};

use super::{Client, protocol, without_connection_fields};
use crate::body::Body;
use crate::facts::{self, Record, Text};
use crate::generation::{Generation, Outcome};
use crate::reply::{self, Dialect, Failure};

/// What the request looked like.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    dialect: Dialect,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Asked {
    /// Before it is judged.
    pub fn of(parts: &Parts) -> Asked {
        Asked {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            dialect: Dialect::of(&parts.headers),
            host: parts.headers.get(HOST).cloned(),
            user_agent: parts.headers.get(USER_AGENT).cloned(),
        }
    }

    /// The answer to `failure`, after which the connection ends.
    pub fn refuse(
        self,
        generation: &Generation,
        client: &Client,
        failure: &Failure,
    ) -> Response<Body> {
        tracing::debug!(peer = %client.connection.peer, "request refused: {}", failure.reason());
        let mut response = reply::respond(failure, self.dialect);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if self.method == Method::HEAD {
            *response.body_mut() = Body::Empty;
        }
        let outcome = Outcome {
            rule: None,
            backend: None,
            status: Some(response.status()),
            flags: failure.flags(),
            duration: Duration::ZERO,
        };
        generation.meters.refused(client.listener, failure.status().as_str());
        generation.meters.begun(client.listener);
        generation.meters.ended(client.listener, &outcome);
        let version = self.version;
        if let Some(log) = &generation.access_log {
            log.log(self.record(generation, client, failure, &response));
        }
        without_connection_fields(response, version)
    }

    fn record(
        self,
        generation: &Generation,
        client: &Client,
        failure: &Failure,
        response: &Response<Body>,
    ) -> Record {
        let text = |value: &HeaderValue| Text::of(value.as_bytes());
        let authority = self.uri.authority().map(|authority| Text::from(authority.as_str()));
        let tls = client.connection.tls.as_ref();
        Record {
            started: SystemTime::now(),
            duration: Duration::ZERO,
            upstream_duration: None,
            generation: generation.snapshot.generation,
            listener: generation.listener_name(client.listener),
            route: None,
            backend: None,
            upstream_peer: None,
            upstream_local: None,
            upstream_failure: None,
            attempts: 0,
            peer: client.connection.peer,
            local: client.connection.local,
            client: client.connection.peer,
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).map(Text::from),
            mutual_tls: tls.is_some_and(|tls| tls.mutual),
            request: Some(facts::Request {
                protocol: protocol(self.version),
                scheme: if tls.is_some() { "https" } else { "http" },
                method: self.method,
                authority: authority.or(self.host.as_ref().map(text)).unwrap_or_default(),
                path: Text::from(self.uri.path_and_query().map_or("", |path| path.as_str())),
            }),
            user_agent: self.user_agent.as_ref().map(text),
            forwarded_for: None,
            request_id: None,
            request_bytes: 0,
            status: Some(response.status()),
            grpc_status: None,
            response_bytes: 0,
            flags: failure.flags(),
            details: Some(Text::from(failure.details())),
            code: Some(failure.code()),
            filters: Vec::new(),
            stored: Vec::new(),
        }
    }
}
