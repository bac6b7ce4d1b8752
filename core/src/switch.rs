//! Switch mode: all or nothing with hysteresis, decided by a caller that is alone.
//!
//! Two one-sided cumulative sums, as in sequential change detection: one rises while the rate is
//! above `enter`, the other while it is below `leave`; whichever passes the threshold switches. A
//! window of one second would be faster and change its mind a thousand times an hour at a rate
//! between the two; a window of ten would take twice as long.
//!
//! Where several callers share the limits, see [`crate::totals`].
//!
//! The sums are shared by the threads of a caller and fed at each tick, so a request only reads
//! the outcome.

use crate::rate::{Rate, SECOND};
use crate::record::{Reader, Record, Writer};

/// When to switch: from the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Above this rate all spills, thousandths of a request a second.
    pub(crate) enter_milli: u64,
    /// Below this rate all comes home, thousandths of a request a second.
    pub(crate) leave_milli: u64,
}

impl Limits {
    /// `None` unless `leave` is below `enter`.
    #[must_use]
    pub fn new(enter: Rate, leave: Rate) -> Option<Self> {
        let (enter_milli, leave_milli) = (enter.per_second_milli(), leave.per_second_milli());
        (leave_milli < enter_milli).then_some(Self {
            enter_milli,
            leave_milli,
        })
    }

    /// The threshold Bs = max(15, 1 s × enter), millionths of a request: 2.9 s from 5/s to 20/s
    /// at a limit of 15/s, and at most six false changes an hour between the limits (studied).
    const fn threshold(&self) -> u64 {
        let one_second = self.enter_milli.saturating_mul(1_000);
        if one_second > 15_000_000 {
            one_second
        } else {
            15_000_000
        }
    }
}

/// The shared record; sums are in millionths of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    since: u64,
    up: u64,
    down: u64,
    switched: bool,
}

impl Switch {
    /// Adds `count` requests that came up to `now`.
    #[must_use]
    pub fn tick(mut self, limits: &Limits, now: u64, count: u64) -> Self {
        if self.since == 0 || self.since.saturating_sub(now) > SECOND {
            self.since = now; // The first tick, or a record of another clock.
            return self;
        }
        // A thread that read its clock a little earlier than the last one adds no time.
        let dt = now.saturating_sub(self.since);
        self.since = self.since.max(now);
        let came = count.saturating_mul(1_000_000);
        let at = |rate_milli: u64| {
            let micro = u128::from(rate_milli) * 1_000 * u128::from(dt) / u128::from(SECOND);
            u64::try_from(micro).unwrap_or(u64::MAX)
        };
        // Beyond the threshold nothing is learnt; the bound keeps the sums from running away.
        let most = limits.threshold().saturating_add(1);
        self.up = self
            .up
            .saturating_add(came)
            .saturating_sub(at(limits.enter_milli))
            .min(most);
        self.down = self
            .down
            .saturating_add(at(limits.leave_milli))
            .saturating_sub(came)
            .min(most);
        if !self.switched && self.up >= most {
            self.switched = true;
            self.down = 0;
        } else if self.switched && self.down >= most {
            self.switched = false;
            self.up = 0;
        }
        self
    }

    /// All spills.
    #[must_use]
    pub const fn switched(&self) -> bool {
        self.switched
    }
}

impl Record for Switch {
    const KIND: u8 = b's';
    const SIZE: usize = 2 + 8 * 3 + 1;

    fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.since);
        to.u64(self.up);
        to.u64(self.down);
        to.u8(u8::from(self.switched));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            since: from.u64()?,
            up: from.u64()?,
            down: from.u64()?,
            switched: match from.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}
