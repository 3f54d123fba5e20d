//! What names and values consist of (RFC 9110, 5.1 and 5.5), eight bytes at a time.

/// Makes a name lower case; says whether it is one.
pub(super) fn lower(name: &mut [u8]) -> bool {
    let mut rare = 0;
    name.as_chunks_mut().0.iter_mut().for_each(|word| rare |= lower_word(word));
    match name.last_chunk_mut() {
        // Of eight bytes and more, those behind the last whole word, and some of them twice.
        Some(end) => rare |= lower_word(end),
        None => rare = 1,
    }
    let lower = |byte: &mut u8| {
        *byte = LOWER[usize::from(*byte)];
        *byte != 0
    };
    rare == 0 || name.iter_mut().all(lower)
}

/// Makes what is a token lower case.
pub(super) fn lower_token(token: &mut [u8]) {
    token.as_chunks_mut().0.iter_mut().for_each(|word| _ = lower_word(word));
    match token.last_chunk_mut() {
        Some(end) => _ = lower_word(end),
        None => token.make_ascii_lowercase(),
    }
}

/// Makes eight bytes lower case; not 0 if one of them is neither a letter nor a digit nor a dash. Each sum reaches the
/// highest bit of its byte, and no other byte, from a certain character on.
fn lower_word(bytes: &mut [u8; 8]) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = EACH * 0x80;
    const fn reaches(word: u64, character: u8) -> u64 {
        (word & !HIGHEST) + EACH * (0x80 - character as u64)
    }
    let word = u64::from_ne_bytes(*bytes);
    let upper = reaches(word, b'A') & !reaches(word, b'Z' + 1) & !word & HIGHEST;
    let lower = word | upper >> 2;
    let letters = reaches(lower, b'a') & !reaches(lower, b'z' + 1);
    let digits = reaches(lower, b'0') & !reaches(lower, b'9' + 1);
    let dashes = reaches(lower, b'-') & !reaches(lower, b'-' + 1);
    *bytes = lower.to_ne_bytes();
    !((letters | digits | dashes) & !word) & HIGHEST
}

/// Whether there are only visible characters, spaces, tabs, and what is no ASCII.
pub(super) fn is_value(value: &[u8]) -> bool {
    let Some(end) = value.last_chunk() else { return value.iter().all(is_text) };
    value.as_chunks().0.iter().all(are_text) && are_text(end)
}

/// [`is_text`] for eight bytes at once, if none of them is a tab.
fn are_text(bytes: &[u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let number = u64::from_ne_bytes(*bytes);
    let delete = number ^ (EACH * 0x7f);
    // Subtraction sets the highest bit of the lowest byte that is smaller, and maybe of some above it.
    let smaller =
        (number.wrapping_sub(EACH * 0x20) & !number) | (delete.wrapping_sub(EACH) & !delete);
    smaller & (EACH * 0x80) == 0 || bytes.iter().all(is_text)
}

fn is_text(byte: &u8) -> bool {
    (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t'
}

/// Each byte of a token (RFC 9110, 5.6.2) in lower case; of others, nothing.
const LOWER: [u8; 256] = {
    let token = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut table = [0; 256];
    let mut at = 0;
    while at < token.len() {
        table[token[at] as usize] = token[at];
        table[token[at].to_ascii_uppercase() as usize] = token[at];
        at += 1;
    }
    table
};
