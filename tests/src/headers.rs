//! Header maps: an ordered list of names and values, and the form in which they cross the ABI.
//!
//! Values are bytes, since HTTP's are: a caller may send what is no UTF-8, and a filter must bear it.

use std::fmt;

use wasmtime::{Result, bail, ensure, format_err};

/// Headers in the order in which they are written; a name may stand more than once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// From names and values.
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Headers {
        Headers(
            pairs
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
                .collect(),
        )
    }

    /// These, and one more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Headers {
        self.add(name.as_bytes(), value.as_ref());
        self
    }

    /// These, with this value instead of any of that name.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Headers {
        self.replace(name.as_bytes(), value.as_ref());
        self
    }

    /// These, without any of that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Headers {
        self.remove(name.as_bytes());
        self
    }

    /// Appends a value; names are kept in lower case, as Envoy keeps them.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    /// Removes all values of the name and appends this one, as Envoy does.
    pub fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Removes all values of the name.
    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// The first value of the name.
    #[must_use]
    pub fn first(&self, name: &[u8]) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_slice())
    }

    /// All values of the name, as text (what is no UTF-8 shows as replacement characters).
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self
            .0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        named
            .map(|(_, v)| String::from_utf8_lossy(v).into_owned())
            .collect()
    }

    /// The value of the name as text, when it stands there exactly once.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        if all.len() == 1 { all.pop() } else { None }
    }

    /// Whether the name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.first(name.as_bytes()).is_some()
    }

    /// The names that begin so, in order.
    #[must_use]
    pub fn names_starting(&self, prefix: &str) -> Vec<String> {
        let named = self
            .0
            .iter()
            .filter(|(n, _)| n.starts_with(prefix.as_bytes()));
        named
            .map(|(n, _)| String::from_utf8_lossy(n).into_owned())
            .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(n, v)| (n.as_slice(), v.as_slice()))
    }

    /// The form of the ABI; no headers are no bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return Vec::new();
        }
        encode_pairs(&self.0)
    }

    /// Reads the form of the ABI.
    ///
    /// # Errors
    /// When the bytes are too few, or a name or value could not stand in an HTTP message.
    pub fn decode(bytes: &[u8]) -> Result<Headers> {
        let mut headers = Headers::default();
        if bytes.is_empty() {
            return Ok(headers);
        }
        let mut rest = bytes;
        let count = take_size(&mut rest)?;
        let mut sizes = Vec::new();
        for _ in 0..count {
            sizes.push((take_size(&mut rest)?, take_size(&mut rest)?));
        }
        for (name_size, value_size) in sizes {
            let name = take(&mut rest, name_size)?;
            take(&mut rest, 1)?;
            let value = take(&mut rest, value_size)?;
            take(&mut rest, 1)?;
            check(name, value)?;
            headers.add(name, value);
        }
        Ok(headers)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            let value = value.get(..200).unwrap_or(value);
            writeln!(
                f,
                "{}: {}",
                String::from_utf8_lossy(name),
                value.escape_ascii()
            )?;
        }
        Ok(())
    }
}

/// Whether an HTTP codec would write this: names are lower-case tokens, values have no NUL, CR or LF.
///
/// # Errors
/// Says what is wrong with the name or the value.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<()> {
    let plain = |b: &u8| b.is_ascii_graphic() && !b.is_ascii_uppercase();
    if name.is_empty() || !name.iter().all(plain) {
        bail!(
            "no header can have the name {:?}",
            name.escape_ascii().to_string()
        );
    }
    if value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
        bail!(
            "no header can have the value {:?}",
            value.escape_ascii().to_string()
        );
    }
    Ok(())
}

/// The count, the sizes of all names and values, then each name and value with a NUL behind it.
pub(crate) fn encode_pairs(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, pairs.len());
    for (name, value) in pairs {
        put(&mut out, name.len());
        put(&mut out, value.len());
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
    out
}

fn put(out: &mut Vec<u8>, size: usize) {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    out.extend_from_slice(&size.to_le_bytes());
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8]> {
    ensure!(
        rest.len() >= size,
        "header pairs end too early: {size} bytes wanted, {} left",
        rest.len()
    );
    let (head, tail) = rest.split_at(size);
    *rest = tail;
    Ok(head)
}

fn take_size(rest: &mut &[u8]) -> Result<usize> {
    let bytes: [u8; 4] = take(rest, 4)?
        .try_into()
        .map_err(|_| format_err!("a size has four bytes"))?;
    Ok(u32::from_le_bytes(bytes) as usize)
}
