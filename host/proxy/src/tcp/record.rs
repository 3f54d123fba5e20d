//! What is remembered of a connection while it lives, for its filters, the counters and the access log.

use std::sync::Arc;
use std::time::SystemTime;

use portcullis_vm::{Attributes, ConnectionAttributes, Peer};
use tokio::time::Instant;

use super::Session;
use super::relay::End;
use crate::chain::Terminal;
use crate::facts::{Flags, Record, Text};
use crate::generation::Generation;
use crate::observe::{AccessLogger, TcpCounts};
use crate::snapshot::{ListenerDirection, ListenerIndex, TcpRoute};
use crate::upstream::Cluster;

/// What is remembered of a connection.
#[derive(Debug)]
pub struct Facts {
    started: Instant,
    log: Option<Arc<AccessLogger>>,
    counts: TcpCounts,
    generation: u64,
    listener: Arc<str>,
    route: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    upstream: Option<Arc<ConnectionAttributes>>,
    attempts: u32,
    received: u64,
    sent: u64,
    flags: Flags,
    details: &'static str,
}

impl Facts {
    /// When it has been accepted.
    pub fn new(
        generation: &Generation,
        listener: ListenerIndex,
        route: Option<&TcpRoute>,
        cluster: Option<&Cluster>,
    ) -> Facts {
        let route = route.map(|route| route.name.clone());
        Facts {
            started: Instant::now(),
            log: generation.access_log.clone(),
            counts: generation.meters.tcp(listener, route.clone().unwrap_or_default()),
            generation: generation.snapshot.generation,
            listener: generation.listener_name(listener),
            route,
            backend: cluster.map(|cluster| cluster.backend().name.clone()),
            upstream: None,
            attempts: 0,
            received: 0,
            sent: 0,
            flags: Flags::default(),
            details: "",
        }
    }
}

/// What filters can ask of a connection that has just been accepted.
pub fn attributes(
    generation: &Generation,
    connection: Arc<ConnectionAttributes>,
    listener: ListenerIndex,
    route: Option<&TcpRoute>,
) -> Attributes {
    let direction = match generation.snapshot.listeners[listener].direction {
        ListenerDirection::Outbound => 2,
        ListenerDirection::Inbound | ListenerDirection::Gateway => 1,
    };
    Attributes {
        listener_direction: direction,
        route_name: route.map(|route| route.name.clone()),
        listener: Some(generation.listener_name(listener)),
        ..Attributes::new(connection, SystemTime::now())
    }
}

impl Session {
    /// Where it goes.
    pub(super) fn note_cluster(&self, cluster: Option<&Cluster>) {
        let name = cluster.map(|cluster| cluster.backend().name.clone());
        let endpoints = cluster.map(|cluster| cluster.addresses() as u64);
        let mut facts = self.facts.borrow_mut();
        facts.backend = name.clone();
        facts.attempts += 1;
        self.edit(|attributes| {
            attributes.cluster_name = name;
            attributes.endpoints = endpoints;
            attributes.attempts += 1;
        });
    }

    pub(super) fn note_upstream(&self, upstream: &Arc<ConnectionAttributes>) {
        self.facts.borrow_mut().upstream = Some(upstream.clone());
        self.edit(|attributes| attributes.upstream = Some(upstream.clone()));
    }

    /// Bytes have come from the client.
    pub(super) fn note_received(&self, bytes: usize) {
        let mut facts = self.facts.borrow_mut();
        facts.received += bytes as u64;
        facts.counts.received(bytes as u64);
        self.edit(|attributes| attributes.request_bytes = facts.received);
    }

    /// Bytes are on their way to the client.
    pub(super) fn note_sent(&self, bytes: usize) {
        let mut facts = self.facts.borrow_mut();
        facts.sent += bytes as u64;
        facts.counts.sent(bytes as u64);
        self.edit(|attributes| attributes.response_bytes = facts.sent);
    }

    /// Why it is over.
    pub(super) fn note(&self, end: &End) {
        let (flags, details) = match end {
            End::Complete => (Flags::none(), ""),
            End::NoRoute => (Flags::NO_ROUTE, "no_route"),
            End::NoBackend => (Flags::NO_CLUSTER, "no_backend"),
            End::Unreachable(error) => (error.flags(), "upstream_unreachable"),
            End::ClientBroke(_) => (Flags::DOWNSTREAM_TERMINATION, "client_reset"),
            End::UpstreamBroke(_) => (Flags::UPSTREAM_CONNECTION_TERMINATION, "upstream_reset"),
            End::Idle => (Flags::IDLE_TIMEOUT, "idle_timeout"),
            End::Filter(Terminal::Failed(_) | Terminal::TooLarge(..)) => {
                (Flags::LOCAL_RESET, "filter_failed")
            }
            End::Filter(_) => (Flags::none(), "filter_closed"),
        };
        let mut facts = self.facts.borrow_mut();
        facts.flags.insert(flags);
        facts.details = details;
        match end {
            End::Unreachable(error) => {
                let reason = error.to_string();
                tracing::debug!(listener = %facts.listener, "a connection was not served: {reason}");
                self.edit(|attributes| attributes.upstream_failure = Some(reason));
            }
            End::ClientBroke(error) => {
                self.closed_by.set(Peer::Remote);
                tracing::debug!(listener = %facts.listener, "a client's connection broke: {error}");
            }
            End::UpstreamBroke(error) => {
                tracing::debug!(listener = %facts.listener, "an upstream's connection broke: {error}");
            }
            _ => {}
        }
    }

    /// Completes the attributes that guests see in their last phases.
    pub(super) fn seal(&self) {
        let facts = self.facts.borrow();
        self.edit(|attributes| {
            attributes.duration = Some(facts.started.elapsed());
            attributes.response_flags = facts.flags.bits();
            attributes.code_details = (!facts.details.is_empty()).then(|| facts.details.into());
        });
    }

    /// Counts the connection and leaves its line for the access log.
    pub(super) fn record(&self) {
        let facts = self.facts.borrow();
        facts.counts.ended(facts.backend.as_ref(), facts.flags);
        let Some(log) = &facts.log else { return };
        let known = self
            .local
            .with_tcp(self.key, |tcp| (tcp.attributes.clone(), log.stored(&tcp.filter_state)));
        let Some((attributes, stored)) = known else { return };
        let tls = attributes.connection.tls.as_ref();
        let upstream = facts.upstream.as_ref();
        log.log(Record {
            started: attributes.started,
            duration: facts.started.elapsed(),
            upstream_duration: None,
            generation: facts.generation,
            listener: facts.listener.clone(),
            route: facts.route.clone(),
            backend: facts.backend.clone(),
            upstream_peer: upstream.map(|upstream| upstream.peer),
            upstream_local: upstream.map(|upstream| upstream.local),
            upstream_failure: attributes.upstream_failure.as_deref().map(Text::from),
            attempts: facts.attempts,
            peer: attributes.connection.peer,
            local: attributes.connection.local,
            client: attributes.client,
            server_name: tls.and_then(|tls| tls.server_name.as_deref()).map(Text::from),
            mutual_tls: tls.is_some_and(|tls| tls.mutual),
            request: None,
            user_agent: None,
            forwarded_for: None,
            request_id: None,
            request_bytes: facts.received,
            status: None,
            grpc_status: None,
            response_bytes: facts.sent,
            flags: facts.flags,
            details: attributes.code_details.as_deref().map(Text::from),
            code: None,
            filters: self.chain.borrow().verdicts(),
            stored,
        });
    }

    fn edit(&self, change: impl FnOnce(&mut Attributes)) {
        self.local.with_tcp(self.key, |tcp| change(&mut tcp.attributes));
    }
}
