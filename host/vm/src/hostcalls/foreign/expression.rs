//! `expr_create`, `expr_evaluate`, `expr_delete`: CEL over the attributes of the exchange. Expressions are kept with the
//! instance, under the token that the guest got.

use super::super::{Call, Stop, property};
use crate::abi::numbers::Status;
use crate::expression::{Expression, Failed};
use crate::guest::Moment;

pub(super) fn create(call: &mut Call<'_>, text: &[u8]) -> Result<Vec<u8>, Stop> {
    call.check_budget()?;
    let text = std::str::from_utf8(text).map_err(|_| Status::BadArgument)?;
    if !call.guest_mut().quota.compile() {
        call.ignored("the filter compiles too many expressions in one callback")?;
        return Err(Status::BadArgument.into());
    }
    let expression = match Expression::compile(text) {
        Ok(expression) => expression,
        Err(why) => {
            tracing::info!(filter = %call.guest().spec.name, "expr_create: {why}");
            return Err(Status::BadArgument.into());
        }
    };
    call.check_budget()?;
    match call.guest_mut().expressions.add(text, expression) {
        Some(token) => Ok(token.to_le_bytes().to_vec()),
        None => {
            call.ignored("the filter keeps too many expressions")?;
            Err(Status::InternalFailure.into())
        }
    }
}

pub(super) fn evaluate(call: &mut Call<'_>, token: &[u8]) -> Result<Vec<u8>, Stop> {
    let token = number(token)?;
    let guest = call.guest();
    let expression = guest.expressions.get(token).ok_or(Status::NotFound)?;
    let value = match guest.moment {
        Moment::StartUp => expression.evaluate(|_| None),
        _ => expression.evaluate(|path| property::operand(guest, path)),
    };
    call.check_budget()?;
    match value {
        Ok(value) => Ok(value.into()),
        Err(Failed::Encoding) => Err(Status::SerializationFailure.into()),
        Err(why) => {
            tracing::debug!(filter = %call.guest().spec.name, "expr_evaluate: {why}");
            Err(Status::InternalFailure.into())
        }
    }
}

/// Deleting what is not there is Ok, as on Envoy.
pub(super) fn delete(call: &mut Call<'_>, token: &[u8]) -> Result<Vec<u8>, Stop> {
    let token = number(token)?;
    call.guest_mut().expressions.remove(token);
    Ok(Vec::new())
}

fn number(bytes: &[u8]) -> Result<u32, Status> {
    bytes.try_into().map(u32::from_le_bytes).map_err(|_| Status::BadArgument)
}
