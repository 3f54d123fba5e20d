//! From the client's head to the route: the filters of the listener, the selection, the filters of the route.

use std::rc::Rc;
use std::sync::Arc;

use portcullis_vm::{Direction, HttpStream, RequestHead, UpstreamHost};

use super::body::Inlet;
use super::{Exchange, Interruption};
use crate::chain::Slot;
use crate::reply::{self, Failure};
use crate::route::{self, Selected};
use crate::snapshot::{RouteFilter, Rule};

/// What stands after the request's filters.
pub enum Ready {
    /// Goes to a backend of this rule; the flag says that the request has no body.
    Upstream(Selected, bool),
    /// Is answered by us; the response was taken.
    Answered,
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
        let mut selected = if self.is_steered() { self.select() } else { provisional };
        let selected = loop {
            let taken = self.take_route(selected)?;
            self.wait_release(Direction::Request).await?;
            if !self.is_cleared() {
                break taken;
            }
            // The filters of the rule before have seen the request and stay with it.
            selected = self.select();
        };
        let end = self.release_head(Direction::Request);
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
                self.take_response(response.map(Inlet::Own));
                Ok(Ready::Answered)
            }
            None => Ok(Ready::Upstream(selected, end)),
        }
    }

    /// Whether a filter has cleared the route since the last selection.
    fn is_cleared(&self) -> bool {
        let cleared = |stream: &mut HttpStream| std::mem::take(&mut stream.route_cleared);
        self.local.with(self.key, cleared).unwrap_or(false)
    }

    /// Makes a selection the exchange's own: the filters of its rule join the chain, and what has passed the others
    /// passes them.
    fn take_route(&self, selected: Option<Selected>) -> Result<Selected, Interruption> {
        self.note_route(selected.as_ref());
        let Some(selected) = selected else {
            return Err(Interruption::Failure(Failure::NoRoute));
        };
        if let Some(reason) = &selected.rule.broken {
            return Err(Interruption::Failure(Failure::BrokenRule(reason.clone())));
        }
        let mut slots = self.route_slots(&selected);
        let mut chain = self.chain.borrow_mut();
        slots.retain(|slot| !chain.runs(slot.id));
        if !slots.is_empty() {
            chain.extend(&slots);
        }
        drop(chain);
        Ok(selected)
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

    /// The rule for the head as it came, which is noted.
    pub(super) fn provisional(&self) -> Option<Selected> {
        let selected = self.select();
        self.note_route(selected.as_ref());
        selected
    }

    fn select(&self) -> Option<Selected> {
        let routes = self.generation.routes(self.listener);
        let select = |stream: &mut HttpStream| routes.select(&stream.request, &stream.filter_state);
        self.local.with(self.key, select).flatten()
    }

    /// Whether filters may have changed which rule serves the request. Higress's modules keep the first one in spite of
    /// their edits by a property.
    fn is_steered(&self) -> bool {
        let routes = self.generation.routes(self.listener);
        let (by_headers, by_properties) = (routes.reads_headers(), routes.reads_properties());
        let steered = |stream: &mut HttpStream| {
            let state = &stream.filter_state;
            let kept =
                || state.property(b"clear_route_cache").is_some_and(|kept| kept.value() == b"off");
            let steered = stream.target_edited
                || by_headers && stream.request_edited
                || by_properties && !state.is_empty();
            std::mem::take(&mut stream.route_cleared) || steered && !kept()
        };
        self.local.with(self.key, steered).unwrap_or(false)
    }

    fn note_route(&self, selected: Option<&Selected>) {
        if self.is_noted(selected) {
            return;
        }
        let name = selected.map(|selected| selected.route.name.clone());
        let hostname = selected.map(|selected| selected.hostname.clone());
        let hosts = match selected {
            Some(selected) if self.generation.chooses_hosts => self.hosts(&selected.rule),
            _ => Vec::new(),
        };
        self.local.with(self.key, |stream| {
            stream.attributes.route_name = name;
            stream.attributes.virtual_host = hostname;
            stream.attributes.upstream_hosts = hosts;
        });
        self.facts.borrow_mut().rule = selected.map(|selected| selected.rule.clone());
    }

    /// Whether the selection is the one that was noted last.
    fn is_noted(&self, selected: Option<&Selected>) -> bool {
        let facts = self.facts.borrow();
        let (Some(selected), Some(rule)) = (selected, &facts.rule) else { return false };
        let same_host = |stream: &mut HttpStream| {
            let noted = stream.attributes.virtual_host.as_ref();
            noted.is_some_and(|noted| Arc::ptr_eq(noted, &selected.hostname))
        };
        Arc::ptr_eq(rule, &selected.rule) && self.local.with(self.key, same_host) == Some(true)
    }

    /// The endpoints of the backends that a rule sends requests to.
    fn hosts(&self, rule: &Rule) -> Vec<Arc<[UpstreamHost]>> {
        let served = rule.backends.iter().filter(|backend| backend.weight > 0);
        let clusters = served.filter_map(|backend| self.generation.clusters.get(backend.backend?));
        clusters.map(|cluster| cluster.hosts().clone()).collect()
    }

    pub(super) fn with_request<T>(&self, read: impl FnOnce(&RequestHead) -> T) -> Option<T> {
        self.local.with(self.key, |stream| read(&stream.request))
    }
}
