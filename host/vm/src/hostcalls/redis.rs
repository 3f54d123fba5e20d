//! `proxy_redis_init` and `proxy_redis_call` of Higress: commands to a Redis that is an upstream. The embedder sends them and
//! reports exactly one reply or failure for each.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::abi::resp;
use crate::effects::{Effect, RedisCall, RedisSettings};
use crate::guest::{CallKind, Guest, Moment};

/// Upstreams that a plugin may use as a Redis.
const MAX_STORES: usize = 64;

/// Commands after which replies no longer answer requests one by one, or that are the host's own to give.
/// All exchanges share a connection, so what changes its state (`MULTI`, `WATCH`) or stops it (`BLPOP`) is among them.
const REFUSED: [&str; 33] = [
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
];

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_redis_init", |call,
                                           upstream,
                                           upstream_size,
                                           user,
                                           user_size,
                                           password,
                                           password_size,
                                           timeout| {
        let spans =
            [Span(upstream, upstream_size), Span(user, user_size), Span(password, password_size)];
        init(call, spans, timeout)
    });
    hostcall!(linker, "proxy_redis_call", |call,
                                           upstream,
                                           upstream_size,
                                           query,
                                           query_size,
                                           id| {
        start(call, Span(upstream, upstream_size), Span(query, query_size), id)
    });
    Ok(())
}

fn init(call: &mut Call<'_>, spans: [Span; 3], timeout: u32) -> Done {
    if call.guest().moment == Moment::StartUp {
        return call.ignored("there is no context yet");
    }
    for span in spans {
        call.claim(span)?;
    }
    let (memory, guest) = call.split();
    let [upstream, user, password] = spans;
    let (upstream, database) = name(slice(memory, upstream)?)?;
    if !guest.services.knows_upstream(upstream) {
        return Err(Status::BadArgument.into());
    }
    let settings = RedisSettings {
        user: Bytes::copy_from_slice(slice(memory, user)?),
        password: Bytes::copy_from_slice(slice(memory, password)?),
        database,
        timeout: (timeout != 0).then(|| Duration::from_millis(u64::from(timeout))),
    };
    let upstream = upstream.to_owned();
    if guest.stores.len() >= MAX_STORES && !guest.stores.contains(&upstream) {
        return Err(Status::InternalFailure.into());
    }
    guest.stores.insert(upstream.clone());
    call.record(Effect::RedisInit(upstream, settings))
}

fn start(call: &mut Call<'_>, upstream: Span, query: Span, id: u32) -> Done {
    call.write_u32(id, 0)?;
    if call.guest().moment == Moment::StartUp {
        call.ignored("there is no context yet")?;
        return Err(Status::InternalFailure.into());
    }
    call.claim(upstream)?;
    call.claim(query)?;
    let (memory, guest) = call.split();
    let (upstream, _) = name(slice(memory, upstream)?)?;
    let query = slice(memory, query)?;
    let command = resp::command(query).ok_or(Status::BadArgument)?;
    if !guest.services.knows_upstream(upstream) || REFUSED.contains(&command.as_str()) {
        return Err(Status::BadArgument.into());
    }
    if !guest.stores.contains(upstream) {
        return Err(Status::InternalFailure.into());
    }
    let (upstream, query) = (upstream.to_owned(), Bytes::copy_from_slice(query));
    let call_id = call.begin(CallKind::Redis, upstream.len() + query.len())?;
    call.record(Effect::RedisCall(RedisCall { id: call_id, upstream, query }))?;
    call.write_u32(id, call_id.0)
}

/// Higress puts settings behind the name of the upstream, as in the query of a URL; of these, `db` is the database.
fn name(upstream: &[u8]) -> Result<(&str, u32), Status> {
    let text = std::str::from_utf8(upstream).map_err(|_| Status::BadArgument)?;
    let Some((name, settings)) = text.split_once('?') else { return Ok((text, 0)) };
    let database = settings.split('&').find_map(|setting| setting.strip_prefix("db="));
    let database = database.map_or(Ok(0), str::parse).map_err(|_| Status::BadArgument)?;
    Ok((name, database))
}
