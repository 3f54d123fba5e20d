//! What a filter's callbacks asked for, carried out once they have returned: signals for exchanges, callouts, timers. Never
//! calls a guest.

use std::rc::Rc;

use portcullis_vm::Effect;

use crate::chain::instance::Live;
use crate::chain::local::Signal;
use crate::chain::slot::Slot;

impl Slot {
    /// Out of the way of callbacks that ask for nothing.
    #[inline(never)]
    pub(super) fn carry_out_all(self: &Rc<Slot>, live: &mut Live) {
        while let Some(effect) = live.plugin.next_effect() {
            self.carry_out(effect, live);
        }
    }

    pub(super) fn carry_out(self: &Rc<Slot>, effect: Effect, live: &mut Live) {
        match effect {
            Effect::Continue(key, direction) => {
                self.local.post(key, Signal::Continue(self.id, direction))
            }
            Effect::Close(key) => self.local.post(key, Signal::Close(self.id)),
            Effect::Reply(key, reply) => self.local.post(key, Signal::Reply(self.id, reply)),
            Effect::Inject(key, data, end) => {
                self.local.post(key, Signal::Inject(self.id, data, end))
            }
            Effect::HttpCall(call) => self.start_call(call, live.number),
            Effect::GrpcCall(call) => self.start_grpc(call, live.number),
            Effect::GrpcSend(call, message) => self.callouts.send(live.number, call, message),
            Effect::GrpcClose(call) => self.callouts.close(live.number, call),
            Effect::RedisInit(upstream, settings) => self.callouts.use_store(upstream, settings),
            Effect::RedisCall(call) => self.start_redis(call, live.number),
            Effect::GrpcCancel(call) => {
                self.callouts.cancel(live.number, call);
                // Whoever has waited for its answer waits no longer.
                self.local.post_all(|| Signal::Answered(self.id));
            }
            Effect::TickPeriod(period) => live.timer = self.timer(period, live.number),
            Effect::Done => live.done.notify_one(),
            other => {
                tracing::warn!(filter = %self.filter.name, "effect without meaning here: {other:?}")
            }
        }
    }
}
