//! Greets when the VM starts, then says at every tick what time it is. `configuration`: milliseconds between ticks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_wasm::hostcalls::log;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Clock));
}}

struct Clock;

fn say(text: &str) {
    let _said = log(LogLevel::Info, text);
}

impl Context for Clock {}

impl RootContext for Clock {
    fn on_vm_start(&mut self, _size: usize) -> bool {
        say("Hello, World!");
        true
    }

    fn on_configure(&mut self, _size: usize) -> bool {
        let text = String::from_utf8(self.get_plugin_configuration().unwrap_or_default());
        let period = text.ok().and_then(|text| text.parse().ok()).unwrap_or(5000);
        self.set_tick_period(Duration::from_millis(period));
        true
    }

    fn on_tick(&mut self) {
        let now = self.get_current_time();
        // The host's clock and WASI's are one clock; a day apart would be two.
        let apart = now.max(SystemTime::now()).duration_since(now.min(SystemTime::now()));
        let same = apart.is_ok_and(|apart| apart < Duration::from_secs(60));
        let this_century = now > UNIX_EPOCH + Duration::from_secs(946_684_800);
        say(&format!("It is after 2000: {this_century}, WASI agrees: {same}"));
        // Once is enough to see.
        self.set_tick_period(Duration::ZERO);
    }
}
