//! Records that threads share: fixed-size bytes with a kind and a version.
//!
//! The host's shared data is one map for all plugins of an Envoy, and it outlives a change of the
//! filter's code. So a record says what it is; bytes of another kind, version or length decode to
//! `None`, and the caller starts afresh instead of misreading them.

/// Version of all records. Raise it when a layout changes.
pub const VERSION: u8 = 1;

/// A record of fixed size: two of kind and version, then little-endian fields.
pub trait Record: Sized + Default {
    /// Distinguishes the kinds of record.
    const KIND: u8;
    /// Encoded size, bytes.
    const SIZE: usize;
    /// Writes the fields.
    fn write(&self, to: &mut Writer<'_>);
    /// Reads the fields.
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// Encodes into `buffer`, and gives the part that was used; empty where the buffer is too
    /// small.
    fn encode<'a>(&self, buffer: &'a mut [u8]) -> &'a [u8] {
        let size = Self::SIZE;
        let mut writer = Writer {
            rest: buffer.get_mut(..size).unwrap_or_default(),
        };
        writer.put(&[Self::KIND, VERSION]);
        self.write(&mut writer);
        buffer.get(..size).unwrap_or_default()
    }

    /// Decodes; `None` for anything but exactly this kind, version and size.
    fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::SIZE {
            return None;
        }
        let mut reader = Reader { rest: bytes };
        let [kind, version] = reader.take::<2>()?;
        if kind != Self::KIND || version != VERSION {
            return None;
        }
        Self::read(&mut reader)
    }
}

/// The largest [`Record::SIZE`].
pub const MAX_SIZE: usize = 96;

/// Writes fields one after the other.
pub struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let rest = core::mem::take(&mut self.rest);
        if let Some((to, rest)) = rest.split_at_mut_checked(bytes.len()) {
            to.copy_from_slice(bytes);
            self.rest = rest;
        }
    }

    /// A 64-bit field.
    pub fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// A 32-bit field.
    pub fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// An 8-bit field.
    pub fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }
}

/// Reads fields one after the other.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// A 64-bit field.
    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A 32-bit field.
    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    /// An 8-bit field.
    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }
}
