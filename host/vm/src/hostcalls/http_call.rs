//! `proxy_http_call` and `proxy_get_status`. The call is recorded; the embedder makes it and reports exactly one
//! completion.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use wasmtime::Linker;

use super::edit::{is_target, message_fields};
use super::{Call, Done, Span, Stop, hostcall, slice};
use crate::abi::numbers::Status;
use crate::abi::pairs;
use crate::effects::{CallId, Effect, HttpCall};
use crate::fields::Fields;
use crate::guest::{CallKind, Guest, Moment};
use crate::state::RequestHead;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_http_call", |call,
                                          name,
                                          name_size,
                                          head,
                                          head_size,
                                          body,
                                          body_size,
                                          trailers,
                                          trailers_size,
                                          timeout,
                                          id| {
        let request = Request {
            upstream: Span(name, name_size),
            headers: Span(head, head_size),
            body: Span(body, body_size),
            trailers: Span(trailers, trailers_size),
            timeout,
        };
        start(call, &request, id)
    });
    hostcall!(linker, "proxy_get_status", |call, code, data, size| {
        let (status, message) = call.guest().status.clone();
        call.write_u32(code, status)?;
        call.give(data, size, message.as_bytes())
    });
    Ok(())
}

/// Where the guest keeps the parts of a call.
struct Request {
    upstream: Span,
    headers: Span,
    body: Span,
    trailers: Span,
    timeout: u32,
}

fn start(call: &mut Call<'_>, request: &Request, id: u32) -> Done {
    call.write_u32(id, 0)?;
    if call.guest().moment == Moment::StartUp {
        call.ignored("there is no context yet")?;
        return Err(Status::InternalFailure.into());
    }
    let parts = [request.upstream, request.headers, request.body, request.trailers];
    for span in parts {
        call.claim(span)?;
    }
    let mut http = read(call, request)?;
    http.id = call.begin(CallKind::Http, parts.map(|span| span.1 as usize).iter().sum())?;
    let number = http.id.0;
    call.record(Effect::HttpCall(http))?;
    call.write_u32(id, number)
}

fn read(call: &mut Call<'_>, request: &Request) -> Result<HttpCall, Stop> {
    let timeout = i32::try_from(request.timeout).map_err(|_| Status::BadArgument)?;
    let timeout = Duration::from_millis(u64::from(timeout.unsigned_abs()));
    let name = call.name;
    let (memory, guest) = call.split();
    let upstream = std::str::from_utf8(slice(memory, request.upstream)?)
        .ok()
        .filter(|upstream| guest.services.knows_upstream(upstream))
        .ok_or(Status::BadArgument)?;
    let headers = pairs::decode(slice(memory, request.headers)?).ok_or(Status::BadArgument)?;
    let trailers = pairs::decode(slice(memory, request.trailers)?).ok_or(Status::BadArgument)?;
    let (fields, left_out) = message_fields(&headers);
    let (trailers, trailers_left_out) = message_fields(&trailers);
    if let Err(why) = left_out.and(trailers_left_out) {
        guest.violation(name, why);
    }
    Ok(HttpCall {
        id: CallId(0),
        upstream: upstream.to_owned(),
        head: head(&headers, fields)?,
        body: Bytes::copy_from_slice(slice(memory, request.body)?),
        trailers,
        timeout: (!timeout.is_zero()).then_some(timeout),
    })
}

fn head(pairs: &[(&[u8], &[u8])], headers: Fields) -> Result<RequestHead, Status> {
    let find = |name: &[u8]| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1);
    let part = |name: &[u8]| {
        find(name)
            .filter(|value| !value.is_empty() && is_target(value))
            .map(Bytes::copy_from_slice)
            .ok_or(Status::BadArgument)
    };
    let method = Method::from_bytes(&part(b":method")?).map_err(|_| Status::BadArgument)?;
    let scheme = part(b":scheme").unwrap_or(Bytes::from_static(b"http"));
    Ok(RequestHead {
        method,
        scheme,
        authority: part(b":authority")?,
        path: part(b":path")?,
        headers,
    })
}
