//! Records in the host's shared data: read, change, compare and store.
//!
//! All plugins of an Envoy share one name space, so every key begins with `spillway.`. The host has
//! no create-if-absent: keys are created when a configuration is taken, which is harmless to
//! repeat. Entries cannot be removed, so keys are as many as policies.

use spillway_core::record::{MAX_SIZE, Record};

use crate::host::{self, Status};

/// Tries before giving up: more in a row are lost only if other threads win each time.
const TRIES: u32 = 4;

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// The key for records of a kind that belong to `of`.
    pub(crate) fn new<R: Record>(of: &[&str]) -> Self {
        let mut key = b"spillway.".to_vec();
        key.push(R::KIND);
        for part in of {
            key.push(b'.');
            key.extend_from_slice(part.as_bytes());
        }
        Self(key)
    }

    /// Makes sure that the key exists with a record that can be read.
    pub(crate) fn create<R: Record>(&self) -> Result<(), Status> {
        match host::shared(&self.0)? {
            Some((bytes, _)) if R::decode(&bytes).is_some() => Ok(()),
            _ => {
                let mut buffer = [0; MAX_SIZE];
                host::set_shared(&self.0, R::default().encode(&mut buffer), 0)
            }
        }
    }

    /// What is there; a fresh record where it cannot be read.
    pub(crate) fn read<R: Record>(&self) -> R {
        self.load().0
    }

    fn load<R: Record>(&self) -> (R, u32) {
        match host::shared(&self.0) {
            Ok(Some((bytes, cas))) => (R::decode(&bytes).unwrap_or_default(), cas),
            _ => (R::default(), 0),
        }
    }

    /// Applies `change` until it is stored. A change that gives no record ends it without storing;
    /// so does the last lost try, with what `change` said then and `false`.
    pub(crate) fn update<R: Record, T>(
        &self,
        mut change: impl FnMut(R) -> (Option<R>, T),
    ) -> (T, bool) {
        let mut tries = TRIES;
        loop {
            let (record, cas) = self.load::<R>();
            let (next, told) = change(record);
            let Some(next) = next else {
                return (told, true);
            };
            let mut buffer = [0; MAX_SIZE];
            if host::set_shared(&self.0, next.encode(&mut buffer), cas).is_ok() {
                return (told, true);
            }
            tries -= 1;
            if tries == 0 {
                return (told, false);
            }
        }
    }
}
