//! `proxy_send_local_response`: an answer of the filter's own. The first one for an exchange counts.

use bytes::Bytes;
use http::StatusCode;
use wasmtime::Linker;

use super::edit::{message_fields, status};
use super::{Call, Done, Span, hostcall, slice};
use crate::abi::pairs;
use crate::effects::{Effect, LocalReply};
use crate::fields::Fields;
use crate::guest::{Guest, Moment};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(
        linker,
        "proxy_send_local_response",
        |call, code, details, details_size, body, body_size, headers, headers_size, grpc| {
            let parts = Parts {
                details: Span(details, details_size),
                body: Span(body, body_size),
                headers: Span(headers, headers_size),
            };
            let reply = read(call, code, parts, grpc)?;
            send(call, reply)
        }
    );
    Ok(())
}

struct Parts {
    details: Span,
    body: Span,
    headers: Span,
}

fn read(
    call: &mut Call<'_>,
    code: u32,
    parts: Parts,
    grpc: u32,
) -> Result<LocalReply, super::Stop> {
    for span in [parts.details, parts.body, parts.headers] {
        call.claim(span)?;
    }
    let name = call.name;
    let (memory, guest) = call.split();
    let (headers, left_out) = match pairs::decode(slice(memory, parts.headers)?) {
        Some(pairs) => message_fields(&pairs),
        None => (Fields::default(), Err("the serialized headers are malformed or too large")),
    };
    if let Err(why) = left_out {
        guest.violation(name, why);
    }
    let details = String::from_utf8_lossy(slice(memory, parts.details)?);
    Ok(LocalReply {
        status: status(code.to_string().as_bytes()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        details: details.replace(char::is_whitespace, "_"),
        headers,
        body: Bytes::copy_from_slice(slice(memory, parts.body)?),
        grpc_status: u8::try_from(grpc).ok().filter(|grpc| *grpc <= 16),
    })
}

fn send(call: &mut Call<'_>, reply: LocalReply) -> Done {
    let guest = call.guest_mut();
    let (Some(key), Some(stream)) = (guest.stream_key(), guest.http()) else {
        return call.ignored("there is no exchange of HTTP to answer");
    };
    if guest.moment == Moment::Finish {
        return call.ignored("the exchange is over");
    }
    if stream.response_sent {
        return call.ignored("the response has been sent");
    }
    if !guest.contexts.reply() {
        return call.ignored("the exchange has been answered already");
    }
    call.record(Effect::Reply(key, reply))
}
