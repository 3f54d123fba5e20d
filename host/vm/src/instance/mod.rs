//! One wasmtime instance: starting it, lending it the streams for one callback at a time, and its death.
//!
//! After a trap an instance never runs again, whoever calls. It knows nothing of what callbacks mean.

mod autopsy;

use std::sync::Arc;

use wasmtime::{Store, UpdateDeadline};

use crate::callbacks::{self, Callbacks};
use crate::error::{Death, Fault, Trap, TrapReason};
use crate::guest::{Entry, Guest, Occasion, Steps, look};
use crate::joint;
use crate::module::Module;
use crate::phase::HeadersPause;
use crate::pulse::Pulse;
use crate::services::Services;
use crate::spec::PluginSpec;
use crate::state::Streams;

/// Who calls the host before the last of several callbacks, so many times more often than not, is entered for each of them from
/// then on.
const PATIENCE: u8 = 16;

/// An instance that may have died.
pub(crate) struct Instance {
    store: Store<Guest>,
    /// Far larger than what each callback needs of the rest.
    callbacks: Box<Callbacks>,
    pause: HeadersPause,
    trap: Option<Trap>,
    pulse: Arc<Pulse>,
    /// How much more often it was of no use to enter the guest for several callbacks than it was.
    vain: u8,
}

impl Instance {
    /// Instantiates and runs start-up code.
    pub(crate) fn new(
        module: &Module,
        spec: Arc<PluginSpec>,
        services: Box<dyn Services>,
    ) -> Result<Instance, Trap> {
        let pause = match spec.allow_on_headers_stop_iteration {
            true => HeadersPause::HeadersOnly,
            false => HeadersPause::All,
        };
        let mut guest = Guest::new(spec, services, module.abi());
        guest.rust_sdk = module.inspection().rust_sdk;
        let mut store = Store::new(module.linked().module().engine(), guest);
        store.limiter(|guest| &mut guest.quota);
        let pulse = module.pulse().clone();
        let beating = pulse.clone();
        store.epoch_deadline_callback(move |mut store| {
            beating.beat();
            look(&mut store, Occasion::Tick);
            let guest = store.data_mut();
            guest.budget.check(guest.services.as_ref())?;
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        pulse.beat();
        match start_up(module, &mut store) {
            Ok(callbacks) => Ok(Instance { store, callbacks, pause, trap: None, pulse, vain: 0 }),
            Err(error) => Err(autopsy::explain(store.data(), "start-up", &error)),
        }
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.store.data()
    }

    pub(crate) fn guest_mut(&mut self) -> &mut Guest {
        self.store.data_mut()
    }

    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.callbacks
    }

    pub(crate) fn pause(&self) -> HeadersPause {
        self.pause
    }

    pub(crate) fn trap(&self) -> Option<&Trap> {
        self.trap.as_ref()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.guest().quota.memory()
    }

    /// Runs one callback: lends the streams, counts what it uses, and takes the streams back, also after a trap. The
    /// effects of a callback that trapped are dropped, and a dead instance waits for no callout.
    pub(crate) fn call<R>(
        &mut self,
        streams: &mut Streams,
        entry: Entry,
        run: impl FnOnce(&Callbacks, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Trap> {
        self.lend(streams, |instance| instance.enter(entry, run))
    }

    /// Lends the streams for callbacks that follow one another, each of them [entered](Self::enter).
    pub(crate) fn lend<R>(
        &mut self,
        streams: &mut Streams,
        run: impl FnOnce(&mut Instance) -> Result<R, Trap>,
    ) -> Result<R, Trap> {
        if let Some(trap) = &self.trap {
            return Err(trap.clone());
        }
        std::mem::swap(&mut self.store.data_mut().streams, streams);
        let result = run(self);
        std::mem::swap(&mut self.store.data_mut().streams, streams);
        result
    }

    /// Runs one callback while the streams are [lent](Self::lend). After one that trapped nothing may be entered.
    pub(crate) fn enter<R>(
        &mut self,
        entry: Entry,
        run: impl FnOnce(&Callbacks, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, Trap> {
        self.store.data_mut().begin(&entry);
        self.store.set_epoch_deadline(1);
        self.pulse.beat();
        run(&self.callbacks, &mut self.store).map_err(|error| self.die(&error))
    }

    /// As [`enter`](Self::enter), for callbacks that the guest makes one after the other; says how many of them it has made.
    pub(crate) fn enter_for(
        &mut self,
        steps: Steps,
        run: impl FnOnce(&Callbacks, &mut Store<Guest>) -> wasmtime::Result<()>,
    ) -> Result<usize, Trap> {
        self.store.data_mut().steps = Some(steps);
        self.enter(steps.entry(), run)?;
        let steps = self.store.data_mut().steps.take().unwrap_or(steps);
        if steps.were_in_vain() {
            self.vain += 1;
            if self.vain == PATIENCE {
                self.callbacks.finish = None;
            }
        } else {
            self.vain = self.vain.saturating_sub(1);
        }
        Ok(steps.made())
    }

    /// The running callback has trapped.
    #[cold]
    fn die(&mut self, error: &wasmtime::Error) -> Trap {
        look(&mut self.store, Occasion::Trap);
        let guest = self.store.data_mut();
        guest.effects.truncate(guest.effects_before);
        guest.calls.clear();
        let trap = autopsy::explain(guest, guest.callback, error);
        self.trap.insert(trap).clone()
    }

    /// Ends an instance whose guest answered no.
    pub(crate) fn refuse(&mut self, callback: &str) -> Trap {
        let last = self.guest().notes.text();
        let last = last.unwrap_or_else(|| "and the guest logged no reason".to_owned());
        let message = format!("{callback} answered no: {last}");
        let death = Death { reason: TrapReason::Refused, message, backtrace: Vec::new() };
        self.trap.insert(death.into()).clone()
    }
}

fn start_up(module: &Module, store: &mut Store<Guest>) -> wasmtime::Result<Box<Callbacks>> {
    let instance = module.linked().instantiate(&mut *store)?;
    let memory = instance.get_memory(&mut *store, "memory");
    let allocate = callbacks::find(&instance, store, "proxy_on_memory_allocate")
        .or_else(|| callbacks::find(&instance, store, "malloc"));
    let step = instance.get_global(&mut *store, joint::STEP);
    let guest = store.data_mut();
    guest.memory = memory;
    guest.step = step;
    guest.allocate = allocate;
    let mut callbacks = Box::new(Callbacks::of(&instance, store));
    if module.inspection().exports.iter().any(|export| export.name == joint::FINISH) {
        // What the module itself calls so is none of ours.
        callbacks.finish = None;
    }
    match run_main(&instance, store) {
        Err(error) if error.downcast_ref() == Some(&Fault::Exit(0)) => {}
        result => result?,
    }
    Ok(callbacks)
}

/// A reactor has `_initialize` and perhaps a `main`; a command has `_start`.
fn run_main(instance: &wasmtime::Instance, store: &mut Store<Guest>) -> wasmtime::Result<()> {
    let Some(initialize) = callbacks::find::<(), ()>(instance, store, "_initialize") else {
        return match callbacks::find::<(), ()>(instance, store, "_start") {
            Some(start) => start.call(store, ()),
            None => Ok(()),
        };
    };
    initialize.call(&mut *store, ())?;
    if let Some(main) = callbacks::find::<(u32, u32), u32>(instance, store, "main") {
        main.call(store, (0, 0))?;
    } else if let Some(main) = callbacks::find::<(), u32>(instance, store, "main")
        .or_else(|| callbacks::find(instance, store, "__main_void"))
    {
        main.call(store, ())?;
    }
    Ok(())
}
