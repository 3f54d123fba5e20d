//! `proxy_*_buffer_*`: bodies, configurations, the body of a callout's answer.
//!
//! Sums of guest-given offsets are done in u64 or saturate: guests pass lengths such as 0xFFFFFFFF for "all".

use bytes::Bytes;
use wasmtime::Linker;

use super::{Call, Done, Span, hostcall};
use crate::abi::numbers::{BufferType, Status};
use crate::buffer::Buffer;
use crate::guest::{Completion, Guest, Moment};
use crate::phase::{Direction, Phase};
use crate::state::HttpStream;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_get_buffer_bytes", |call, buffer, start, max, data, size| {
        get(call, kind(buffer)?, Span(start, max), data, size)
    });
    hostcall!(linker, "proxy_set_buffer_bytes", |call, buffer, start, length, data, size| {
        set(call, kind(buffer)?, Span(start, length), Span(data, size))
    });
    hostcall!(linker, "proxy_get_buffer_status", |call, buffer, length, flags| {
        let bytes = source(call.guest(), kind(buffer)?)?.len();
        call.write_u32(length, bytes as u32)?;
        call.write_u32(flags, 0)
    });
    hostcall!(linker, "proxy_get_configuration", |call, data, size| {
        let buffer = match call.guest().moment {
            Moment::VmStart => BufferType::VmConfiguration,
            _ => BufferType::PluginConfiguration,
        };
        get(call, buffer, Span(0, u32::MAX), data, size)
    });
    Ok(())
}

fn kind(buffer: u32) -> Result<BufferType, Status> {
    BufferType::of(buffer).ok_or(Status::BadArgument)
}

enum Source<'a> {
    Body(&'a Buffer),
    Bytes(&'a Bytes),
    Nothing,
}

impl Source<'_> {
    fn len(&self) -> usize {
        match self {
            Source::Body(buffer) => buffer.len(),
            Source::Bytes(bytes) => bytes.len(),
            Source::Nothing => 0,
        }
    }

    /// Copies what lies from `start` on into `out`, which fits.
    fn read(&self, start: usize, out: &mut [u8]) {
        match self {
            Source::Body(buffer) => {
                let (length, mut at) = (out.len(), 0);
                buffer.read(start, length, |run| {
                    out[at..at + run.len()].copy_from_slice(run);
                    at += run.len();
                });
            }
            Source::Bytes(bytes) => out.copy_from_slice(&bytes[start..start + out.len()]),
            Source::Nothing => {}
        }
    }
}

fn source(guest: &Guest, buffer: BufferType) -> Result<Source<'_>, Status> {
    let body = |buffer: Option<_>| buffer.map_or(Source::Nothing, Source::Body);
    match buffer {
        BufferType::RequestBody => Ok(body(guest.http().map(|stream| &stream.request_body))),
        BufferType::ResponseBody => Ok(body(guest.http().map(|stream| &stream.response_body))),
        BufferType::Downstream => {
            Ok(body(guest.tcp().and_then(|stream| stream.downstream.as_ref())))
        }
        BufferType::Upstream => Ok(body(guest.tcp().and_then(|stream| stream.upstream.as_ref()))),
        BufferType::CallBody => match &guest.completion {
            Some(Completion::Http { body, .. }) => Ok(Source::Bytes(body)),
            _ => Err(Status::NotFound),
        },
        BufferType::GrpcMessage => match &guest.completion {
            Some(Completion::GrpcMessage(message)) => Ok(Source::Bytes(message)),
            _ => Err(Status::NotFound),
        },
        BufferType::RedisReply => match &guest.completion {
            Some(Completion::RedisReply(reply)) => Ok(Source::Bytes(reply)),
            _ => Err(Status::NotFound),
        },
        BufferType::ForeignArguments => Err(Status::NotFound),
        BufferType::VmConfiguration => Ok(Source::Bytes(&guest.spec.vm_configuration)),
        BufferType::PluginConfiguration => Ok(Source::Bytes(&guest.spec.configuration)),
    }
}

fn get(call: &mut Call<'_>, buffer: BufferType, range: Span, data: u32, size: u32) -> Done {
    let available = source(call.guest(), buffer)?.len();
    let start = range.0 as usize;
    let length = available.saturating_sub(start).min(range.1 as usize);
    if available == 0
        && let Some(content) = content(buffer)
        && !has(call.guest(), content)
    {
        call.ignored(content.missing())?;
    }
    call.give_with(data, size, length, |out, guest| {
        if let Ok(source) = source(guest, buffer) {
            source.read(start, out);
        }
    })
}

fn set(call: &mut Call<'_>, buffer: BufferType, range: Span, bytes: Span) -> Done {
    let Some(content) = content(buffer) else {
        return call.ignored("the buffer is read-only");
    };
    if !has(call.guest(), content) {
        return call.ignored(content.missing());
    }
    call.claim(bytes)?;
    let bytes = Bytes::copy_from_slice(call.read(bytes)?);
    if let Some(buffer) = writable(call.guest_mut(), content) {
        buffer.splice(range.0 as usize, range.1 as usize, bytes);
    }
    Ok(())
}

/// What a guest can change, if it is there.
#[derive(Clone, Copy)]
enum Content {
    Body(Direction),
    Tcp(Direction),
}

impl Content {
    fn missing(self) -> &'static str {
        match self {
            Content::Body(_) => "there is no body here",
            Content::Tcp(_) => "there are no bytes of a connection here",
        }
    }
}

fn content(buffer: BufferType) -> Option<Content> {
    match buffer {
        BufferType::RequestBody => Some(Content::Body(Direction::Request)),
        BufferType::ResponseBody => Some(Content::Body(Direction::Response)),
        BufferType::Downstream => Some(Content::Tcp(Direction::Request)),
        BufferType::Upstream => Some(Content::Tcp(Direction::Response)),
        _ => None,
    }
}

fn writable(guest: &mut Guest, content: Content) -> Option<&mut Buffer> {
    match content {
        Content::Body(Direction::Request) => Some(&mut guest.http_mut()?.request_body),
        Content::Body(Direction::Response) => Some(&mut guest.http_mut()?.response_body),
        Content::Tcp(direction) => guest.tcp_mut()?.data_mut(direction).as_mut(),
    }
}

/// Whether there is something to read or change.
fn has(guest: &Guest, content: Content) -> bool {
    match content {
        Content::Body(direction) => has_body(guest, direction),
        Content::Tcp(direction) => guest.tcp().is_some_and(|tcp| tcp.data(direction).is_some()),
    }
}

/// Whether a body of this direction can be changed now: in its own body and trailers callbacks, and from the root
/// context on behalf of an exchange that waits.
fn has_body(guest: &Guest, direction: Direction) -> bool {
    let Moment::Stream { phase, .. } = guest.moment else {
        let lent = |stream: &HttpStream| stream.lent[direction as usize];
        return guest.moment == Moment::Root && guest.http().is_some_and(lent);
    };
    match direction {
        Direction::Request => matches!(phase, Phase::RequestBody | Phase::RequestTrailers),
        Direction::Response => matches!(phase, Phase::ResponseBody | Phase::ResponseTrailers),
    }
}
