//! The phases in which guests run, and how the probe gets there.

/// When guests run: within a callback, or while the host starts them or wants memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// As in cells.
    pub name: &'static str,
    /// The function that the host calls.
    pub callback: &'static str,
    /// How to get there.
    pub way: Way,
}

/// How the probe gets into a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With exchanges that lead through all phases.
    Trace,
    /// Once for each process: a host may end the guest over it.
    Alone,
    /// When the plugin starts or ends.
    Plugin,
    /// With the exchange that names the cell.
    Exchange,
    /// With the exchange after the one that names the cell.
    NextExchange,
    /// With the TCP connection that names the cell.
    Connection,
    /// With the connection after the one that names the cell.
    NextConnection,
    /// Not at all.
    Never(Reason),
}

/// Why there is nothing to compare; there are no other reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No host calls this by itself.
    NobodyCalls,
    /// An older version's function that is the same in 0.2.1.
    AsNewest,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 2] = [Reason::NobodyCalls, Reason::AsNewest];

    /// In the table.
    #[must_use]
    pub fn mark(self) -> &'static str {
        match self {
            Reason::NobodyCalls => "n/a (1)",
            Reason::AsNewest => "n/a (2)",
        }
    }

    /// Below it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Reason::NobodyCalls => "neither host calls this by itself",
            Reason::AsNewest => {
                "as 0.2.1: all other calls are the same functions there, and its row of this phase tells; \
                 that they are the same is filled in `request_headers` and `tick`"
            }
        }
    }
}

/// Cells of this one are callbacks, not calls.
pub(super) const CALLBACKS_PHASE: &str = "callbacks";

const fn phase(name: &'static str, callback: &'static str, way: Way) -> Phase {
    Phase { name, callback, way }
}

/// In the order in which they come.
pub const PHASES: &[Phase] = &[
    phase(CALLBACKS_PHASE, "every callback", Way::Trace),
    phase("initialize", "_initialize", Way::Alone),
    phase("memory_allocate", "proxy_on_memory_allocate", Way::Alone),
    phase("plugin_context_create", "proxy_on_context_create", Way::Plugin),
    phase("vm_start", "proxy_on_vm_start", Way::Plugin),
    phase("configure", "proxy_on_configure", Way::Plugin),
    phase("tick", "proxy_on_tick", Way::Exchange),
    phase("queue_ready", "proxy_on_queue_ready", Way::Exchange),
    phase("foreign_function", "proxy_on_foreign_function", Way::Never(Reason::NobodyCalls)),
    phase("context_create", "proxy_on_context_create", Way::NextExchange),
    phase("request_headers", "proxy_on_request_headers", Way::Exchange),
    phase("request_body", "proxy_on_request_body", Way::Exchange),
    phase("request_trailers", "proxy_on_request_trailers", Way::Exchange),
    phase("http_call_response", "proxy_on_http_call_response", Way::Exchange),
    phase("http_call_response_of_stream", "proxy_on_http_call_response", Way::Exchange),
    phase("grpc_receive_initial_metadata", "proxy_on_grpc_receive_initial_metadata", Way::Exchange),
    phase("grpc_receive", "proxy_on_grpc_receive", Way::Exchange),
    phase(
        "grpc_receive_trailing_metadata",
        "proxy_on_grpc_receive_trailing_metadata",
        Way::Exchange,
    ),
    phase("grpc_close", "proxy_on_grpc_close", Way::Exchange),
    phase("response_headers", "proxy_on_response_headers", Way::Exchange),
    phase("response_body", "proxy_on_response_body", Way::Exchange),
    phase("response_trailers", "proxy_on_response_trailers", Way::Exchange),
    phase("log", "proxy_on_log", Way::Exchange),
    phase("done", "proxy_on_done", Way::Exchange),
    phase("delete", "proxy_on_delete", Way::Exchange),
    phase("connection_create", "proxy_on_context_create", Way::NextConnection),
    phase("new_connection", "proxy_on_new_connection", Way::NextConnection),
    phase("downstream_data", "proxy_on_downstream_data", Way::Connection),
    phase("upstream_data", "proxy_on_upstream_data", Way::Connection),
    phase("downstream_connection_close", "proxy_on_downstream_connection_close", Way::Connection),
    phase("upstream_connection_close", "proxy_on_upstream_connection_close", Way::Connection),
    phase("connection_log", "proxy_on_log", Way::Connection),
    phase("connection_done", "proxy_on_done", Way::Connection),
    phase("connection_delete", "proxy_on_delete", Way::Connection),
    phase("plugin_done", "proxy_on_done", Way::Plugin),
    phase("plugin_log", "proxy_on_log", Way::Plugin),
    phase("plugin_delete", "proxy_on_delete", Way::Plugin),
];
