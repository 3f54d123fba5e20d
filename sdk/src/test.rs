//! Tests of filters without Wasm: a host in the test's own thread, with a clock that stands still
//! until it is told to move, and lots that fall the same way every time.
//!
//! Only the phases that `filter!` lists are delivered, as on a real host. One [`Host`] at a time
//! in a thread.

use std::cell::RefCell;
use std::time::Duration;

use proxy_wasm::traits::{HttpContext, RootContext};
use proxy_wasm::types::Action;

use crate::filter::{Filter, Phases};
use crate::host::world::{self, Headers, ROOT, World, world};
use crate::plugin::{Root, parse};
use crate::{host, random};

/// A host with one configured filter.
pub struct Host {
    root: RefCell<Box<dyn RootContext>>,
}

impl Host {
    /// Starts and configures a filter.
    ///
    /// # Panics
    /// The filter refuses its configuration; the message says why.
    pub fn of<F: Filter + Phases>(configuration: &str) -> Host {
        world(|world| {
            assert!(!world.alive, "one Host at a time in a thread");
            *world = World {
                alive: true,
                now: Duration::from_secs(1_700_000_000),
                configuration: configuration.into(),
                current: ROOT,
                ..World::default()
            };
        });
        // The logger is one for the process, whichever test comes first.
        if log::set_logger(&Logger).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
        random::seed(1);
        let host = Host { root: RefCell::new(Box::new(Root::<F>::new(ROOT))) };
        let accepted = host.root.borrow_mut().on_configure(configuration.len());
        assert!(accepted, "the filter refuses its configuration: {:?}", host.logs());
        host
    }

    /// Why a filter refuses a configuration: the line that it logs.
    ///
    /// # Panics
    /// It accepts it.
    pub fn refusal<F: Filter>(configuration: &str) -> String {
        let error = parse::<F>(configuration.as_bytes()).err();
        assert!(error.is_some(), "the filter accepts {configuration}");
        error.map(|error| error.to_string()).unwrap_or_default()
    }

    /// Draws other lots.
    #[must_use]
    pub fn seed(self, seed: u64) -> Host {
        random::seed(seed);
        self
    }

    /// A `GET` request, to be completed and sent.
    pub fn get(&self, path: &str) -> Exchange<'_> {
        self.request("GET", path)
    }

    /// A request, to be completed and sent.
    pub fn request(&self, method: &str, path: &str) -> Exchange<'_> {
        let head = [
            (":method", method),
            (":path", path),
            (":authority", "example.test"),
            (":scheme", "http"),
        ];
        let request = head.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
        let exchange = world::Exchange { request, ..world::Exchange::default() };
        let answer = vec![(":status".to_owned(), b"200".to_vec())];
        Exchange { host: self, exchange, answer, body: false }
            .property(&["source", "address"], "192.0.2.1:40000")
    }

    /// Moves the clock on; timers fire on the way.
    pub fn advance(&self, duration: Duration) {
        let end = world(|world| world.now) + duration;
        while self.tick(end) {}
        world(|world| world.now = end);
    }

    /// What a counter or gauge stands at, or a histogram's sum; 0 where it was never used.
    pub fn metric(&self, name: &str) -> u64 {
        world(|world| {
            world.metrics.iter().find(|metric| metric.name == name).map_or(0, |metric| metric.value)
        })
    }

    /// What the filter has logged, `level: text`, in lower case.
    pub fn logs(&self) -> Vec<String> {
        world(|world| world.logs.clone())
    }

    /// Whether the filter has a timer running.
    pub fn ticking(&self) -> bool {
        world(|world| world.tick.is_some())
    }

    /// Fires the timer if it is due by `end`.
    fn tick(&self, end: Duration) -> bool {
        let due = world(|world| {
            let (period, next) = world.tick.filter(|(_, next)| *next <= end)?;
            world.now = next;
            world.tick = Some((period, next + period));
            world.current = ROOT;
            Some(())
        });
        if due.is_some() {
            self.root.borrow_mut().on_tick();
        }
        due.is_some()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        world(|world| world.alive = false);
    }
}

/// A request that is being put together, and what the upstream would answer.
#[must_use = "nothing happens before it is sent"]
pub struct Exchange<'h> {
    host: &'h Host,
    exchange: world::Exchange,
    answer: Headers,
    body: bool,
}

impl<'h> Exchange<'h> {
    /// Adds a header; `:authority` and the other pseudo headers are replaced.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Exchange<'h> {
        let name = name.to_lowercase();
        if name.starts_with(':') {
            world::remove(&mut self.exchange.request, &name);
        }
        self.exchange.request.push((name, value.as_ref().to_vec()));
        self
    }

    /// Sets a property, in the host's encoding.
    pub fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Exchange<'h> {
        self.exchange.properties.insert(path.join("\0").into(), value.as_ref().to_vec());
        self
    }

    /// The client's address and port.
    pub fn peer(self, address: &str) -> Exchange<'h> {
        self.property(&["source", "address"], address)
    }

    /// The request has a body.
    pub fn with_body(mut self) -> Exchange<'h> {
        self.body = true;
        self
    }

    /// The upstream answers with this status (200 otherwise).
    pub fn answer(mut self, status: u16) -> Exchange<'h> {
        world::remove(&mut self.answer, ":status");
        self.answer.push((":status".to_owned(), status.to_string().into()));
        self
    }

    /// The upstream answers with this header.
    pub fn answer_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Exchange<'h> {
        self.answer.push((name.to_lowercase(), value.as_ref().to_vec()));
        self
    }

    /// Sends it and, while the filter holds it back, moves the clock on.
    ///
    /// # Panics
    /// The filter holds it back for ever.
    pub fn send(self) -> Outcome {
        let pending = self.start();
        while pending.waits() && pending.host.tick(Duration::MAX) {}
        pending.end()
    }

    /// Sends it, and leaves the clock alone.
    ///
    /// # Panics
    /// Never: the SDK makes a context for every exchange.
    pub fn start(self) -> Pending<'h> {
        let (id, started) = world(|world| {
            let id = world.streams.keys().next_back().map_or(ROOT, |last| *last) + 1;
            world.streams.insert(id, self.exchange);
            (id, world.now)
        });
        let context = self.host.root.borrow().create_http_context(id);
        assert!(context.is_some(), "the SDK makes a context for every exchange");
        let mut pending = Pending { host: self.host, id, started, context, answer: self.answer };
        pending.request(self.body);
        pending
    }
}

/// A request that was sent; its filter may be holding it back.
pub struct Pending<'h> {
    host: &'h Host,
    id: u32,
    started: Duration,
    context: Option<Box<dyn HttpContext>>,
    answer: Headers,
}

impl Pending<'_> {
    /// Whether the filter holds it back now.
    pub fn waits(&self) -> bool {
        self.look(|exchange| exchange.released.is_none())
    }

    /// The rest of the exchange.
    ///
    /// # Panics
    /// The filter holds the request back.
    pub fn end(mut self) -> Outcome {
        assert!(!self.waits(), "the filter holds this request back");
        let answer = std::mem::take(&mut self.answer);
        let delayed = self.look(|exchange| {
            if !exchange.replied {
                exchange.response = answer;
            }
            exchange.released.unwrap_or_default()
        }) - self.started;
        if let Some(context) = &mut self.context {
            let count = world(|world| {
                world.current = self.id;
                world.exchange().map_or(0, |exchange| exchange.response.len())
            });
            context.on_http_response_headers(count, false);
            context.on_log();
        }
        self.context = None;
        let exchange = world(|world| world.streams.remove(&self.id)).unwrap_or_default();
        Outcome { exchange, delayed }
    }

    fn request(&mut self, body: bool) {
        let Some(context) = &mut self.context else { return };
        let count = world(|world| {
            world.current = self.id;
            world.exchange().map_or(0, |exchange| exchange.request.len())
        });
        let head = context.on_http_request_headers(count, !body);
        // A host that goes on reading: a chunk that passes takes the head along.
        let passed = head == Action::Continue
            || (body && context.on_http_request_body(1, true) == Action::Continue);
        world(|world| {
            world.current = self.id;
            if passed {
                world.release();
            }
        });
    }

    fn look<R: Default>(&self, look: impl FnOnce(&mut world::Exchange) -> R) -> R {
        world(|world| world.streams.get_mut(&self.id).map(look)).unwrap_or_default()
    }
}

impl Drop for Pending<'_> {
    /// The client goes away.
    fn drop(&mut self) {
        self.context = None;
        world(|world| world.streams.remove(&self.id));
    }
}

/// What became of a request.
pub struct Outcome {
    exchange: world::Exchange,
    delayed: Duration,
}

impl Outcome {
    /// The response's status; 0 where the filter removed it.
    pub fn status(&self) -> u16 {
        self.header(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The status of a gRPC answer.
    pub fn grpc_status(&self) -> Option<u16> {
        self.header("grpc-status")?.parse().ok()
    }

    /// The first value of a response header.
    pub fn header(&self, name: &str) -> Option<String> {
        texts(&self.exchange.response, name).into_iter().next()
    }

    /// The body of the filter's own reply.
    pub fn body(&self) -> String {
        host::text(self.exchange.body.clone())
    }

    /// Whether the upstream saw it, rather than the filter answering.
    pub fn reached_upstream(&self) -> bool {
        !self.exchange.replied
    }

    /// The values of a request header as the upstream saw them.
    pub fn upstream_headers(&self, name: &str) -> Vec<String> {
        texts(&self.exchange.request, name)
    }

    /// How long the filter held the request back.
    pub fn delayed(&self) -> Duration {
        self.delayed
    }
}

fn texts(headers: &Headers, name: &str) -> Vec<String> {
    let named = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.map(|(_, value)| host::text(value.clone())).collect()
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args()).to_lowercase();
        world(|world| world.logs.push(line));
    }

    fn flush(&self) {}
}
