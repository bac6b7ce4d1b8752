//! Epochs, and the tails by which they travel behind the headers of [`crate::header`].
//!
//! Numbers go around: a number that can be used up could be used up by a liar, and then nothing
//! would ever change again. "Newer" is less than half a turn ahead (serial number arithmetic, RFC
//! 1982). That is an order only among numbers that lie close to each other, so an endpoint follows
//! by [`MOST_AHEAD`] at a time, ten times a second.

use alloc::vec::Vec;

use crate::header::{number, push_number};
use crate::record::{Reader, Record, Writer};

/// Numbers of a turn: nine digits, which is what [`number`] reads.
const TURN: u32 = 1_000_000_000;

/// An endpoint that is further behind than this follows in several steps. It is more than there are
/// changes in a day, so that an endpoint that starts follows within a few ticks.
pub const MOST_AHEAD: u32 = 1_000;

/// Counts a policy's changes: even is home, odd is switched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch(u32);

impl Epoch {
    /// `None` for a number of more than nine digits.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number < TURN).then_some(Self(number))
    }

    /// All spills.
    #[must_use]
    pub const fn switched(self) -> bool {
        self.0 % 2 == 1
    }

    /// After one more change.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// How many changes this one is ahead; 0 where it is not newer.
    #[must_use]
    pub const fn ahead_of(self, other: Self) -> u32 {
        let ahead = (self.0 + TURN - other.0) % TURN;
        if ahead < TURN / 2 { ahead } else { 0 }
    }

    /// Nearer to a newer one, with its state; at most [`MOST_AHEAD`] at a time.
    #[must_use]
    pub(super) const fn toward(self, newer: Self) -> Self {
        let ahead = newer.ahead_of(self);
        if ahead <= MOST_AHEAD {
            newer
        } else {
            self.plus(MOST_AHEAD - ahead % 2)
        }
    }

    const fn plus(self, changes: u32) -> Self {
        Self((self.0 + changes) % TURN)
    }

    /// Appends the epoch to a request's header: `…;FLAGS;EPOCH`.
    pub fn append(self, header: &mut Vec<u8>) {
        append(header, self.0);
    }

    /// The epoch behind a request's header, of a header that was read already.
    #[must_use]
    pub fn of_hop(header: &[u8]) -> Option<Self> {
        let [epoch] = tail::<1>(header, 6)?;
        Self::new(epoch)
    }
}

impl Record for Epoch {
    const KIND: u8 = b'p';
    const SIZE: usize = 2 + 4;

    fn write(&self, to: &mut Writer<'_>) {
        to.u32(self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Self::new(from.u32()?)
    }
}

/// What an endpoint tells with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Tells endpoints apart, and an endpoint from what it was before it was restarted.
    pub endpoint: u32,
    /// Requests that were asked for there, from nine digits on from zero again.
    pub total: u32,
    /// When that was, by the endpoint's clock, ms; from nine digits on from zero again.
    pub time: u32,
    /// What is asked for there now, thousandths of a request a second.
    pub demand: u32,
    /// The policy's epoch, as the endpoint knows it.
    pub epoch: Epoch,
}

impl News {
    /// Appends the news to a load header: `…;K;ENDPOINT;TOTAL;TIME;DEMAND;EPOCH`.
    pub fn append(&self, header: &mut Vec<u8>) {
        let Self {
            endpoint,
            total,
            time,
            demand,
            epoch: Epoch(epoch),
        } = *self;
        for part in [endpoint, total, time, demand, epoch] {
            append(header, part);
        }
    }

    /// The news behind a load header, of a header that was read already.
    #[must_use]
    pub fn of_load(header: &[u8]) -> Option<Self> {
        let [endpoint, total, time, demand, epoch] = tail::<5>(header, 3)?;
        Some(Self {
            endpoint,
            total,
            time,
            demand,
            epoch: Epoch::new(epoch)?,
        })
    }
}

/// `newer` less `older`, of numbers that go around: requests, or milliseconds.
pub(super) const fn since(newer: u32, older: u32) -> u32 {
    (newer % TURN + TURN - older % TURN) % TURN
}

/// A count as it travels.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of nine digits"
)]
pub(super) const fn around(count: u64) -> u32 {
    (count % TURN as u64) as u32
}

fn append(header: &mut Vec<u8>, part: u32) {
    header.push(b';');
    push_number(header, part);
}

/// Exactly `N` numbers behind the first `before` parts.
fn tail<const N: usize>(header: &[u8], before: usize) -> Option<[u32; N]> {
    let mut parts = header.split(|byte| *byte == b';').skip(before);
    let mut numbers = [0; N];
    for place in &mut numbers {
        *place = number(parts.next()?)?;
    }
    parts.next().is_none().then_some(numbers)
}
