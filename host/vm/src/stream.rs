//! One exchange inside one instance: its context, its phases, its end.

use crate::abi::numbers::ROOT_CONTEXT;
use crate::buffer::Buffer;
use crate::effects::ContextId;
use crate::error::Trap;
use crate::guest::{Entry, Moment, Steps};
use crate::hostcalls::View;
use crate::instance::Instance;
use crate::phase::{Action, Direction, Peer, Phase};
use crate::state::{Stream, StreamKey, Streams, TcpStream};

impl Instance {
    /// `proxy_on_context_create` for an exchange.
    pub(crate) fn create_context(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
    ) -> Result<ContextId, Trap> {
        self.lend(streams, |instance| instance.create(stream))
    }

    /// `proxy_on_context_create` for an exchange, and at once its first phase, if the guest has a callback for it.
    pub(crate) fn open(
        &mut self,
        streams: &mut Streams,
        stream: StreamKey,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<(ContextId, Action), Trap> {
        self.lend(streams, |instance| {
            let context = instance.create(stream)?;
            if !instance.callbacks().phases.contains(phase) {
                return Ok((context, Action::Continue));
            }
            let action = instance.show(context, phase, end_of_stream)?;
            Ok((context, action))
        })
    }

    /// Calls the guest for one phase.
    pub(crate) fn run(
        &mut self,
        streams: &mut Streams,
        context: ContextId,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<Action, Trap> {
        self.lend(streams, |instance| instance.show(context, phase, end_of_stream))
    }

    fn create(&mut self, stream: StreamKey) -> Result<ContextId, Trap> {
        let callback = "proxy_on_context_create";
        let context = self.guest_mut().contexts.create(stream);
        let entry = Entry { callback, moment: Moment::Root, context: Some(context) };
        let created = self.enter(entry, |callbacks, store| {
            let Some(create) = &callbacks.context_create else { return Ok(()) };
            create.call(store, (context.number(), ROOT_CONTEXT))
        });
        if created.is_err() {
            self.guest_mut().contexts.delete(context.number());
        }
        created.map(|()| context)
    }

    fn show(
        &mut self,
        context: ContextId,
        phase: Phase,
        end_of_stream: bool,
    ) -> Result<Action, Trap> {
        let Some(stream) = self.guest().streams.stream(context.stream) else {
            return Ok(Action::Continue);
        };
        let size = size(stream, phase) as u32;
        let moment = Moment::Stream { phase, end_of_stream };
        let entry = Entry { callback: phase.callback(), moment, context: Some(context) };
        let answer = self.enter(entry, |callbacks, store| match callbacks.phase(phase) {
            Some(callback) => callback.call(store, context.number(), size, end_of_stream),
            None => Ok(0),
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
            closed.call(store, (context.number(), by as u32))
        })
    }

    /// The last callbacks of a stream: `proxy_on_log`, `proxy_on_done`, `proxy_on_delete`, for TCP `proxy_on_done` first,
    /// as Envoy has it. The context is gone afterwards, also after a trap.
    pub(crate) fn finish(&mut self, streams: &mut Streams, context: ContextId) -> Result<(), Trap> {
        if !self.guest().contexts.contains(context.number()) {
            return Ok(());
        }
        let done_first = streams.tcp(context.stream).is_some();
        let finished = self.lend(streams, |instance| {
            if done_first {
                instance.done(context)?;
                instance.log(context)?;
                return instance.delete(context);
            }
            let made = match instance.callbacks().finish.is_some() {
                true => instance.finish_at_once(context)?,
                false => 0,
            };
            if made == 0 {
                instance.log(context)?;
            }
            if made <= 1 {
                instance.done(context)?;
            }
            if made <= 2 {
                instance.delete(context)?;
            }
            Ok(())
        });
        let guest = self.guest_mut();
        guest.calls.forget(context.stream);
        guest.contexts.delete(context.number());
        finished
    }

    /// The three callbacks at one entry; says how many of them the guest has made.
    fn finish_at_once(&mut self, context: ContextId) -> Result<usize, Trap> {
        self.enter_for(Steps::new(context), |callbacks, store| {
            callbacks.finish.as_ref().map_or(Ok(()), |finish| finish.call(store, context.number()))
        })
    }

    fn log(&mut self, context: ContextId) -> Result<(), Trap> {
        self.enter(last("proxy_on_log", context), |callbacks, store| {
            callbacks.log.as_ref().map_or(Ok(()), |log| log.call(store, context.number()))
        })
    }

    fn done(&mut self, context: ContextId) -> Result<(), Trap> {
        self.enter(last("proxy_on_done", context), |callbacks, store| {
            callbacks.done.as_ref().map_or(Ok(1), |done| done.call(store, context.number()))
        })?;
        Ok(())
    }

    fn delete(&mut self, context: ContextId) -> Result<(), Trap> {
        self.enter(last("proxy_on_delete", context), |callbacks, store| {
            callbacks.delete.as_ref().map_or(Ok(()), |delete| delete.call(store, context.number()))
        })
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
