//! Protocol Buffers, as far as the few flat messages of foreign functions need them: fields by number on the way in,
//! fields in order on the way out.
//!
//! Source: protobuf.dev, "Encoding". Unknown fields are skipped, groups are refused; nothing is allocated while reading.

/// The bytes are no message.
#[derive(Debug)]
pub(super) struct Malformed;

/// The value of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Numbers, booleans, enumerations.
    Number(u64),
    /// Strings, bytes, messages.
    Bytes(&'a [u8]),
    /// Of fixed width, which no message here has.
    Fixed,
}

impl<'a> Value<'a> {
    /// A string; another kind of field counts as unknown, which is empty.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()).map_err(|_| Malformed)
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) | Value::Fixed => &[],
        }
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Bytes(_) | Value::Fixed => 0,
        }
    }
}

/// Calls back with each field in the order of the bytes: of a repeated number, the last counts.
pub(super) fn read<'a>(
    mut bytes: &'a [u8],
    mut field: impl FnMut(u64, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => {
                take(&mut bytes, 8)?;
                Value::Fixed
            }
            2 => {
                let length = varint(&mut bytes)?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => {
                take(&mut bytes, 4)?;
                Value::Fixed
            }
            _ => return Err(Malformed),
        };
        match key >> 3 {
            0 => return Err(Malformed),
            number => field(number, value)?,
        }
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    const LONGEST: u32 = 10;
    let mut number = 0_u64;
    for at in 0..LONGEST {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f).checked_shl(7 * at).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Appends a string or bytes, unless there are none.
pub(super) fn write_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// Appends a boolean, unless it is false.
pub(super) fn write_true(out: &mut Vec<u8>, number: u8) {
    out.extend([number << 3, 1]);
}
