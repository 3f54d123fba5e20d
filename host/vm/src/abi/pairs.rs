//! Serialized maps: `u32le count`, then `count` × (`u32le` key length, `u32le` value length), then `count` ×
//! (key, NUL, value, NUL); lengths leave the NULs out.
//!
//! Source: proxy-wasm/spec, "Serialization". Encoding writes straight into guest memory; decoding borrows.

/// Longest serialized map taken from a guest, in bytes (as in proxy-wasm-cpp-host).
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Most pairs taken from a guest (as in proxy-wasm-cpp-host).
pub(crate) const MAX_PAIRS: usize = 1024;

/// Something that calls back with each of its pairs, the same ones each time.
pub(crate) trait Pairs {
    fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8]));

    /// Count of the pairs, and bytes of their keys and values.
    fn total(&self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        self.each(&mut |key, value| {
            count += 1;
            bytes += key.len() + value.len();
        });
        (count, bytes)
    }
}

/// Count of pairs and bytes of their serialized form. A map without pairs is given to guests as no bytes at all.
pub(crate) fn measure(pairs: &dyn Pairs) -> (usize, usize) {
    let (count, bytes) = pairs.total();
    (count, if count == 0 { 0 } else { 4 + count * (8 + 2) + bytes })
}

/// Writes `pairs` to `out`, which has exactly the length that [`measure`] gave.
pub(crate) fn encode(pairs: &dyn Pairs, out: &mut [u8]) {
    let (count, bytes) = measure(pairs);
    if bytes == 0 || out.len() != bytes {
        return;
    }
    let (head, data) = out.split_at_mut(4 + 8 * count);
    let (total, lengths) = head.split_at_mut(4);
    total.copy_from_slice(&(count as u32).to_le_bytes());
    let mut lengths = lengths.chunks_exact_mut(4);
    let mut at = 0;
    pairs.each(&mut |key, value| {
        for text in [key, value] {
            if let Some(length) = lengths.next() {
                length.copy_from_slice(&(text.len() as u32).to_le_bytes());
            }
            data[at..at + text.len()].copy_from_slice(text);
            data[at + text.len()] = 0;
            at += text.len() + 1;
        }
    });
}

/// Reads a map that a guest wrote. `None` if it is malformed or beyond the limits. No bytes, one NUL, and four NULs all
/// mean no pairs.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.is_empty() || bytes == [0] {
        return Some(Vec::new());
    }
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let number = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let count = number(0)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut at = 4 + 8 * count;
    let mut text = |length: usize| -> Option<&[u8]> {
        let end = at.checked_add(length)?;
        let text = bytes.get(at..end)?;
        if *bytes.get(end)? != 0 {
            return None;
        }
        at = end + 1;
        Some(text)
    };
    let mut pairs = Vec::with_capacity(count);
    for pair in 0..count {
        pairs.push((text(number(4 + 8 * pair)?)?, text(number(8 + 8 * pair)?)?));
    }
    Some(pairs)
}
