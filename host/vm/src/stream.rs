//! One exchange inside one instance: its context, its phases, its end.

use crate::abi::numbers::ROOT_CONTEXT;
use crate::buffer::Buffer;
use crate::effects::ContextId;
use crate::error::Trap;
use crate::guest::Moment;
use crate::hostcalls::View;
use crate::instance::{Entry, Instance};
use crate::phase::{Action, Direction, Peer, Phase};
use crate::state::{Stream, StreamKey, Streams, TcpStream};

impl Instance {
    /// `proxy_on_context_create` for an exchange.
    pub(crate) fn create_context(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
    ) -> Result<ContextId, Trap> {
        if let Some(trap) = self.trap() {
            return Err(trap.clone());
        }
        let context = self.guest_mut().contexts.create(stream);
        let callback = "proxy_on_context_create";
        let context = ContextId { number: context, stream };
        let entry = Entry { callback, moment: Moment::Root, context: Some(context) };
        let created = self.call(streams, entry, |callbacks, store| {
            let Some(create) = &callbacks.context_create else { return Ok(()) };
            create.call(store, (context.number, ROOT_CONTEXT))
        });
        if created.is_err() {
            self.guest_mut().contexts.delete(context.number);
        }
        created.map(|()| context)
    }

    /// Calls the guest for one phase.
    pub(crate) fn run(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<Action, Trap> {
        let size = streams.stream(context.stream).map(|stream| size(stream, phase) as u32);
        let (Some(size), true) = (size, self.callbacks().phases.contains(phase)) else {
            return self.trap().map_or(Ok(Action::Continue), |trap| Err(trap.clone()));
        };
        let moment = Moment::Stream { phase, end_of_stream };
        let entry = Entry { callback: name(phase), moment, context: Some(context) };
        let context = context.number;
        let answer = self.call(streams, entry, |callbacks, store| {
            if let Some(callback) = callbacks.headers(phase) {
                callback.call(store, context, size, end_of_stream)
            } else if let Some(callback) = callbacks.body(phase) {
                callback.call(store, (context, size, u32::from(end_of_stream)))
            } else if let Some(callback) = callbacks.trailers(phase) {
                callback.call(store, (context, size))
            } else if let Some(callback) = callbacks.new_connection(phase) {
                callback.call(store, context)
            } else {
                Ok(0)
            }
        })?;
        Ok(Action::of(phase, answer, self.pause()))
    }

    /// Tells the guest that one of the two connections of a TCP stream has ended.
    pub(crate) fn closed(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        direction: Direction,
        by: Peer,
    ) -> Result<(), Trap> {
        let callback = match direction {
            Direction::Request => "proxy_on_downstream_connection_close",
            Direction::Response => "proxy_on_upstream_connection_close",
        };
        let entry = Entry { callback, moment: Moment::Closed, context: Some(context) };
        self.call(streams, entry, |callbacks, store| {
            let Some(closed) = callbacks.closed(direction) else { return Ok(()) };
            closed.call(store, (context.number, by as u32))
        })
    }

    /// The last callbacks of a stream: `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`, for TCP `proxy_on_done` first,
    /// as Envoy has it. The context is gone afterwards, also after a trap.
    pub(crate) fn finish(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        if !self.guest().contexts.contains(context.number) {
            return Ok(());
        }
        let finished = self.last_callbacks(streams, context);
        let guest = self.guest_mut();
        guest.calls.forget(context.stream);
        guest.contexts.delete(context.number);
        finished
    }

    fn last_callbacks(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        match streams.tcp(context.stream) {
            Some(_) => {
                self.done(streams, context)?;
                self.log(streams, context)?;
            }
            None => {
                self.log(streams, context)?;
                self.done(streams, context)?;
            }
        }
        self.call(streams, last("proxy_on_delete", context), |callbacks, store| {
            callbacks.delete.as_ref().map_or(Ok(()), |delete| delete.call(store, context.number))
        })
    }

    fn log(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        self.call(streams, last("proxy_on_log", context), |callbacks, store| {
            callbacks.log.as_ref().map_or(Ok(()), |log| log.call(store, context.number))
        })
    }

    fn done(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        self.call(streams, last("proxy_on_done", context), |callbacks, store| {
            callbacks.done.as_ref().map_or(Ok(1), |done| done.call(store, context.number))
        })?;
        Ok(())
    }
}

fn last(callback: &'static str, context: ContextId) -> Entry {
    Entry { callback, moment: Moment::Finish, context: Some(context) }
}

/// What a phase's callback is told of its size: entries of a map, bytes of a body or of a connection.
fn size(stream: &Stream, phase: Phase) -> usize {
    let stream = match stream {
        Stream::Http(stream) => stream,
        Stream::Tcp(stream) => return bytes(stream, phase),
    };
    match phase {
        Phase::RequestHeaders => View::Request(&stream.request).len(),
        Phase::RequestBody => stream.request_body.len(),
        Phase::RequestTrailers => stream.request_trailers.as_ref().map_or(0, |map| map.len()),
        Phase::ResponseHeaders => {
            stream.response.as_ref().map_or(0, |head| View::Response(head).len())
        }
        Phase::ResponseBody => stream.response_body.len(),
        Phase::ResponseTrailers => stream.response_trailers.as_ref().map_or(0, |map| map.len()),
        Phase::NewConnection | Phase::DownstreamData | Phase::UpstreamData => 0,
    }
}

fn bytes(stream: &TcpStream, phase: Phase) -> usize {
    let data = match phase {
        Phase::DownstreamData => stream.downstream.as_ref(),
        Phase::UpstreamData => stream.upstream.as_ref(),
        _ => None,
    };
    data.map_or(0, Buffer::len)
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::RequestHeaders => "proxy_on_request_headers",
        Phase::RequestBody => "proxy_on_request_body",
        Phase::RequestTrailers => "proxy_on_request_trailers",
        Phase::ResponseHeaders => "proxy_on_response_headers",
        Phase::ResponseBody => "proxy_on_response_body",
        Phase::ResponseTrailers => "proxy_on_response_trailers",
        Phase::NewConnection => "proxy_on_new_connection",
        Phase::DownstreamData => "proxy_on_downstream_data",
        Phase::UpstreamData => "proxy_on_upstream_data",
    }
}
