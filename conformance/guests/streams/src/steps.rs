//! What a script can say.

use crate::host;

/// A callback.
pub struct Phase {
    pub name: &'static str,
    /// Its headers or trailers.
    pub map: u32,
    /// Its argument: entries or bytes.
    pub size: u32,
    pub end: bool,
}

impl Phase {
    fn responds(&self) -> bool {
        self.name.starts_with("response")
    }

    fn body(&self) -> u32 {
        if self.responds() { host::RESPONSE_BODY } else { host::REQUEST_BODY }
    }

    fn trailers(&self) -> u32 {
        if self.responds() { host::RESPONSE_TRAILERS } else { host::REQUEST_TRAILERS }
    }
}

/// Makes one step, `WORD` or `WORD=ARGUMENT,…`.
pub fn make(step: &str, phase: &Phase) {
    let (word, arguments) = step.split_once('=').unwrap_or((step, ""));
    let mut arguments = arguments.split(',');
    let mut next = || arguments.next().unwrap_or_default();
    match word {
        // Logs the callback; sizes only of bodies, because hosts add headers of their own.
        "see" => see(phase),
        // Logs the body as it can be read now.
        "show" => say(phase, &host::buffer(phase.body())),
        // Logs a header.
        "read" => {
            let name = next();
            let value = host::header(phase.map, name).unwrap_or_else(|| "-".to_owned());
            say(phase, &format!("{name}={value}"));
        }
        // Logs why the response is as it is.
        "details" => say(phase, &host::property(&["response", "code_details"])),
        // Asks the backend `aux`; `called` follows.
        "call" => host::call("aux"),
        // Asks for `tick` soon.
        "tick" => host::set_tick_period(10),
        // Lets the request (0) or the response (1) go on.
        "resume" => host::resume(number(next())),
        "add" => host::add(phase.map, next(), next()),
        "replace" => host::replace(phase.map, next(), next()),
        "remove" => host::remove(phase.map, next()),
        "trailer" => host::add(phase.trailers(), next(), next()),
        // Writes to the body: where, in place of how many bytes, what.
        "set" => {
            let (start, length) = (number(next()), number(next()));
            let status = host::set_buffer(phase.body(), start, length, next());
            if status != 0 {
                say(phase, &format!("set {status}"));
            }
        }
        // Replies: status, body, gRPC status.
        "reply" => {
            let (status, body, grpc) = (number(next()), next(), next().parse().unwrap_or(-1));
            host::reply(status, body, grpc);
        }
        "trap" => core::arch::wasm32::unreachable(),
        _ => say(phase, &format!("what is {step}?")),
    }
}

fn see(phase: &Phase) {
    let size =
        if phase.name.ends_with("body") { format!("{} ", phase.size) } else { String::new() };
    say(phase, &format!("{size}{}", if phase.end { "end" } else { "" }));
}

fn say(phase: &Phase, text: &str) {
    host::say(format!("{} {text}", phase.name).trim_end());
}

/// `max` is as far as the host goes.
fn number(text: &str) -> u32 {
    if text == "max" { u32::MAX >> 1 } else { text.parse().unwrap_or(0) }
}
