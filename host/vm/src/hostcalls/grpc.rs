//! `proxy_grpc_*`: linked, so that modules load, and answered as if no call could be started and none existed.

use wasmtime::Linker;

use super::{Call, Done, Span, hostcall};
use crate::abi::numbers::Status;
use crate::guest::Guest;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    hostcall!(linker, "proxy_grpc_call", |call,
                                          up,
                                          up_size,
                                          _service,
                                          _service_size,
                                          _method,
                                          _method_size,
                                          _metadata,
                                          _metadata_size,
                                          _message,
                                          _message_size,
                                          _timeout,
                                          id| {
        start(call, Span(up, up_size), id)
    });
    hostcall!(linker, "proxy_grpc_stream", |call,
                                            up,
                                            up_size,
                                            _service,
                                            _service_size,
                                            _method,
                                            _method_size,
                                            _metadata,
                                            _metadata_size,
                                            id| {
        start(call, Span(up, up_size), id)
    });
    hostcall!(linker, "proxy_grpc_send", |_call, _id, _message, _size, _end| unknown());
    hostcall!(linker, "proxy_grpc_cancel", |_call, _id| unknown());
    hostcall!(linker, "proxy_grpc_close", |_call, _id| unknown());
    Ok(())
}

fn start(call: &mut Call<'_>, upstream: Span, id: u32) -> Done {
    call.write_u32(id, 0)?;
    call.read(upstream)?;
    call.ignored("gRPC calls are not available")?;
    Err(Status::InternalFailure.into())
}

fn unknown() -> Done {
    Err(Status::NotFound.into())
}
