//! Numbers that cross the border to the guest.
//!
//! Source: proxy-wasm/spec `abi-versions/v0.2.1`. The `Status` of the stock Rust SDK has no variant for 5, 6, 9, 11
//! and 12, so 6 and 12 are only ever sent to other guests and the rest to none.

/// What a host call answers (`proxy_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// `proxy_header_map_type_t`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    InitialMetadata,
    TrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapType {
    /// So many belong to an exchange, the first ones.
    const OF_EXCHANGE: usize = 4;

    pub(crate) fn of(number: u32) -> Option<MapType> {
        Some(match number {
            0 => MapType::RequestHeaders,
            1 => MapType::RequestTrailers,
            2 => MapType::ResponseHeaders,
            3 => MapType::ResponseTrailers,
            4 => MapType::InitialMetadata,
            5 => MapType::TrailingMetadata,
            6 => MapType::CallHeaders,
            7 => MapType::CallTrailers,
            _ => return None,
        })
    }

    /// Whether it belongs to an exchange; the others are of a callout.
    pub(crate) const fn is_of_exchange(self) -> bool {
        (self as usize) < MapType::OF_EXCHANGE
    }
}

/// `proxy_buffer_type_t`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferType {
    RequestBody,
    ResponseBody,
    /// Bytes of a TCP stream from the client.
    Downstream,
    /// Bytes of a TCP stream from the upstream.
    Upstream,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    ForeignArguments,
    /// Of Higress.
    RedisReply,
}

impl BufferType {
    pub(crate) fn of(number: u32) -> Option<BufferType> {
        Some(match number {
            0 => BufferType::RequestBody,
            1 => BufferType::ResponseBody,
            2 => BufferType::Downstream,
            3 => BufferType::Upstream,
            4 => BufferType::CallBody,
            5 => BufferType::GrpcMessage,
            6 => BufferType::VmConfiguration,
            7 => BufferType::PluginConfiguration,
            8 => BufferType::ForeignArguments,
            9 => BufferType::RedisReply,
            _ => return None,
        })
    }
}

/// Context id of the plugin itself; streams count up from 2.
pub(crate) const ROOT_CONTEXT: u32 = 1;

/// `errno` of WASI preview 1, as far as this host answers it.
pub(crate) mod errno {
    pub(crate) const SUCCESS: u32 = 0;
    pub(crate) const BADF: u32 = 8;
    pub(crate) const FAULT: u32 = 21;
    pub(crate) const INVAL: u32 = 28;
    pub(crate) const NOENT: u32 = 44;
    pub(crate) const NOSYS: u32 = 52;
    pub(crate) const NOTDIR: u32 = 20;
    pub(crate) const NOTSUP: u32 = 58;
}
