//! Requests that are refused before any filter sees them: answered, counted and logged like every other.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Method, Version};

use super::{Client, protocol, without_connection_fields};
use crate::body::Body;
use crate::facts::{self, Record, Text};
use crate::generation::{Generation, Outcome};
use crate::message::{Request, Response};
use crate::reply::{self, Dialect, Failure};

/// What the request looked like.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    authority: Option<Text>,
    path: Bytes,
    version: Version,
    dialect: Dialect,
    user_agent: Option<Text>,
}

impl Asked {
    /// Before it is judged.
    pub fn of(request: &Request) -> Asked {
        let Request { head, version } = request;
        let authority = match &head.authority[..] {
            [] => head.headers.get(HOST),
            authority => Some(authority),
        };
        Asked {
            method: head.method.clone(),
            authority: authority.map(Text::of),
            path: head.path.clone(),
            version: *version,
            dialect: Dialect::of(&head.headers),
            user_agent: head.headers.get(USER_AGENT).map(Text::of),
        }
    }

    /// The answer to `failure`, after which the connection ends.
    pub fn refuse(
        self,
        generation: &Generation,
        client: &Client<'_>,
        failure: &Failure,
    ) -> Response<Body> {
        tracing::debug!(peer = %client.connection.peer, "request refused: {}", failure.reason());
        let mut response = reply::respond(failure, self.dialect);
        response.set(CONNECTION, "close");
        if self.method == Method::HEAD {
            response.body = Body::Empty;
        }
        let outcome = Outcome {
            rule: None,
            backend: None,
            status: Some(response.head.status),
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
        client: &Client<'_>,
        failure: &Failure,
        response: &Response<Body>,
    ) -> Record {
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
                authority: self.authority.unwrap_or_default(),
                path: Text::of(&self.path),
            }),
            user_agent: self.user_agent,
            forwarded_for: None,
            request_id: None,
            request_bytes: 0,
            status: Some(response.head.status),
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
