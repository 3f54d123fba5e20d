//! `proxy_set_tick_period_milliseconds`, `proxy_get_current_time_nanoseconds`.

use std::time::{Duration, SystemTime};

use wasmtime::{Caller, Linker};

use super::{answer_always, hostcall};
use crate::abi::signatures::ENV;
use crate::effects::Effect;
use crate::guest::{Guest, Moment};

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_set_tick_period_milliseconds", |call, milliseconds| {
        let period = Duration::from_millis(u64::from(milliseconds));
        if call.guest().moment != Moment::StartUp {
            call.guest_mut().tick_period = (!period.is_zero()).then_some(period);
        }
        call.record(Effect::TickPeriod(period))
    });
    linker.func_wrap(
        ENV,
        "proxy_get_current_time_nanoseconds",
        |caller: Caller<'_, Guest>, time: u32| {
            answer_always(caller, "proxy_get_current_time_nanoseconds", |call| {
                let now = nanoseconds(call.guest().services.now());
                call.write_u64(time, now)
            })
        },
    )?;
    Ok(())
}

/// Since the Unix epoch.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
