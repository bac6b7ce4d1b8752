//! An index by name that is made once and asked at every request.
//!
//! Names of policies and services have long beginnings in common, which makes each step of a
//! search by name dear. Here the names are ordered by a hash: a search compares numbers, and one
//! name at its end, so that a thousand names cost a request hardly more than one.

use alloc::vec::Vec;

/// Values by name. A name may have several, which stay in their order.
#[derive(Clone, Debug)]
pub struct Index<K, T> {
    /// A hash above a place in `pairs`, in order.
    order: Vec<u64>,
    pairs: Vec<(K, T)>,
}

impl<K, T> Default for Index<K, T> {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            pairs: Vec::new(),
        }
    }
}

impl<K: AsRef<str>, T> Index<K, T> {
    /// Of names and their values, fewer than 2^32.
    #[must_use]
    pub fn new(pairs: Vec<(K, T)>) -> Self {
        let places = (0..).zip(&pairs);
        let mut order: Vec<u64> = places
            .map(|(place, (name, _))| hash(name.as_ref()) | place)
            .collect();
        order.sort_unstable();
        Self { order, pairs }
    }

    /// The values of `name`.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &T> {
        let hash = hash(name);
        let from = self.order.partition_point(|entry| *entry < hash);
        let rest = self.order.get(from..).unwrap_or_default().iter();
        rest.take_while(move |entry| **entry & HASH == hash)
            .filter_map(|entry| self.pairs.get(usize::try_from(*entry & !HASH).ok()?))
            .filter(move |(key, _)| key.as_ref() == name)
            .map(|(_, value)| value)
    }
}

/// The bits of the hash.
const HASH: u64 = !0 << 32;

/// FNV-1a, in the upper bits. Names come from a configuration, which nobody writes to make them
/// collide, and where they do, the search takes a step more.
fn hash(name: &str) -> u64 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    u64::from(hash) << 32
}
