//! Header maps as the host hands them over in one call: a count, all sizes, then names and values,
//! each ended by a zero byte (proxy-wasm ABI 0.2.1). Read in place, every step checked.

/// Gives each pair to `see`; ends early where the map is damaged. Every request has its headers
/// pass here, twice on each side, so the loop is kept tight.
pub(crate) fn each<'a>(map: &'a [u8], mut see: impl FnMut(&'a [u8], &'a [u8])) {
    let Some((count, rest)) = map.split_first_chunk::<4>() else {
        return;
    };
    let bytes = usize::try_from(u32::from_le_bytes(*count))
        .ok()
        .and_then(|n| n.checked_mul(8));
    let Some((sizes, mut data)) = bytes.and_then(|bytes| rest.split_at_checked(bytes)) else {
        return;
    };
    let (sizes, _) = sizes.as_chunks::<8>();
    for pair in sizes {
        let [a, b, c, d, e, f, g, h] = *pair;
        let Some((name, rest)) = text(data, [a, b, c, d]) else {
            return;
        };
        let Some((value, rest)) = text(rest, [e, f, g, h]) else {
            return;
        };
        data = rest;
        see(name, value);
    }
}

/// The text at the beginning of `data`, and what follows its zero byte.
#[inline(always)]
fn text(data: &[u8], size: [u8; 4]) -> Option<(&[u8], &[u8])> {
    let size = usize::try_from(u32::from_le_bytes(size)).ok()?;
    let (text, rest) = data.split_at_checked(size)?;
    Some((text, rest.get(1..)?))
}

/// Serialises a short map.
pub(crate) fn encode(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut to = Vec::with_capacity(256);
    let size = |text: &[u8]| u32::try_from(text.len()).unwrap_or_default().to_le_bytes();
    to.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or_default().to_le_bytes());
    for (name, value) in pairs {
        to.extend_from_slice(&size(name));
        to.extend_from_slice(&size(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            to.extend_from_slice(text);
            to.push(0);
        }
    }
    to
}
