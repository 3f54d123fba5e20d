//! From the head of a response, the upstream's or ours, through the filters to the client.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, UPGRADE};
use http::{Method, StatusCode, Version};
use http_body::Body as _;
use portcullis_vm::{Direction, Fields, LocalReply, ResponseHead};

use super::body::{Inlet, ResponseStream};
use super::{Ending, Exchange, Interruption, Reset, head};
use crate::body::Body;
use crate::chain::Terminal;
use crate::facts::Flags;
use crate::message::Response;
use crate::reply::{self, Dialect, Failure};

impl Exchange {
    /// Sends the response that was [taken](Self::take_response) through the filters and to the client.
    pub(super) async fn response_phase(
        self: &Rc<Self>,
        deadline: Option<Instant>,
        ending: Ending,
    ) -> Result<Response<Body>, Reset> {
        let end = match self.in_time(deadline, pin!(self.take_head(Direction::Response))).await {
            Ok(end) => end,
            Err(interruption) => return self.replace(interruption, ending),
        };
        let whole = match self.complete_head(end) {
            true => Some(Bytes::new()),
            // There may be trailers, and a stream's window may be closed: the exchange goes on until the client takes its body.
            false if self.carries_trailers.get() => None,
            false => poll_fn(|context| Poll::Ready(self.take_whole(context))).await,
        };
        Ok(self.forward_response(whole, deadline, ending))
    }

    /// Puts the response where filters see it; until when its head has to have passed them.
    pub(super) fn take_response(&self, response: Response<Inlet>) -> Option<Instant> {
        let Response { mut head, body } = response;
        head::strip_hop_by_hop(&mut head.headers);
        let end = body.is_end() || self.has_no_body(head.status);
        let deadline = match body {
            Inlet::Upstream(_) => self.deadline(),
            // The answer does not depend on the request any more.
            _ => {
                self.chain.borrow_mut().abandon(Direction::Request);
                None
            }
        };
        if end {
            self.note_upstream_end();
        }
        *self.response_body.borrow_mut() = if end { Inlet::Ended } else { body };
        self.local.with(self.key, |stream| stream.response = Some(head));
        self.chain.borrow_mut().feed_head(Direction::Response, end);
        deadline
    }

    /// A filter ends the exchange while the response passes the filters: its answer goes out past them.
    pub(super) fn replace(
        &self,
        interruption: Interruption,
        ending: Ending,
    ) -> Result<Response<Body>, Reset> {
        if let Interruption::Terminal(Terminal::Close(_)) = interruption {
            self.facts.borrow_mut().flags.insert(Flags::LOCAL_RESET);
            return Err(Reset);
        }
        *self.response_body.borrow_mut() = Inlet::Ended;
        let response = self.answer(interruption);
        Ok(self.finished(response, ending))
    }

    /// The answer of ours for what stands in the way.
    pub(super) fn answer(&self, interruption: Interruption) -> Response<Body> {
        let failure = match interruption {
            Interruption::Failure(failure) => failure,
            Interruption::Terminal(terminal) => {
                tracing::debug!(filter = %terminal.filter(), "a filter ends the exchange");
                match terminal {
                    Terminal::Reply(_, guest) => return self.local_reply(*guest),
                    Terminal::TooLarge(_, Direction::Request) => Failure::RequestTooLarge,
                    Terminal::TooLarge(_, Direction::Response) => Failure::ResponseTooLarge,
                    Terminal::Failed(_) | Terminal::Close(_) => Failure::Filter,
                }
            }
        };
        tracing::debug!(code = failure.code(), "{}", failure.reason());
        self.facts.borrow_mut().failed(&failure);
        reply::respond(&failure, self.dialect)
    }

    fn local_reply(&self, mut guest: LocalReply) -> Response<Body> {
        let details = std::mem::take(&mut guest.details);
        self.facts.borrow_mut().details = match details.is_empty() {
            true => "via_filter".into(),
            false => details.into(),
        };
        reply::local(guest, self.dialect)
    }

    /// Makes the head what the client gets of it; true when nothing follows.
    fn complete_head(&self, end: bool) -> bool {
        let filtered = !self.chain.borrow().is_empty();
        let bodyless = self.local.with(self.key, |stream| {
            stream.response_sent = true;
            let Some(head) = &mut stream.response else { return true };
            if filtered {
                // Guests may have added some.
                head::strip_hop_by_hop(&mut head.headers);
            }
            self.complete_switch(head);
            self.facts.borrow_mut().responded(head);
            if self.version == Version::HTTP_11 && self.hop.trailers {
                self.complete_trailers(&mut head.headers, end);
            }
            // By its status, which a filter may have changed.
            end || self.has_no_body(head.status)
        });
        bodyless.unwrap_or(true)
    }

    /// HTTP/1 carries only trailers that the head announces.
    fn complete_trailers(&self, headers: &mut Fields, end: bool) {
        const NAMES: &str = "grpc-status, grpc-message, grpc-status-details-bin";
        let mut announced = headers.contains(TRAILER);
        if !announced && self.dialect == Dialect::Grpc {
            announced = headers.insert(TRAILER, NAMES).is_ok();
        }
        if announced && !end {
            // Only a chunked body has trailers.
            headers.remove(CONTENT_LENGTH);
        }
        self.carries_trailers.set(announced);
    }

    /// The response as the filters left it. All of its body may be here already: the exchange is over then.
    fn forward_response(
        self: &Rc<Self>,
        whole: Option<Bytes>,
        deadline: Option<Instant>,
        ending: Ending,
    ) -> Response<Body> {
        let (head, body) = match whole {
            Some(bytes) => {
                self.facts.borrow_mut().sent_whole(bytes.len());
                *self.response_body.borrow_mut() = Inlet::Ended;
                (self.end().and_then(|mut stream| stream.response.take()), Body::from(bytes))
            }
            None => {
                // Guests may still read it.
                let is_read = !self.chain.borrow().is_empty();
                let head = self.local.with(self.key, |stream| {
                    let ResponseHead { status, headers } = stream.response.as_mut()?;
                    let headers = if is_read { headers.clone() } else { std::mem::take(headers) };
                    Some(ResponseHead { status: *status, headers })
                });
                let body = ResponseStream::new(self.clone(), ending, deadline);
                (head.flatten(), Body::stream(body))
            }
        };
        let head = head
            .unwrap_or_else(|| ResponseHead { status: StatusCode::OK, headers: Fields::default() });
        self.closing_note(Response { head, body })
    }

    /// Names the protocol in a 101 of the upstream. No guest can make one.
    fn complete_switch(&self, head: &mut ResponseHead) {
        let ResponseHead { status, headers } = head;
        if !status.is_informational() {
            return;
        }
        let switched = self.switching.take().is_some_and(|protocol| {
            *status == StatusCode::SWITCHING_PROTOCOLS
                && headers.insert(CONNECTION, "upgrade").is_ok()
                && headers.insert(UPGRADE, &*protocol).is_ok()
        });
        if !switched {
            *status = StatusCode::INTERNAL_SERVER_ERROR;
        }
    }

    /// A response whose body is there already: nothing is left to do for the filters.
    pub(super) fn finished(&self, mut response: Response<Body>, ending: Ending) -> Response<Body> {
        if self.has_no_body(response.head.status) {
            response.body = Body::Empty;
        }
        let bytes = response.body.size_hint().exact().unwrap_or(0);
        let mut facts = self.facts.borrow_mut();
        facts.responded(&response.head);
        facts.sent_whole(bytes as usize);
        drop(facts);
        self.local.with(self.key, |stream| match &mut stream.response {
            Some(head) => head.status = response.head.status,
            none => *none = Some(response.head.clone()),
        });
        drop(ending);
        self.closing_note(response)
    }

    fn closing_note(&self, mut response: Response<Body>) -> Response<Body> {
        if self.closing
            && self.version != Version::HTTP_2
            && response.head.status != StatusCode::SWITCHING_PROTOCOLS
        {
            response.set(CONNECTION, "close");
        }
        response
    }

    pub(super) fn has_no_body(&self, status: StatusCode) -> bool {
        self.method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}
