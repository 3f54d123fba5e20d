//! From the client's head to the route: the filters of the listener, the selection, the filters of the route.

use std::rc::Rc;

use http::Response;
use portcullis_vm::{Direction, HttpStream, RequestHead};

use super::body::Inlet;
use super::{Exchange, Interruption};
use crate::chain::Slot;
use crate::reply::{self, Failure};
use crate::route::{self, Selected};
use crate::snapshot::RouteFilter;

/// What stands after the request's filters.
pub enum Ready {
    /// Goes to a backend of this rule; the flag says that the request has no body.
    Upstream(Selected, bool),
    /// Is answered by us.
    Own(Box<Response<Inlet>>),
}

impl Exchange {
    /// The filters of the listener, the route, the filters of the route.
    ///
    /// `provisional` is the rule for the head as it came.
    pub(super) async fn request_phase(
        self: &Rc<Self>,
        provisional: Option<Selected>,
    ) -> Result<Ready, Interruption> {
        let bodyless = self.request_body.borrow().is_end();
        self.chain.borrow_mut().feed_head(Direction::Request, bodyless);
        self.wait_head(Direction::Request).await?;
        let selected = if self.is_steered() { self.select() } else { provisional };
        self.note_route(selected.as_ref());
        let Some(selected) = selected else {
            return Err(Interruption::Failure(Failure::NoRoute));
        };
        if let Some(reason) = &selected.rule.broken {
            return Err(Interruption::Failure(Failure::BrokenRule(reason.clone())));
        }
        let slots = self.route_slots(&selected);
        if !slots.is_empty() {
            self.chain.borrow_mut().extend(&slots);
        }
        let end = self.take_head(Direction::Request).await?;
        let redirect = selected.rule.filters.iter().find_map(|filter| match filter {
            RouteFilter::Redirect(redirect) => Some(redirect),
            _ => None,
        });
        match redirect {
            Some(redirect) => {
                let port = self.generation.snapshot.listeners[self.listener].address.port();
                let location = self
                    .with_request(|head| route::location(redirect, head, &selected.prefix, port));
                self.facts.borrow_mut().details = "direct_response".into();
                let response = reply::redirect(redirect.status, &location.unwrap_or_default());
                Ok(Ready::Own(Box::new(response.map(Inlet::Own))))
            }
            None => Ok(Ready::Upstream(selected, end)),
        }
    }

    /// The Wasm filters that the rule names; one that it names twice runs once.
    fn route_slots(&self, selected: &Selected) -> Vec<Rc<Slot>> {
        let mut slots: Vec<Rc<Slot>> = Vec::new();
        for filter in &selected.rule.filters {
            if let RouteFilter::Wasm(index) = filter {
                let slot = self.generation.slot(*index);
                if !slots.iter().any(|known| known.id == slot.id) {
                    slots.push(slot.clone());
                }
            }
        }
        slots
    }

    pub(super) fn select(&self) -> Option<Selected> {
        let routes = self.generation.routes(self.listener);
        let select = |stream: &mut HttpStream| routes.select(&stream.request, &stream.filter_state);
        self.local.with(self.key, select).flatten()
    }

    /// Whether filters may have changed which rule serves the request.
    fn is_steered(&self) -> bool {
        let by_properties = self.generation.routes(self.listener).reads_properties();
        let steered = |stream: &mut HttpStream| {
            stream.request_edited || (by_properties && !stream.filter_state.is_empty())
        };
        self.local.with(self.key, steered).unwrap_or(false)
    }

    pub(super) fn note_route(&self, selected: Option<&Selected>) {
        let name = selected.map(|selected| selected.route.name.clone());
        self.local.with(self.key, |stream| stream.attributes.route_name = name);
        self.facts.borrow_mut().rule = selected.map(|selected| selected.rule.clone());
    }

    pub(super) fn with_request<T>(&self, read: impl FnOnce(&RequestHead) -> T) -> Option<T> {
        self.local.with(self.key, |stream| read(&stream.request))
    }
}
