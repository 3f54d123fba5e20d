//! `set_envoy_filter_state`, `declare_property`, `clear_route_cache`: what a filter tells those after it, and the router.
//!
//! Whatever lives with an exchange here lives until its end: the life spans that guests may ask for are the same.

use super::super::{Call, Stop};
use super::message;
use crate::abi::numbers::Status;
use crate::filter_state::{Declaration, StateError, StateKind};

/// Longest name of a property, in bytes.
const MAX_NAME: usize = 1 << 10;

pub(super) fn set_envoy_filter_state(call: &mut Call<'_>, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let (mut name, mut value) = ("", "");
    message::read(bytes, |number, field| {
        match number {
            1 => name = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
        Ok(())
    })?;
    let declaration = Declaration { kind: StateKind::String, read_only: false };
    let stream = call.guest_mut().stream_mut().ok_or(Status::NotFound)?;
    match stream.filter_state_mut().set(name.as_bytes(), value.as_bytes(), declaration) {
        Ok(()) => Ok(Vec::new()),
        Err(StateError::ReadOnly) => Err(Status::BadArgument.into()),
        Err(refused) => {
            call.ignored(&refused.to_string())?;
            Err(Status::InternalFailure.into())
        }
    }
}

/// A declaration holds for what the plugin stores from now on, and cannot be replaced.
pub(super) fn declare_property(call: &mut Call<'_>, bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut name = "";
    let mut declaration = Declaration::default();
    message::read(bytes, |number, field| {
        match number {
            1 => name = field.text()?,
            2 => declaration.read_only = field.number() != 0,
            3 => {
                declaration.kind = match field.number() {
                    1 => StateKind::String,
                    2 => StateKind::FlatBuffers,
                    3 => StateKind::Protobuf,
                    _ => StateKind::Bytes,
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let declared = &mut call.guest_mut().declared;
    if name.len() > MAX_NAME || !declared.declare(name.as_bytes(), declaration) {
        return Err(Status::BadArgument.into());
    }
    Ok(Vec::new())
}

pub(super) fn clear_route_cache(call: &mut Call<'_>, _: &[u8]) -> Result<Vec<u8>, Stop> {
    call.clear_route()?;
    Ok(Vec::new())
}
