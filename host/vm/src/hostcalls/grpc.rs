//! `proxy_grpc_*`: unary calls and streams. What the guest asks for is recorded; the embedder calls and reports what comes
//! back, and that each has ended, once.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::Linker;

use super::edit::{is_target, message_fields};
use super::{Call, Done, Span, Stop, hostcall, slice};
use crate::abi::grpc_service::GrpcService;
use crate::abi::numbers::Status;
use crate::abi::pairs;
use crate::effects::{CallId, Effect, GrpcCall};
use crate::guest::{CallKind, Guest, Moment};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_grpc_call", |call,
                                          up,
                                          up_size,
                                          service,
                                          service_size,
                                          method,
                                          method_size,
                                          metadata,
                                          metadata_size,
                                          message,
                                          message_size,
                                          timeout,
                                          id| {
        let request = Request {
            upstream: Span(up, up_size),
            service: Span(service, service_size),
            method: Span(method, method_size),
            metadata: Span(metadata, metadata_size),
            unary: Some((Span(message, message_size), timeout)),
        };
        start(call, &request, id)
    });
    hostcall!(linker, "proxy_grpc_stream", |call,
                                            up,
                                            up_size,
                                            service,
                                            service_size,
                                            method,
                                            method_size,
                                            metadata,
                                            metadata_size,
                                            id| {
        let request = Request {
            upstream: Span(up, up_size),
            service: Span(service, service_size),
            method: Span(method, method_size),
            metadata: Span(metadata, metadata_size),
            unary: None,
        };
        start(call, &request, id)
    });
    hostcall!(linker, "proxy_grpc_send", |call, id, message, size, end| {
        send(call, CallId(id), Span(message, size), end)
    });
    hostcall!(linker, "proxy_grpc_cancel", |call, id| cancel(call, CallId(id)));
    hostcall!(linker, "proxy_grpc_close", |call, id| close(call, CallId(id)));
    Ok(())
}

/// Where the guest keeps the parts of a call; a unary one has a message and a time limit.
struct Request {
    upstream: Span,
    service: Span,
    method: Span,
    metadata: Span,
    unary: Option<(Span, u32)>,
}

fn start(call: &mut Call<'_>, request: &Request, id: u32) -> Done {
    call.write_u32(id, 0)?;
    if call.guest().moment == Moment::StartUp {
        call.ignored("there is no context yet")?;
        return Err(Status::InternalFailure.into());
    }
    let message = request.unary.map_or(Span(0, 0), |unary| unary.0);
    let parts = [request.upstream, request.service, request.method, request.metadata, message];
    for span in parts {
        call.claim(span)?;
    }
    let mut grpc = read(call, request)?;
    let kind = if request.unary.is_some() { CallKind::Grpc } else { CallKind::GrpcStream };
    grpc.id = call.begin(kind, parts.map(|span| span.1 as usize).iter().sum())?;
    let number = grpc.id.0;
    call.record(Effect::GrpcCall(grpc))?;
    call.write_u32(id, number)
}

/// What cannot be called is a parse failure, as in Envoy: the SDKs take no other answer of that kind.
fn read(call: &mut Call<'_>, request: &Request) -> Result<GrpcCall, Stop> {
    let name = call.name;
    let (memory, guest) = call.split();
    let upstream = slice(memory, request.upstream)?;
    let target = match GrpcService::decode(upstream) {
        Some(target) => target,
        None => GrpcService { cluster: text(upstream)?, ..GrpcService::default() },
    };
    if !guest.services.knows_upstream(target.cluster) || !is_target(target.authority.as_bytes()) {
        return Err(Status::ParseFailure.into());
    }
    let service = text(slice(memory, request.service)?)?;
    let method = text(slice(memory, request.method)?)?;
    let pairs = pairs::decode(slice(memory, request.metadata)?).ok_or(Status::ParseFailure)?;
    let metadata = [target.metadata, pairs].concat();
    let (metadata, left_out) = message_fields(&metadata);
    if let Err(why) = left_out {
        guest.violation(name, why);
    }
    let message = request.unary.map(|(message, _)| slice(memory, message)).transpose()?;
    let timeout = request.unary.map_or(0, |unary| unary.1);
    Ok(GrpcCall {
        id: CallId(0),
        upstream: target.cluster.to_owned(),
        authority: target.authority.to_owned(),
        path: format!("/{service}/{method}"),
        metadata,
        message: message.map(Bytes::copy_from_slice),
        timeout: (timeout != 0).then(|| Duration::from_millis(u64::from(timeout))),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Status> {
    let text = std::str::from_utf8(bytes).map_err(|_| Status::ParseFailure)?;
    if text.is_empty() || !is_target(bytes) {
        return Err(Status::ParseFailure);
    }
    Ok(text)
}

fn send(call: &mut Call<'_>, id: CallId, message: Span, end: u32) -> Done {
    if CallKind::of(id) != CallKind::GrpcStream {
        return Err(Status::BadArgument.into());
    }
    call.claim(message)?;
    let message = Bytes::copy_from_slice(call.read(message)?);
    if call.guest().calls.is_open(id) {
        call.record(Effect::GrpcSend(id, message))?;
        return if end == 0 { Ok(()) } else { close(call, id) };
    }
    late(call, id)
}

/// A message for a stream that one side has closed is lost: the guest may not know of it yet.
fn late(call: &mut Call<'_>, id: CallId) -> Done {
    if call.guest().calls.contains(id) || call.guest().calls.is_half_closed(id) {
        return call.ignored("the stream has been closed");
    }
    Err(Status::NotFound.into())
}

/// Half of a stream is closed; a unary call, which has no halves, is cancelled.
fn close(call: &mut Call<'_>, id: CallId) -> Done {
    if CallKind::of(id) == CallKind::GrpcStream && call.guest().calls.contains(id) {
        let first = call.guest_mut().calls.close(id);
        return if first { call.record(Effect::GrpcClose(id)) } else { Ok(()) };
    }
    cancel(call, id)
}

fn cancel(call: &mut Call<'_>, id: CallId) -> Done {
    let grpc = matches!(CallKind::of(id), CallKind::Grpc | CallKind::GrpcStream);
    let calls = &mut call.guest_mut().calls;
    if grpc && calls.cancel(id) {
        return call.record(Effect::GrpcCancel(id));
    }
    if calls.close_half(id) { Ok(()) } else { Err(Status::NotFound.into()) }
}
