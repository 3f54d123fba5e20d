//! Whose turn it is: round robin by weight over endpoints, and over the addresses of a name. Names are looked up by the
//! system's resolver, again and again while they are used; the last good answer outlives a failing resolver.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Stage;
use crate::snapshot::{Endpoint, EndpointAddress};

/// An answer that is older is renewed in the background.
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// An answer that is older is not used before a renewal was tried: the address may have a new owner.
const TRUST_FOR: Duration = Duration::from_secs(60);
/// A name without any answer is asked for again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Endpoints {
    places: Vec<Place>,
    turns: RefCell<BinaryHeap<Reverse<Turn>>>,
}

/// When a place is due next: the earliest deadline first, as in Envoy's round robin. In the time of one [`ROUND`] each
/// place has as many turns as its weight says, evenly spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u128,
    place: usize,
    /// From one turn to the next.
    stride: u128,
}

/// Much more than a weight can be, so that strides are precise.
const ROUND: u128 = 1 << 64;

#[derive(Debug)]
enum Place {
    Ip(SocketAddr),
    Name(Rc<Name>),
}

#[derive(Debug)]
struct Name {
    host: String,
    port: u16,
    turn: Cell<usize>,
    answer: RefCell<Answer>,
    renewed: Notify,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Vec<SocketAddr>,
    problem: String,
    /// When the last lookup ended, well or not.
    at: Option<Instant>,
    asking: bool,
}

impl Endpoints {
    /// Each worker begins at another point of the round, so that they do not all meet at the first.
    pub(super) fn new(endpoints: &[Endpoint]) -> Endpoints {
        let place = |endpoint: &Endpoint| match &endpoint.address {
            EndpointAddress::Ip(address) => Place::Ip(*address),
            EndpointAddress::Dns(host, port) => Place::Name(Rc::new(Name::new(host, *port))),
        };
        let turn = |(place, endpoint): (usize, &Endpoint)| {
            let stride = ROUND.checked_div(endpoint.weight.into())?;
            let due = u128::from(fastrand::u64(..)) % stride;
            Some(Reverse(Turn { due, place, stride }))
        };
        Endpoints {
            places: endpoints.iter().map(place).collect(),
            turns: RefCell::new(endpoints.iter().enumerate().filter_map(turn).collect()),
        }
    }

    /// Addresses that are known at the moment.
    pub(super) fn addresses(&self) -> usize {
        let known = |place: &Place| match place {
            Place::Ip(_) => 1,
            Place::Name(name) => name.answer.borrow().addresses.len(),
        };
        self.places.iter().map(known).sum()
    }

    /// The address whose turn it is, or one of `chosen`. Waits only for a name's first answer.
    pub(super) async fn next(&self, chosen: Option<usize>) -> Result<SocketAddr, (Stage, String)> {
        if let Some(place) = chosen.and_then(|chosen| self.places.get(chosen)) {
            return place.address().await.map_err(|reason| (Stage::Resolve, reason));
        }
        let mut problem = None;
        for _ in 0..self.places.len() {
            let Some(place) = self.turn() else { break };
            match place.address().await {
                Ok(address) => return Ok(address),
                Err(reason) => problem = Some((Stage::Resolve, reason)),
            }
        }
        Err(problem.unwrap_or_else(|| (Stage::Endpoint, "the backend has no endpoint".to_owned())))
    }

    fn turn(&self) -> Option<&Place> {
        if let [only] = self.places.as_slice() {
            return Some(only);
        }
        let mut turns = self.turns.borrow_mut();
        let mut first = turns.peek_mut()?;
        let Reverse(turn) = &mut *first;
        turn.due += turn.stride;
        let place = turn.place;
        self.places.get(place)
    }
}

impl Place {
    async fn address(&self) -> Result<SocketAddr, String> {
        match self {
            Place::Ip(address) => Ok(*address),
            // Large, and mostly not needed: kept out of the state that each request carries.
            Place::Name(name) => Box::pin(name.next()).await,
        }
    }
}

impl Name {
    fn new(host: &str, port: u16) -> Name {
        Name {
            host: host.to_owned(),
            port,
            turn: Cell::new(fastrand::usize(..1 << 16)),
            answer: RefCell::default(),
            renewed: Notify::new(),
        }
    }

    async fn next(self: &Rc<Self>) -> Result<SocketAddr, String> {
        loop {
            self.renew_if_due();
            if let Some(usable) = self.usable() {
                return usable;
            }
            self.renewed.notified().await;
        }
    }

    /// `None` while the answer to wait for is not there.
    fn usable(&self) -> Option<Result<SocketAddr, String>> {
        let answer = self.answer.borrow();
        if answer.asking && answer.at.is_none_or(|at| at.elapsed() > TRUST_FOR) {
            return None;
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let addresses = &answer.addresses;
        match addresses.get(turn.checked_rem(addresses.len()).unwrap_or(0)) {
            Some(address) => Some(Ok(*address)),
            None if answer.asking => None,
            None => Some(Err(format!("{}: {}", self.host, answer.problem))),
        }
    }

    fn renew_if_due(self: &Rc<Self>) {
        let mut answer = self.answer.borrow_mut();
        let wait = if answer.addresses.is_empty() { RETRY_AFTER } else { RENEW_AFTER };
        if answer.asking || answer.at.is_some_and(|at| at.elapsed() < wait) {
            return;
        }
        answer.asking = true;
        let name = self.clone();
        tokio::task::spawn_local(async move { name.renew().await });
    }

    async fn renew(&self) {
        let found = lookup_host((self.host.as_str(), self.port)).await;
        let mut answer = self.answer.borrow_mut();
        answer.asking = false;
        answer.at = Some(Instant::now());
        match found.map(preferred) {
            Ok(addresses) if !addresses.is_empty() => answer.addresses = addresses,
            Ok(_) => answer.problem = "the name has no address".to_owned(),
            Err(problem) => answer.problem = problem.to_string(),
        }
        drop(answer);
        self.renewed.notify_waiters();
    }
}

/// IPv4 where there is any, else IPv6: a host that is named in both often listens on one alone. Sorted, so that the
/// rotation goes on where it was.
fn preferred(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = found.collect();
    if addresses.iter().any(SocketAddr::is_ipv4) {
        addresses.retain(SocketAddr::is_ipv4);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
