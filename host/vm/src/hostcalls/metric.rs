//! `proxy_define_metric` and the calls on what it defined.
//!
//! Ids are numbered as Envoy does: the low two bits are the kind, the rest counts from 1 within the kind.

use wasmtime::Linker;

use super::{Call, Done, Span, hostcall, slice};
use crate::abi::numbers::Status;
use crate::guest::Guest;
use crate::services::{Metric, MetricKind};

const KINDS: [MetricKind; 3] = [MetricKind::Counter, MetricKind::Gauge, MetricKind::Histogram];
const KIND_BITS: u32 = 2;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_define_metric", |call, kind, name, size, id| {
        define(call, kind, Span(name, size), id)
    });
    hostcall!(linker, "proxy_increment_metric", |call, id: u32, delta: i64| {
        let (kind, metric) = find(call, id)?;
        if kind == MetricKind::Histogram || (kind == MetricKind::Counter && delta <= 0) {
            return Err(Status::BadArgument.into());
        }
        call.guest().services.increment_metric(metric, delta);
        Ok(())
    });
    hostcall!(linker, "proxy_record_metric", |call, id: u32, value: u64| {
        let (_, metric) = find(call, id)?;
        call.guest().services.record_metric(metric, value);
        Ok(())
    });
    hostcall!(linker, "proxy_get_metric", |call, id, value| {
        let (kind, metric) = find(call, id)?;
        if kind == MetricKind::Histogram {
            return Err(Status::BadArgument.into());
        }
        let current = call.guest().services.metric(metric);
        call.write_u64(value, current)
    });
    Ok(())
}

fn define(call: &mut Call<'_>, kind: u32, name: Span, id: u32) -> Done {
    call.write_u32(id, 0)?;
    call.claim(name)?;
    let kind_index = kind as usize;
    let kind_name = *KINDS.get(kind_index).ok_or(Status::BadArgument)?;
    let (memory, guest) = call.split();
    let name = String::from_utf8_lossy(slice(memory, name)?);
    let metric = guest.services.define_metric(kind_name, &name);
    let position = guest.metrics.number(kind_index, metric);
    call.write_u32(id, (position as u32 + 1) << KIND_BITS | kind)
}

fn find(call: &Call<'_>, id: u32) -> Result<(MetricKind, Metric), Status> {
    let kind = (id & ((1 << KIND_BITS) - 1)) as usize;
    let position = (id >> KIND_BITS).checked_sub(1).ok_or(Status::NotFound)? as usize;
    let kind_name = *KINDS.get(kind).ok_or(Status::NotFound)?;
    let metric = call.guest().metrics.by_kind[kind].get(position).ok_or(Status::NotFound)?;
    Ok((kind_name, *metric))
}
