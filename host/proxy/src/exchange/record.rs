//! What is remembered of an exchange while it lives, and the line that the access log and the counters get of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{HeaderName, USER_AGENT};
use http::{Method, StatusCode};
use portcullis_vm::{ConnectionAttributes, Fields, RequestHead, ResponseHead};

use super::Exchange;
use crate::facts::{Flags, Record, Request, Text};
use crate::generation::{Generation, Outcome};
use crate::now::now;
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
    grpc_status: Option<u32>,
    original: Option<Box<Original>>,
}

/// The request as the client sent it; kept only for the access log.
#[derive(Debug)]
struct Original {
    method: Method,
    authority: Text,
    path: Text,
    user_agent: Option<Text>,
    forwarded_for: Option<Text>,
}

impl Facts {
    /// At the start of an exchange, before anything has touched its head.
    pub fn of(head: &RequestHead, generation: &Generation, listener: ListenerIndex) -> Facts {
        generation.meters.begun(listener);
        generation.tally.exchanges.fetch_add(1, Ordering::Relaxed);
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
        self.flags.insert(failure.flags());
        self.details = Cow::Borrowed(failure.details());
        self.code = Some(failure.code());
    }

    /// The head of the response is on its way.
    pub fn responded(&mut self, head: &ResponseHead) {
        self.status = Some(head.status);
        self.trailed(&head.headers);
    }

    /// The response is there with all of its body, of so many bytes.
    pub fn sent_whole(&mut self, bytes: usize) {
        self.completed = true;
        self.response_bytes += bytes as u64;
    }

    /// Trailers, or the head of a response that has only trailers.
    pub fn trailed(&mut self, fields: &Fields) {
        let status = fields.get(GRPC_STATUS).and_then(|value| str::from_utf8(value).ok());
        self.grpc_status = status.and_then(|status| status.parse().ok()).or(self.grpc_status);
    }
}

impl Original {
    fn of(head: &RequestHead) -> Original {
        let header = |name: &HeaderName| head.headers.get(name).map(Text::of);
        Original {
            method: head.method.clone(),
            authority: Text::of(&head.authority),
            path: Text::of(&head.path),
            user_agent: header(&USER_AGENT),
            forwarded_for: header(&FORWARDED_FOR),
        }
    }
}

impl Exchange {
    /// The last of the upstream's answer is here.
    pub(super) fn note_upstream_end(&self) {
        let Some(sent) = self.upstream_sent.take() else { return };
        let latency = Some(now().saturating_duration_since(sent));
        self.local.with(self.key, |stream| stream.attributes.backend_latency = latency);
    }

    /// Completes the attributes that guests see in their log phase.
    pub(super) fn seal_attributes(&self, duration: Duration) {
        let mut facts = self.facts.borrow_mut();
        if !facts.completed && !facts.cut && facts.flags.is_empty() {
            facts.flags.insert(Flags::DOWNSTREAM_TERMINATION);
        }
        self.local.with(self.key, |stream| {
            let attributes = &mut stream.attributes;
            attributes.duration = Some(duration);
            attributes.response_bytes = facts.response_bytes;
            attributes.response_flags = facts.flags.bits();
            attributes.code_details = Some(facts.details.clone());
            attributes.attempts = u64::from(facts.attempts);
        });
    }

    /// Counts the exchange and leaves its line for the access log.
    pub(super) fn record(&self, duration: Duration) {
        let mut facts = self.facts.borrow_mut();
        let outcome = Outcome {
            rule: facts.rule.as_ref(),
            backend: facts.backend.as_ref().map(|backend| &backend.name),
            status: facts.status,
            flags: facts.flags,
            duration,
        };
        self.generation.meters.ended(self.listener, &outcome);
        self.generation.tally.exchanges.fetch_sub(1, Ordering::Relaxed);
        let (Some(log), Some(original)) = (&self.generation.access_log, facts.original.take())
        else {
            return;
        };
        let known = self.local.with(self.key, |stream| {
            let id = stream.request.headers.get(REQUEST_ID).map(Text::of);
            (id, stream.attributes.clone(), log.stored(&stream.filter_state))
        });
        let Some((request_id, attributes, stored)) = known else { return };
        let tls = attributes.connection.tls.as_ref();
        let upstream = facts.upstream.as_ref();
        log.log(Record {
            started: attributes.started,
            duration,
            upstream_duration: facts.upstream_latency,
            generation: self.generation.snapshot.generation,
            listener: self.generation.listener_name(self.listener),
            route: facts.rule.as_ref().map(|rule| rule.name.clone()),
            backend: facts.backend.as_ref().map(|backend| backend.name.clone()),
            upstream_peer: upstream.map(|upstream| upstream.peer),
            upstream_local: upstream.map(|upstream| upstream.local),
            upstream_failure: attributes.upstream_failure.as_deref().map(Text::from),
            attempts: facts.attempts,
            peer: attributes.connection.peer,
            local: attributes.connection.local,
            client: attributes.client,
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).map(Text::from),
            mutual_tls: tls.is_some_and(|tls| tls.mutual),
            request: Some(Request {
                protocol: attributes.protocol,
                scheme: if tls.is_some() { "https" } else { "http" },
                method: original.method,
                authority: original.authority,
                path: original.path,
            }),
            user_agent: original.user_agent,
            forwarded_for: original.forwarded_for,
            request_id,
            request_bytes: facts.request_bytes,
            status: facts.status,
            grpc_status: facts.grpc_status,
            response_bytes: facts.response_bytes,
            flags: facts.flags,
            details: Some(Text::from(&*facts.details)),
            code: facts.code,
            filters: self.chain.borrow().verdicts(),
            stored,
        });
    }
}
