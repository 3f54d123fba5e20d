//! A request to Redis: one command, as an array of bulk strings (RESP, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

/// The name of the command that these bytes are, in upper case; `None` if they are not exactly one command. More than one
/// would have more than one reply.
pub(crate) fn command(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let parts = length(&mut rest, b'*')?;
    let mut name = None;
    for _ in 0..parts {
        let size = length(&mut rest, b'$')?;
        let part = rest.split_off(..size)?;
        if rest.split_off(..2)? != b"\r\n" {
            return None;
        }
        name.get_or_insert(part);
    }
    let name = name.filter(|_| rest.is_empty())?;
    Some(std::str::from_utf8(name).ok()?.to_ascii_uppercase())
}

/// A line of a sign and a number.
fn length(rest: &mut &[u8], sign: u8) -> Option<usize> {
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = rest.split_off(..end)?;
    rest.split_off(..2)?;
    let (first, digits) = line.split_first()?;
    if *first != sign || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
