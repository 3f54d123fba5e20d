//! The points of an exchange at which a filter is called, and what its answers mean there.

/// One direction of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to upstream.
    Request,
    /// Upstream to client.
    Response,
}

/// A point in an exchange at which a filter may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// `proxy_on_request_headers`
    RequestHeaders,
    /// `proxy_on_request_body`
    RequestBody,
    /// `proxy_on_request_trailers`
    RequestTrailers,
    /// `proxy_on_response_headers`
    ResponseHeaders,
    /// `proxy_on_response_body`
    ResponseBody,
    /// `proxy_on_response_trailers`
    ResponseTrailers,
    /// `proxy_on_new_connection`
    NewConnection,
    /// `proxy_on_downstream_data`
    DownstreamData,
    /// `proxy_on_upstream_data`
    UpstreamData,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 9] = [
        Phase::RequestHeaders,
        Phase::RequestBody,
        Phase::RequestTrailers,
        Phase::ResponseHeaders,
        Phase::ResponseBody,
        Phase::ResponseTrailers,
        Phase::NewConnection,
        Phase::DownstreamData,
        Phase::UpstreamData,
    ];

    /// The name of its callback.
    pub(crate) const fn callback(self) -> &'static str {
        match self {
            Phase::RequestHeaders => "proxy_on_request_headers",
            Phase::RequestBody => "proxy_on_request_body",
            Phase::RequestTrailers => "proxy_on_request_trailers",
            Phase::ResponseHeaders => "proxy_on_response_headers",
            Phase::ResponseBody => "proxy_on_response_body",
            Phase::ResponseTrailers => "proxy_on_response_trailers",
            Phase::NewConnection => "proxy_on_new_connection",
            Phase::DownstreamData => "proxy_on_downstream_data",
            Phase::UpstreamData => "proxy_on_upstream_data",
        }
    }
}

/// Those phases that a module has a callback for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases(u16);

impl Phases {
    pub(crate) fn of(has: impl Fn(Phase) -> bool) -> Phases {
        let bit = |phase: Phase| u16::from(has(phase)) << phase as u16;
        Phases(Phase::ALL.into_iter().fold(0, |bits, phase| bits | bit(phase)))
    }

    /// Whether this is one of them.
    pub const fn contains(self, phase: Phase) -> bool {
        self.0 & 1 << phase as u16 != 0
    }
}

/// Who has closed a connection (`proxy_on_downstream_connection_close`, `proxy_on_upstream_connection_close`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Peer {
    /// Nobody knows.
    Unknown = 0,
    /// We have.
    Local = 1,
    /// The other end has.
    Remote = 2,
}

/// What the guest's return value means in the phase it was called in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass on what the callback saw (and what was held back before).
    Continue,
    /// Headers: hold them, and do not call later phases of this direction until resumed; the body waits in the filter's
    /// buffer, and too much of it is an error. Body and trailers: hold; body callbacks go on and see all that is held.
    Pause,
    /// As `Pause`, but too much body is back-pressure instead of an error. What every pause of TCP is, a new connection
    /// being its headers and data its body.
    PauseWatermark,
    /// Headers only, with `allow_on_headers_stop_iteration`: hold the headers, go on calling body phases.
    PauseHeaders,
    /// Body only: the guest has taken the chunk, drop it.
    Drop,
    /// Headers only: pass the headers on as the end of the stream, drop the rest.
    EndStream,
}

/// What a number means that a headers callback answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadersPause {
    /// 1 holds everything (Envoy's default).
    All,
    /// 1 holds the headers only (Envoy's `allow_on_headers_stop_iteration`).
    HeadersOnly,
}

impl Action {
    /// Reads what a callback answered. Numbers that nobody defined become the strictest stop, as in
    /// proxy-wasm-cpp-host; there a 1 from a headers callback means 4 (back-pressure) unless headers alone are held.
    pub(crate) fn of(phase: Phase, answer: u32, pause: HeadersPause) -> Action {
        if answer == 0 {
            return Action::Continue;
        }
        match (phase, answer) {
            (Phase::RequestHeaders | Phase::ResponseHeaders, 1) => match pause {
                HeadersPause::All => Action::PauseWatermark,
                HeadersPause::HeadersOnly => Action::PauseHeaders,
            },
            (Phase::RequestHeaders | Phase::ResponseHeaders, 2) => Action::EndStream,
            (Phase::RequestHeaders | Phase::ResponseHeaders, 3) => Action::Pause,
            (Phase::RequestHeaders | Phase::ResponseHeaders, _) => Action::PauseWatermark,
            (Phase::RequestBody | Phase::ResponseBody, 1) => Action::Pause,
            (Phase::RequestBody | Phase::ResponseBody, 2) => Action::PauseWatermark,
            (Phase::RequestBody | Phase::ResponseBody, _) => Action::Drop,
            (Phase::RequestTrailers | Phase::ResponseTrailers, _) => Action::Pause,
            (Phase::NewConnection | Phase::DownstreamData | Phase::UpstreamData, _) => {
                Action::PauseWatermark
            }
        }
    }
}
