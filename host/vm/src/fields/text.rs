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

/// Makes the name that begins there lower case; where it ends.
#[inline]
pub(super) fn lower_name(bytes: &mut [u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get_mut(at..) {
        if let Some(word) = rest.first_chunk_mut() {
            let others = lower_word(word);
            if others == 0 {
                at += word.len();
                continue;
            }
            at += first(others);
        }
        match bytes.get_mut(at) {
            Some(byte) if LOWER[usize::from(*byte)] != 0 => *byte = LOWER[usize::from(*byte)],
            _ => break,
        }
        at += 1;
    }
    at
}

const EACH: u64 = u64::from_ne_bytes([1; 8]);
const HIGHEST: u64 = EACH * 0x80;

/// Which byte a number's lowest bit belongs to.
#[inline]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// Makes bytes lower case up to the first that is neither a letter nor a digit nor a dash; the highest bits of those that are
/// not. Each sum reaches the highest bit of its byte, and no other byte, from a certain character on.
#[inline]
fn lower_word(bytes: &mut [u8; 8]) -> u64 {
    const CASE: u64 = EACH * 0x20;
    const fn reaches(word: u64, character: u8) -> u64 {
        word + EACH * (0x80 - character as u64)
    }
    let word = u64::from_le_bytes(*bytes);
    let low = word & !HIGHEST;
    let letters = reaches(low | CASE, b'a') & !reaches(low | CASE, b'z' + 1);
    let digits = reaches(low, b'0') & !reaches(low, b'9' + 1);
    let no_dashes = reaches(low ^ (EACH * b'-' as u64), 1);
    let others = (!(letters | digits) & no_dashes | word) & HIGHEST;
    let before = (others & others.wrapping_neg()).wrapping_sub(1);
    *bytes = (word | (letters & !word & HIGHEST) >> 2 & before).to_le_bytes();
    others
}

/// Where visible characters, spaces, tabs, and bytes that are no ASCII end that begin there.
#[inline]
pub(super) fn text_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(rest) = bytes.get(at..) {
        if let Some(word) = rest.first_chunk() {
            let controls = controls(word);
            if controls == 0 {
                at += word.len();
                continue;
            }
            at += first(controls);
        }
        match bytes.get(at) {
            Some(byte) if is_text(byte) => at += 1,
            _ => break,
        }
    }
    at
}

/// Whether there are only visible characters, spaces, tabs, and what is no ASCII.
pub(super) fn is_value(value: &[u8]) -> bool {
    let Some(end) = value.last_chunk() else { return value.iter().all(is_text) };
    value.as_chunks().0.iter().all(are_text) && are_text(end)
}

/// [`is_text`] for eight bytes at once.
fn are_text(bytes: &[u8; 8]) -> bool {
    controls(bytes) == 0 || bytes.iter().all(is_text)
}

/// Not 0 if there are control characters; the lowest bit belongs to the first of them. Subtraction sets the highest bit of
/// the lowest byte that is smaller, and maybe of some above it.
#[inline]
fn controls(bytes: &[u8; 8]) -> u64 {
    let word = u64::from_le_bytes(*bytes);
    let delete = word ^ (EACH * 0x7f);
    let smaller = (word.wrapping_sub(EACH * 0x20) & !word) | (delete.wrapping_sub(EACH) & !delete);
    smaller & HIGHEST
}

#[inline]
fn is_text(byte: &u8) -> bool {
    (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t'
}

/// Each byte of a token (RFC 9110, 5.6.2) in lower case; of others, nothing.
static LOWER: [u8; 256] = {
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
