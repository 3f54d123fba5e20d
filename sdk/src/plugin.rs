//! Runs a [`Filter`] behind the `proxy-wasm` crate's contexts: configures it, polls its request
//! phase once in the callback, and resumes what sleeps from the root context's one timer.
//!
//! A task is taken out of the map, polled, and put back, so that nothing is borrowed while the
//! author's code runs. Dropping a stream's context drops its task.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Polling, Poll, Waker};

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use crate::filter::{ConfigError, Filter, Flow, Phases};
use crate::sleep::Timer;
use crate::{Reply, Request, Response, Summary, host};

type Task = Pin<Box<dyn Future<Output = Flow>>>;

/// The request phases that sleep, by their stream's context.
type Tasks = Rc<RefCell<BTreeMap<u32, Task>>>;

/// Makes `F` this module's filter; called once, by [`filter!`](crate::filter!).
pub fn install<F: Filter + Phases>() {
    // The host has its own threshold, and asking for it traps on some hosts.
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Trace);
    proxy_wasm::set_root_context(|id| Box::new(Root::<F>::new(id)));
}

/// The plugin: one configured filter, and its timer.
pub(crate) struct Root<F> {
    id: u32,
    filter: Option<Rc<F>>,
    tasks: Tasks,
    timer: Timer,
}

impl<F: Filter + Phases> Root<F> {
    pub(crate) fn new(id: u32) -> Root<F> {
        Root { id, filter: None, tasks: Tasks::default(), timer: Timer::default() }
    }

    pub(crate) fn stream(&self, id: u32) -> Stream<F> {
        Stream {
            id,
            filter: self.filter.clone(),
            tasks: self.tasks.clone(),
            timer: self.timer.clone(),
        }
    }
}

impl<F> Context for Root<F> {}

impl<F: Filter + Phases> RootContext for Root<F> {
    fn on_configure(&mut self, _size: usize) -> bool {
        match parse::<F>(&host::configuration()) {
            Ok(filter) => {
                self.filter = Some(Rc::new(filter));
                true
            }
            Err(error) => {
                log::error!("{error}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        for id in self.timer.fired() {
            // Nothing there: the exchange has ended while its filter slept.
            let Some(task) = self.tasks.borrow_mut().remove(&id) else { continue };
            if hostcalls::set_effective_context(id).is_err() {
                continue;
            }
            match poll(id, task, &self.timer) {
                Err(task) => {
                    self.tasks.borrow_mut().insert(id, task);
                }
                Ok(Ok(())) => {
                    let _ = hostcalls::resume_http_request();
                }
                Ok(Err(reply)) => reply.send(),
            }
        }
        let _ = hostcalls::set_effective_context(self.id);
        self.timer.arm();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(self.stream(id)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// The filter's view of one exchange.
pub(crate) struct Stream<F> {
    id: u32,
    filter: Option<Rc<F>>,
    tasks: Tasks,
    timer: Timer,
}

impl<F> Stream<F> {
    /// Hosts that go on reading while the head is held call the body phases: letting a chunk pass
    /// would let the head pass too.
    fn held(&self) -> Action {
        match self.tasks.borrow().contains_key(&self.id) {
            true => Action::Pause,
            false => Action::Continue,
        }
    }
}

impl<F> Drop for Stream<F> {
    fn drop(&mut self) {
        self.tasks.borrow_mut().remove(&self.id);
    }
}

impl<F: Filter + Phases> Context for Stream<F> {}

impl<F: Filter + Phases> HttpContext for Stream<F> {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let Some(filter) = self.filter.clone() else {
            Reply::new(500).send();
            return Action::Pause;
        };
        if !F::REQUEST {
            return Action::Continue;
        }
        let task: Task =
            Box::pin(async move { filter.request(&mut Request::of_stream(!end_of_stream)).await });
        match poll(self.id, task, &self.timer) {
            Ok(Ok(())) => Action::Continue,
            Ok(Err(reply)) => {
                reply.send();
                Action::Pause
            }
            Err(task) => {
                self.tasks.borrow_mut().insert(self.id, task);
                self.timer.arm();
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        self.held()
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.held()
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        if F::RESPONSE
            && let Some(filter) = &self.filter
        {
            filter.response(&mut Response::of_stream());
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if F::LOG
            && let Some(filter) = &self.filter
        {
            filter.log(&Summary::of_stream());
        }
    }
}

/// Polls a stream's task once; gives it back when it is not done.
fn poll(id: u32, mut task: Task, timer: &Timer) -> Result<Flow, Task> {
    let _entered = timer.enter(id);
    match task.as_mut().poll(&mut Polling::from_waker(Waker::noop())) {
        Poll::Ready(flow) => Ok(flow),
        Poll::Pending => Err(task),
    }
}

/// Deserialises and checks a configuration.
pub(crate) fn parse<F: Filter>(bytes: &[u8]) -> Result<F, ConfigError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let filter: F = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = match error.inner().is_data() {
            true => error.path().to_string(),
            false => String::new(),
        };
        ConfigError::new(path, plain(error.inner()))
    })?;
    json.end().map_err(|error| ConfigError::new("", plain(&error)))?;
    filter.check()?;
    Ok(filter)
}

/// Without line and column where the text is well-formed: hosts write this JSON themselves, from
/// YAML, so that its positions mean nothing to the reader.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((problem, _)) if error.is_data() => problem.to_owned(),
        _ => text,
    }
}
