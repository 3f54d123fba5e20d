//! What is remembered of an exchange while it lives, and the line that the access log and the counters get of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, USER_AGENT};
use http::{Response, StatusCode};
use portcullis_vm::{ConnectionAttributes, RequestHead, TlsAttributes};

use super::Exchange;
use crate::facts::{Flags, Record, Verdict};
use crate::generation::Generation;
use crate::reply::Failure;
use crate::snapshot::{Backend, ListenerIndex, Rule};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What is remembered of an exchange while it lives.
#[derive(Debug)]
pub struct Facts {
    /// What went wrong.
    pub flags: Flags,
    /// Envoy's `response_code_details`.
    pub details: Cow<'static, str>,
    /// Our code, if the response is ours.
    pub code: Option<&'static str>,
    /// The rule that serves it.
    pub rule: Option<Arc<Rule>>,
    /// The backend of the last attempt.
    pub backend: Option<Arc<Backend>>,
    /// The connection of the last attempt.
    pub upstream: Option<Arc<ConnectionAttributes>>,
    /// Attempts that were begun.
    pub attempts: u32,
    /// To the head of the upstream's response.
    pub upstream_latency: Option<Duration>,
    /// Of the response.
    pub status: Option<StatusCode>,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// The response reached its end.
    pub completed: bool,
    /// The response was broken off by us or by the upstream.
    pub cut: bool,
    request_bytes: u64,
    grpc_status: Option<u16>,
    original: Option<Box<Original>>,
}

/// The request as the client sent it; kept only for the access log.
#[derive(Debug)]
struct Original {
    method: String,
    authority: String,
    path: String,
    scheme: String,
    user_agent: Option<String>,
    forwarded_for: Option<String>,
}

impl Facts {
    /// At the start of an exchange, before anything has touched its head.
    pub fn of(head: &RequestHead, generation: &Generation, listener: ListenerIndex) -> Facts {
        generation.meters.begun(listener);
        Facts {
            flags: Flags::default(),
            details: Cow::Borrowed("via_upstream"),
            code: None,
            rule: None,
            backend: None,
            upstream: None,
            attempts: 0,
            upstream_latency: None,
            status: None,
            response_bytes: 0,
            completed: false,
            cut: false,
            request_bytes: 0,
            grpc_status: None,
            original: generation.access_log.is_some().then(|| Box::new(Original::of(head))),
        }
    }

    /// Counts bytes from the client; the sum.
    pub fn received(&mut self, bytes: usize) -> u64 {
        self.request_bytes += bytes as u64;
        self.request_bytes
    }

    /// The answer is ours.
    pub fn failed(&mut self, failure: &Failure) {
        self.flags |= failure.flags();
        self.details = Cow::Borrowed(failure.details());
        self.code = Some(failure.code());
    }

    /// The head of the response is on its way.
    pub fn responded<B>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        self.trailed(response.headers());
    }

    /// Trailers, or the head of a response that has only trailers.
    pub fn trailed(&mut self, map: &HeaderMap) {
        let status = map.get(&GRPC_STATUS).and_then(|value| value.to_str().ok());
        self.grpc_status = status.and_then(|status| status.parse().ok()).or(self.grpc_status);
    }
}

impl Original {
    fn of(head: &RequestHead) -> Original {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |name: &HeaderName| head.headers.get(name).map(|value| text(value.as_bytes()));
        Original {
            method: head.method.to_string(),
            authority: text(&head.authority),
            path: text(&head.path),
            scheme: text(&head.scheme),
            user_agent: header(&USER_AGENT),
            forwarded_for: header(&FORWARDED_FOR),
        }
    }
}

impl Exchange {
    /// Completes the attributes that guests see in their log phase.
    pub(super) fn seal_attributes(&self) {
        let mut facts = self.facts.borrow_mut();
        if !facts.completed && !facts.cut && facts.flags.is_empty() {
            facts.flags |= Flags::DC;
        }
        self.local.with(self.key, |stream| {
            let attributes = &mut stream.attributes;
            attributes.duration = Some(self.started.elapsed());
            attributes.response_bytes = facts.response_bytes;
            attributes.response_flags = facts.flags.bits();
            attributes.code_details = Some(facts.details.to_string());
            attributes.attempts = u64::from(facts.attempts);
        });
    }

    /// Counts the exchange and leaves its line for the access log.
    pub(super) fn record(&self) {
        let mut facts = self.facts.borrow_mut();
        let duration = self.started.elapsed();
        self.generation.meters.ended(self.listener, &facts, duration);
        let (Some(log), Some(original)) = (&self.generation.access_log, facts.original.take()) else { return };
        let facts = &*facts;
        let known = self.local.with(self.key, |stream| {
            let id = stream.request.headers.get(&REQUEST_ID).map(|id| String::from_utf8_lossy(id.as_bytes()).into());
            (id.unwrap_or_default(), stream.attributes.clone())
        });
        let Some((request_id, attributes)) = known else { return };
        let tls = attributes.connection.tls.as_ref();
        let verdict = |(filter, outcome): (Arc<str>, String)| Verdict { filter, outcome: outcome.into() };
        log.log(Record {
            start: attributes.started,
            duration,
            upstream_latency: facts.upstream_latency,
            method: original.method,
            scheme: original.scheme,
            authority: original.authority,
            path: original.path,
            protocol: attributes.protocol,
            status: facts.status.map(|status| status.as_u16()),
            request_bytes: facts.request_bytes,
            response_bytes: facts.response_bytes,
            request_id,
            client: attributes.client,
            peer: attributes.connection.peer,
            local: attributes.connection.local,
            listener: self.generation.listener_name(self.listener),
            route: attributes.route_name,
            rule: facts.rule.as_ref().map(|rule| rule.name.clone()),
            backend: facts.backend.as_ref().map(|backend| backend.name.clone()),
            endpoint: facts.upstream.as_ref().map(|upstream| upstream.peer),
            attempts: facts.attempts,
            flags: facts.flags,
            code: facts.code,
            details: facts.details.clone(),
            user_agent: original.user_agent,
            forwarded_for: original.forwarded_for,
            grpc_status: facts.grpc_status,
            verdicts: self.chain.borrow().verdicts().into_iter().map(verdict).collect(),
            generation: self.generation.snapshot.generation,
            tls_version: tls.map(|tls| tls.version.clone()),
            peer_identity: tls.and_then(identity),
        });
    }
}

fn identity(tls: &TlsAttributes) -> Option<String> {
    tls.peer_uris.first().or(tls.peer_dns_names.first()).or(tls.peer_subject.as_ref()).cloned()
}

