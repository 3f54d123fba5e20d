//! A life of one instance as the input says: phases in any order, ticks, completions, an exchange and a connection that
//! come and go. Checks what must hold whatever the guest does.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_vm::{
    CallId, CallOutcome, ContextId, Direction, Effect, GrpcCall, GrpcEvent, HttpCall, LocalReply,
    Module, Peer, Phase, Plugin, PluginSpec, QueueId, StreamKey, Streams, TcpStream, Trap,
};

use crate::host::{self, Record, Recorder};

/// Low bits of the numbers of callouts.
const HTTP: u32 = 0;
const GRPC: u32 = 1;

/// Names that no guest may set in a message that the host builds.
const FRAMING: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// An instance, what it lives among, and what it waits for.
pub struct Life {
    plugin: Plugin,
    streams: Streams,
    seats: [Option<(StreamKey, ContextId)>; 2],
    calls: BTreeSet<u32>,
}

impl Life {
    /// Starts it with an exchange; `None`: it trapped, or did not want to.
    #[must_use]
    pub fn start(module: &Module, spec: Arc<PluginSpec>) -> Option<Life> {
        let services = Box::new(Recorder(Arc::new(Record::default())));
        let plugin = Plugin::start(module, spec, services).ok()?;
        let streams = Streams::default();
        let mut life = Life { plugin, streams, seats: [None; 2], calls: BTreeSet::new() };
        life.seat(0)?;
        life.take_effects();
        Some(life)
    }

    /// One event.
    pub fn step(&mut self, event: u8) {
        let was_dead = self.plugin.trap().is_some();
        let ended = match event {
            0..=17 => self.phase(Phase::ALL[usize::from(event % 9)], event >= 9),
            18 => self.plugin.tick(&mut self.streams),
            19 => self.plugin.queue_ready(&mut self.streams, QueueId(1)),
            20 => self.answer(),
            21 => self.fail(),
            22 | 23 => {
                let seat = usize::from(event - 22);
                self.leave(seat).and_then(|()| self.seat(seat).map_or(Ok(()), Ok))
            }
            24 => self.with_exchange(|stream| stream.request_sent = true),
            25 => self.with_exchange(|stream| stream.response_sent = true),
            26 => self.with_exchange(|stream| stream.request_trailers = Some(Box::default())),
            27 => self.closed(Direction::Request),
            28 => self.closed(Direction::Response),
            29 => {
                self.calls.clear();
                self.plugin.fail_calls(&mut self.streams)
            }
            30 => self.grpc(|| GrpcEvent::InitialMetadata(Some(host::response(200, &[])))),
            31 => self.grpc(|| GrpcEvent::TrailingMetadata(host::headers(&[("x-end", "1")]))),
            _ => self.plugin.done(&mut self.streams).map(drop),
        };
        self.take_effects();
        let is_dead = self.plugin.trap().is_some();
        assert!(is_dead || !was_dead && ended.is_ok(), "a trap is the end");
        if is_dead {
            assert_eq!(self.plugin.outstanding_calls(), 0, "the dead wait for nothing");
            self.calls.clear();
        }
        assert_eq!(self.plugin.outstanding_calls(), self.calls.len());
        assert!(self.plugin.memory_bytes() <= self.plugin.spec().limits.memory);
    }

    /// Everything ends; each callout has had its one completion.
    pub fn end(mut self) {
        for seat in 0..self.seats.len() {
            let _dead = self.leave(seat);
        }
        assert_eq!(self.plugin.contexts(), 0);
        let _dead = self.plugin.fail_calls(&mut self.streams);
        self.plugin.delete(&mut self.streams);
        assert!(self.streams.is_empty());
    }

    /// An exchange takes seat 0, a connection seat 1.
    fn seat(&mut self, seat: usize) -> Option<()> {
        let key = match seat {
            0 => {
                let mut stream = host::stream();
                stream.response = Some(host::response(200, &[("x-upstream", "1")]));
                self.streams.insert(stream)
            }
            _ => self.streams.insert(Box::new(TcpStream::new(host::attributes()))),
        };
        match self.plugin.create_context(&mut self.streams, key) {
            Ok(context) => self.seats[seat] = Some((key, context)),
            Err(_) => drop(self.streams.remove(key)),
        }
        self.seats[seat].map(drop)
    }

    fn leave(&mut self, seat: usize) -> Result<(), Trap> {
        let Some((key, context)) = self.seats[seat].take() else { return Ok(()) };
        let ended = self.plugin.finish(&mut self.streams, context);
        assert!(self.streams.remove(key).is_some(), "streams come back");
        ended
    }

    fn phase(&mut self, phase: Phase, end: bool) -> Result<(), Trap> {
        let is_tcp =
            matches!(phase, Phase::NewConnection | Phase::DownstreamData | Phase::UpstreamData);
        let Some((key, context)) = self.seats[usize::from(is_tcp)] else { return Ok(()) };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.request_body.push(Bytes::from_static(b"a piece of the request"));
            stream.response_body.push(Bytes::from_static(b"a piece of the response"));
        }
        self.plugin.run(&mut self.streams, context, phase, end).map(drop)
    }

    fn closed(&mut self, direction: Direction) -> Result<(), Trap> {
        let Some((_, context)) = self.seats[1] else { return Ok(()) };
        self.plugin.closed(&mut self.streams, context, direction, Peer::Remote)
    }

    /// Of an HTTP call and of a unary gRPC call the completion; of a stream one message.
    fn answer(&mut self) -> Result<(), Trap> {
        match self.calls.first().map(|call| call & 3) {
            Some(HTTP) => self.complete(answered()),
            Some(GRPC) => self.calls.pop_first().map_or(Ok(()), |call| self.message(call)),
            Some(_) => self.calls.first().copied().map_or(Ok(()), |call| self.message(call)),
            None => Ok(()),
        }
    }

    fn fail(&mut self) -> Result<(), Trap> {
        match self.calls.first().map(|call| call & 3) {
            Some(HTTP) => self.complete(CallOutcome::Failed),
            Some(_) => {
                let Some(call) = self.calls.pop_first() else { return Ok(()) };
                let closed = GrpcEvent::Closed { status: 4, message: "too late".to_owned() };
                self.plugin.grpc_event(&mut self.streams, CallId(call), closed)
            }
            None => Ok(()),
        }
    }

    fn complete(&mut self, outcome: CallOutcome) -> Result<(), Trap> {
        let Some(call) = self.calls.pop_first() else { return Ok(()) };
        self.plugin.http_call_response(&mut self.streams, CallId(call), outcome)
    }

    fn message(&mut self, call: u32) -> Result<(), Trap> {
        let message = GrpcEvent::Message(Bytes::from_static(b"a message"));
        self.plugin.grpc_event(&mut self.streams, CallId(call), message)
    }

    /// Something that completes nothing.
    fn grpc(&mut self, event: impl FnOnce() -> GrpcEvent) -> Result<(), Trap> {
        let Some(call) = self.calls.iter().copied().find(|call| call & 3 != HTTP) else {
            return Ok(());
        };
        self.plugin.grpc_event(&mut self.streams, CallId(call), event())
    }

    fn with_exchange(
        &mut self,
        change: impl FnOnce(&mut portcullis_vm::HttpStream),
    ) -> Result<(), Trap> {
        if let Some((key, _)) = self.seats[0] {
            change(self.streams.get_mut(key).expect("it is there"));
        }
        Ok(())
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.plugin.next_effect() {
            match effect {
                Effect::HttpCall(call) => {
                    check_call(&call);
                    assert!(self.calls.insert(call.id.0), "a number is that of one callout");
                }
                Effect::GrpcCall(call) => {
                    check_grpc(&call);
                    assert!(self.calls.insert(call.id.0), "a number is that of one callout");
                }
                Effect::GrpcCancel(call) => drop(self.calls.remove(&call.0)),
                Effect::Reply(_, reply) => check_reply(&reply),
                _ => {}
            }
        }
    }
}

fn answered() -> CallOutcome {
    CallOutcome::Answered {
        head: host::response(200, &[("x-answer", "1")]),
        body: Bytes::from_static(b"an answer"),
        trailers: host::headers(&[("x-end", "1")]),
    }
}

fn check_call(call: &HttpCall) {
    let head = &call.head;
    for part in [&head.path, &head.authority, &head.scheme] {
        assert!(!part.is_empty() && part.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
    }
    assert_eq!(call.upstream, "backend");
    for framing in FRAMING {
        assert!(!head.headers.contains(framing) && !call.trailers.contains(framing));
    }
}

fn check_grpc(call: &GrpcCall) {
    let is_target = |text: &str| text.bytes().all(|byte| byte > b' ' && byte != 0x7f);
    assert!(call.path.starts_with('/') && is_target(&call.path) && is_target(&call.authority));
    assert_eq!(call.upstream, "backend");
    assert!(!call.metadata.contains("connection"));
}

fn check_reply(reply: &LocalReply) {
    assert!((100..600).contains(&reply.status.as_u16()));
    assert!(!reply.details.contains(char::is_whitespace));
    assert!(reply.grpc_status.is_none_or(|status| status <= 16));
    for framing in FRAMING {
        assert!(!reply.headers.contains(framing));
    }
}
