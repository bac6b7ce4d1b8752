//! Header maps as the host hands them over in one call: a count, all sizes, then names and values,
//! each ended by a zero byte (proxy-wasm ABI 0.2.1). Read in place, every step checked.

/// Iterates over the pairs of a serialised map; ends early where it is damaged.
#[derive(Clone)]
pub(crate) struct Pairs<'a> {
    left: u32,
    sizes: &'a [u8],
    data: &'a [u8],
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(map: &'a [u8]) -> Self {
        Self::checked(map).unwrap_or(Self {
            left: 0,
            sizes: &[],
            data: &[],
        })
    }

    fn checked(map: &'a [u8]) -> Option<Self> {
        let (count, rest) = map.split_first_chunk::<4>()?;
        let left = u32::from_le_bytes(*count);
        let sizes = usize::try_from(left).ok()?.checked_mul(8)?;
        let (sizes, data) = rest.split_at_checked(sizes)?;
        Some(Self { left, sizes, data })
    }

    fn text(&mut self, size: [u8; 4]) -> Option<&'a [u8]> {
        let size = usize::try_from(u32::from_le_bytes(size)).ok()?;
        let (text, rest) = self.data.split_at_checked(size)?;
        self.data = rest.get(1..)?;
        Some(text)
    }
}

impl<'a> Iterator for Pairs<'a> {
    /// A name and a value.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (name, rest) = self.sizes.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        self.sizes = rest;
        Some((self.text(*name)?, self.text(*value)?))
    }
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
