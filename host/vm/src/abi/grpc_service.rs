//! `envoy.config.core.v3.GrpcService` in protobuf's wire format, as far as it says whom to call. Some SDKs name the upstream
//! of a gRPC call by such a message instead of by its name.

use std::str::from_utf8;

use crate::abi::pairs::{MAX_BYTES, MAX_PAIRS};

/// Fields of the messages, and the one wire type that all of them have.
const ENVOY_GRPC: u64 = 1;
const INITIAL_METADATA: u64 = 5;
const CLUSTER_NAME: u64 = 1;
const AUTHORITY: u64 = 2;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// Whom to call, and with what.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GrpcService<'a> {
    /// Never empty.
    pub(crate) cluster: &'a str,
    /// May be empty.
    pub(crate) authority: &'a str,
    /// To be sent with every call.
    pub(crate) metadata: Vec<(&'a [u8], &'a [u8])>,
}

impl GrpcService<'_> {
    /// Reads a serialized message; `None` if these bytes are none, name no cluster, or are beyond the limits of
    /// [serialized maps](crate::abi::pairs).
    pub(crate) fn decode(bytes: &[u8]) -> Option<GrpcService<'_>> {
        if bytes.len() > MAX_BYTES {
            return None;
        }
        let mut service = GrpcService::default();
        each_field(bytes, |field, value| {
            match field {
                ENVOY_GRPC => each_field(value, |field, value| {
                    match field {
                        CLUSTER_NAME => service.cluster = from_utf8(value).ok()?,
                        AUTHORITY => service.authority = from_utf8(value).ok()?,
                        _ => {}
                    }
                    Some(())
                })?,
                INITIAL_METADATA if service.metadata.len() == MAX_PAIRS => return None,
                INITIAL_METADATA => service.metadata.push(pair(value)?),
                _ => {}
            }
            Some(())
        })?;
        (!service.cluster.is_empty()).then_some(service)
    }
}

/// A `HeaderValue` message.
fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut pair: (&[u8], &[u8]) = (&[], &[]);
    each_field(bytes, |field, value| {
        match field {
            KEY => pair.0 = value,
            VALUE => pair.1 = value,
            _ => {}
        }
        Some(())
    })?;
    Some(pair)
}

/// Visits the fields that have a length, and passes over the others. `None` if the bytes are no message.
fn each_field<'a>(
    mut bytes: &'a [u8],
    mut visit: impl FnMut(u64, &'a [u8]) -> Option<()>,
) -> Option<()> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match key & 7 {
            0 => drop(varint(&mut bytes)?),
            1 => drop(bytes.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                visit(key >> 3, bytes.split_off(..length)?)?;
            }
            5 => drop(bytes.split_off(..4)?),
            _ => return None,
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
