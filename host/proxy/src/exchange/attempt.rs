//! Attempts at the upstream: which backend, what is sent, when an attempt has failed, and whether there is another.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::header::{TE, TRAILER, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use portcullis_vm::{Direction, HttpStream, RequestHead};
use tokio::time::sleep;

use super::body::{Inlet, RequestStream};
use super::head;
use super::{Exchange, Interruption, upgrade};
use crate::body::Body;
use crate::chain::{Party, Terminal};
use crate::facts::Flags;
use crate::now::now;
use crate::reply::Failure;
use crate::route::{self, Pick, Selected};
use crate::snapshot::{Retry, RouteFilter, Rule, WeightedBackend};
use crate::upstream::{Cluster, SendError, SendOptions, Upstreamed};

/// A retry never waits longer than this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A backend, how the rule refers to it, and the endpoint that a filter has chosen.
type Chosen<'a> = (Rc<Cluster>, &'a WeightedBackend, Option<usize>);

/// How one attempt ended.
enum Attempt {
    Answered(Box<Upstreamed>),
    Failed(Box<SendError>),
    TimedOut,
}

impl Exchange {
    /// Sends the request to a backend of the rule, again if the rule says so, and [takes](Self::take_response) the answer.
    pub(super) async fn upstream_phase(
        self: &Rc<Self>,
        selected: &Selected,
        bodyless: bool,
    ) -> Result<Option<Instant>, Interruption> {
        let rule = &selected.rule;
        let (cluster, reference, endpoint) = self.choose(rule)?;
        let mut head = self.upstream_head(selected, reference)?;
        if bodyless && self.hop.upgrade.is_none() && head.headers.contains(TRAILER) {
            Arc::make_mut(&mut head).headers.remove(TRAILER);
        }
        self.local.with(self.key, |stream| stream.request_sent = true);
        self.replay.borrow_mut().keeps = rule.retry.is_some();
        let upgrade = self.hop.upgrade.clone().filter(|_| bodyless);
        let mut options = SendOptions { upgrade, endpoint, ..SendOptions::default() };
        let answer = self.attempts(rule, &cluster, &head, bodyless, &mut options).await?;
        self.facts.borrow_mut().upstream_latency =
            Some(now().saturating_duration_since(self.started));
        let mut response = answer.response;
        if response.head.status == StatusCode::SWITCHING_PROTOCOLS {
            return match options.upgrade {
                Some(asked) => {
                    let named = response.head.headers.get(UPGRADE);
                    let named = named.and_then(|name| HeaderValue::from_bytes(name).ok());
                    self.switching.set(named.map(Box::new).or(Some(asked)));
                    let (switch, guest) = (self.switch.take(), self.guest.clone());
                    let response = upgrade::establish(response, switch, guest);
                    Ok(self.take_response(response))
                }
                None => Err(Interruption::Failure(Failure::Protocol(
                    "an upgrade nobody asked for".to_owned(),
                ))),
            };
        }
        let filters = rule.filters.iter().chain(&reference.filters);
        for filter in filters {
            if let RouteFilter::ResponseHeaders(modifier) = filter
                && route::apply(modifier, &mut response.head.headers).is_err()
            {
                tracing::debug!(rule = %rule.name, "the response has too many headers for the rule's modifiers");
            }
        }
        Ok(self.take_response(response.map(Inlet::Upstream)))
    }

    /// The backend of one request, and its endpoint if a filter has chosen one.
    fn choose<'a>(&self, rule: &'a Rule) -> Result<Chosen<'a>, Interruption> {
        let broken = |reason: String| Err(Interruption::Failure(Failure::BrokenRule(reason)));
        let overridden = self.overridden(rule);
        let endpoint = overridden.map(|(_, endpoint)| endpoint);
        match overridden.map_or_else(|| route::pick(rule, fastrand::u64(..)), |(pick, _)| pick) {
            Pick::Backend(index, reference) => {
                let cluster = self.generation.clusters[index].clone();
                let mut facts = self.facts.borrow_mut();
                facts.backend = Some(cluster.backend().clone());
                let name = Some(cluster.backend().name.clone());
                self.local.with(self.key, |stream| {
                    stream.attributes.cluster_name = name;
                    stream.attributes.endpoints = Some(cluster.addresses() as u64);
                });
                Ok((cluster, reference, endpoint))
            }
            Pick::Invalid(reference) => {
                broken(format!("backend {} does not exist", reference.reference))
            }
            Pick::Nothing => broken(format!("rule {} has no backend", rule.name)),
        }
    }

    /// What a filter has chosen, if the rule leads there.
    fn overridden<'a>(&self, rule: &'a Rule) -> Option<(Pick<'a>, usize)> {
        let chosen = self.local.with(self.key, |stream| stream.upstream_override.clone())??;
        let found =
            rule.backends.iter().filter(|reference| reference.weight > 0).find_map(|reference| {
                let index = reference.backend?;
                let hosts = self.generation.clusters.get(index)?.hosts();
                let endpoint = hosts.iter().position(|host| host.address == chosen)?;
                Some((Pick::Backend(index, reference), endpoint))
            });
        if found.is_none() {
            tracing::debug!(rule = %rule.name, host = %chosen, "the host that a filter has chosen is none of the rule's");
        }
        found
    }

    /// The request's head as the route's own filters make it.
    fn upstream_head(
        &self,
        selected: &Selected,
        reference: &WeightedBackend,
    ) -> Result<Arc<RequestHead>, Interruption> {
        let gone = || Interruption::Failure(Failure::BadRequest("the exchange is over".to_owned()));
        let share = |stream: &mut HttpStream| (stream.request.clone(), stream.request_edited);
        // Copied by the first change to it, if there is one.
        let (mut head, mut edited) = self.local.with(self.key, share).ok_or_else(gone)?;
        for filter in selected.rule.filters.iter().chain(&reference.filters) {
            match filter {
                RouteFilter::RequestHeaders(modifier) => {
                    edited = true;
                    route::apply_to_request(modifier, Arc::make_mut(&mut head))
                        .map_err(|_| Interruption::Failure(Failure::HeadersTooLarge))?;
                }
                RouteFilter::Rewrite(rewrite) => {
                    route::rewrite(rewrite, Arc::make_mut(&mut head), &selected.prefix);
                }
                _ => {}
            }
        }
        // Guests and modifiers may have added some.
        if edited && head::has_hop_by_hop(&head.headers) {
            head::strip_hop_by_hop(&mut Arc::make_mut(&mut head).headers);
        }
        if self.hop.trailers {
            let inserted = Arc::make_mut(&mut head).headers.insert(TE, "trailers");
            inserted.map_err(|_| Interruption::Failure(Failure::HeadersTooLarge))?;
        }
        Ok(head)
    }

    async fn attempts(
        self: &Rc<Self>,
        rule: &Rule,
        cluster: &Rc<Cluster>,
        head: &RequestHead,
        bodyless: bool,
        options: &mut SendOptions,
    ) -> Result<Box<Upstreamed>, Interruption> {
        let mut retries = 0;
        loop {
            let attempt = self.attempt(rule, cluster, head, bodyless, options).await?;
            if let Some(direction) = self.broken.get() {
                return Err(broken_off(direction));
            }
            let may_resend = bodyless || self.replay.borrow().is_complete();
            if let Attempt::Failed(error) = &attempt
                && error.reused
                && !options.fresh
                && may_resend
                && (error.retry_safe || is_idempotent(&head.method))
            {
                // The connection may have been at its end by mere chance.
                options.fresh = true;
                continue;
            }
            let again =
                rule.retry.as_ref().filter(|retry| may_resend && is_retried(retry, &attempt, head));
            match again {
                Some(retry) if retries < retry.attempts => {
                    retries += 1;
                    self.generation.meters.retried(&cluster.backend().name);
                    drop(attempt);
                    // What is kept of the body stays what was sent: nobody reads on during the pause.
                    self.end_attempt();
                    let pause = pin!(sleep(backoff(retry.backoff, retries)));
                    self.unless_interrupted(pause).await?;
                }
                Some(_) if retries > 0 => {
                    self.facts.borrow_mut().flags.insert(Flags::RETRY_LIMIT);
                    return self.conclude(attempt);
                }
                _ => return self.conclude(attempt),
            }
        }
    }

    fn conclude(&self, attempt: Attempt) -> Result<Box<Upstreamed>, Interruption> {
        match attempt {
            Attempt::Answered(answer) => {
                self.facts.borrow_mut().upstream = Some(answer.connection.clone());
                let upstream = Some(answer.connection.clone());
                self.upstream_sent.set(Some(answer.sent));
                self.local.with(self.key, |stream| {
                    stream.attributes.upstream = upstream;
                    stream.attributes.pool_ready = Some(answer.pool_ready);
                });
                Ok(answer)
            }
            Attempt::Failed(error) => {
                self.facts.borrow_mut().flags.insert(error.flags());
                let reason = Some(error.reason.clone());
                self.local.with(self.key, |stream| stream.attributes.upstream_failure = reason);
                Err(Interruption::Failure(error.failure()))
            }
            Attempt::TimedOut => {
                self.timed_out("attempt");
                Err(Interruption::Failure(Failure::AttemptTimeout))
            }
        }
    }

    async fn attempt(
        self: &Rc<Self>,
        rule: &Rule,
        cluster: &Rc<Cluster>,
        head: &RequestHead,
        bodyless: bool,
        options: &SendOptions,
    ) -> Result<Attempt, Interruption> {
        let attempts = {
            let mut facts = self.facts.borrow_mut();
            facts.attempts += 1;
            u64::from(facts.attempts)
        };
        self.local.with(self.key, |stream| stream.attributes.attempts = attempts);
        self.end_attempt();
        let body = match bodyless {
            true => Body::Empty,
            false => Body::stream(RequestStream::new(self)),
        };
        let limit = rule.timeouts.backend_request;
        let deadline = limit.and_then(|limit| now().checked_add(limit));
        self.attempt_deadline.set(deadline);
        let send = pin!(cluster.send(head, body, options));
        let sent = pin!(self.unless_interrupted(send));
        match self.until(deadline, sent).await {
            Some(sent) => sent.map(Attempt::from),
            None => Ok(Attempt::TimedOut),
        }
    }

    /// Whoever still sends the body for the last attempt gives up.
    fn end_attempt(&self) {
        self.replay.borrow_mut().attempt += 1;
        self.mailbox.wake_one(Party::Request);
    }

    /// Waits, unless the filters end the exchange first.
    fn unless_interrupted<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Interruption>> {
        poll_fn(move |context| {
            self.mailbox.wait(Party::Head, context);
            if let Some(terminal) = self.take_terminal() {
                return Poll::Ready(Err(Interruption::Terminal(terminal)));
            }
            let done = ready!(future.as_mut().poll(context));
            // It may have failed because the filters cut off the body that it was sending.
            Poll::Ready(match self.take_terminal() {
                Some(terminal) => Err(Interruption::Terminal(terminal)),
                None => Ok(done),
            })
        })
    }

    /// The filters' wish to end the exchange, if they have come to one.
    fn take_terminal(&self) -> Option<Terminal> {
        let mut chain = self.chain.borrow_mut();
        chain.pump();
        chain.take_terminal()
    }
}

impl Exchange {
    /// Gives a part of the exchange until `deadline`.
    pub(super) fn in_time<T>(
        &self,
        deadline: Option<Instant>,
        mut part: Pin<&mut impl Future<Output = Result<T, Interruption>>>,
    ) -> impl Future<Output = Result<T, Interruption>> {
        poll_fn(move |context| {
            self.poll_before(deadline, part.as_mut(), context).map(|ended| {
                ended.unwrap_or_else(|| {
                    self.timed_out("request");
                    Err(Interruption::Failure(Failure::RequestTimeout))
                })
            })
        })
    }

    /// Waits until `deadline`, which has come first if there is nothing. What is waited for stays where it is: moved into
    /// this future, it would be in the state of the exchange twice. So would be the arguments of an `async fn`.
    fn until<T>(
        &self,
        deadline: Option<Instant>,
        mut part: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Option<T>> {
        poll_fn(move |context| self.poll_before(deadline, part.as_mut(), context))
    }

    fn poll_before<T>(
        &self,
        deadline: Option<Instant>,
        part: Pin<&mut impl Future<Output = T>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<T>> {
        if let Poll::Ready(ended) = part.poll(context) {
            return Poll::Ready(Some(ended));
        }
        match deadline {
            Some(deadline) => self.alarm.borrow_mut().poll(deadline, context).map(|()| None),
            None => Poll::Pending,
        }
    }

    /// When `timeouts.request` is over.
    pub(super) fn request_deadline(&self) -> Option<Instant> {
        let facts = self.facts.borrow();
        let timeout = facts.rule.as_ref()?.timeouts.request?;
        self.started.checked_add(timeout)
    }

    /// When the response has to have reached its end.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.request_deadline().into_iter().chain(self.attempt_deadline.get()).min()
    }

    pub(super) fn timed_out(&self, kind: &str) {
        let facts = self.facts.borrow();
        let backend = facts.backend.as_ref().map_or("", |backend| &*backend.name);
        self.generation.meters.timed_out(backend, kind);
    }
}

impl From<Result<Box<Upstreamed>, Box<SendError>>> for Attempt {
    fn from(sent: Result<Box<Upstreamed>, Box<SendError>>) -> Attempt {
        match sent {
            Ok(answer) => Attempt::Answered(answer),
            Err(error) => Attempt::Failed(error),
        }
    }
}

/// What a body that broke off means.
pub(super) fn broken_off(direction: Direction) -> Interruption {
    Interruption::Failure(match direction {
        Direction::Request => Failure::BadRequest("the request's body broke off".to_owned()),
        Direction::Response => Failure::Reset("the response's body broke off".to_owned()),
    })
}

/// Connection errors and timeouts of attempts always are; a request with side effects that may have been processed is
/// repeated only where the route names its status.
fn is_retried(retry: &Retry, attempt: &Attempt, head: &RequestHead) -> bool {
    match attempt {
        Attempt::Answered(answer) => retry.codes.contains(&answer.response.head.status.as_u16()),
        Attempt::Failed(error) => error.retry_safe || is_idempotent(&head.method),
        Attempt::TimedOut => retry.codes.contains(&504) || is_idempotent(&head.method),
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Doubled for each retry after the first, with up to a half on top.
fn backoff(shortest: Duration, retry: u32) -> Duration {
    let doubled =
        shortest.saturating_mul(1 << (retry - 1).min(16)).min(LONGEST_BACKOFF.max(shortest));
    doubled.mul_f64(1.0 + fastrand::f64() / 2.0)
}
