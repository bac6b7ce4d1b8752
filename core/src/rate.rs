//! Rates as people write them (`"15/s"`), and what an endpoint can serve.
//!
//! A rate is kept as its interval in nanoseconds, rounded up: the gate then admits at most the
//! rate, never a little more, in every window.

use core::fmt;
use core::num::NonZeroU32;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// What the gate keeps back of the burst tolerance, ns. Requests reach the application closer
/// together than they passed the gate, by the jitter of their delivery; the limit is a promise
/// about what the application sees.
pub const DELIVERY: u64 = 5_000_000;

/// The unit of a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
}

impl Unit {
    /// Length in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3_600 * SECOND,
        }
    }
}

/// A rate of requests: a whole number from 1 to 1,000,000 in a unit. There is no zero, which
/// people would read as "unlimited" or as "nothing".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    unit: Unit,
}

impl Rate {
    /// The largest count.
    pub const MAX_COUNT: u32 = 1_000_000;

    /// A rate of `count` requests a `unit`; `None` outside 1 to [`Self::MAX_COUNT`].
    #[must_use]
    pub fn new(count: u32, unit: Unit) -> Option<Self> {
        let count = NonZeroU32::new(count)?;
        (count.get() <= Self::MAX_COUNT).then_some(Self { count, unit })
    }

    /// Nanoseconds between two requests when the rate is shared evenly by `parts`, rounded up.
    #[must_use]
    pub fn interval(self, parts: NonZeroU32) -> u64 {
        let count = u64::from(self.count.get());
        (self.unit.nanos().saturating_mul(u64::from(parts.get()))).div_ceil(count)
    }

    /// Thousandths of a request a second, rounded down.
    #[must_use]
    pub fn per_second_milli(self) -> u64 {
        let milli = u64::from(self.count.get()).saturating_mul(1_000);
        milli.saturating_mul(SECOND) / self.unit.nanos()
    }

    /// Reads `"15/s"`.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str =
            "write a rate as a whole number and a unit: \"15/s\", \"900/m\" or \"10/h\"";
        let (count, unit) = text.split_once('/').ok_or(FORM)?;
        let unit = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(FORM),
        };
        if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(FORM);
        }
        let count: u32 = count.parse().map_err(|_| "write at most 1000000")?;
        if count == 0 {
            return Err("a rate of zero is refused: leave the field out, or write at least 1");
        }
        Self::new(count, unit).ok_or("write at most 1000000")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl serde::Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What one endpoint serves: a rate with its burst tolerance, a number of requests at once, or
/// both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The limit of the rate; `None` where only the concurrency is limited.
    pub rate: Option<RateLimit>,
    /// Requests in flight at once (L).
    pub concurrency: Option<NonZeroU32>,
}

/// A rate limit in the terms of a GCRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Emission interval 1/c, ns.
    pub interval: u64,
    /// Limit (B−1)/c less [`DELIVERY`], ns: how far the theoretical arrival time may lie ahead.
    pub limit: u64,
}

impl RateLimit {
    /// The limit of an endpoint of M that together serve `total_milli` (thousandths of a request
    /// a second).
    ///
    /// The burst tolerance is B = 3 + max(12, 0.1 s·C)/M requests: the studies' smallest one that
    /// keeps 95 % of the capacity in use under Poisson arrivals.
    fn new(interval: u64, total_milli: u64, m: u64) -> Self {
        let shared_milli = (total_milli / 10).max(12_000) / m.max(1);
        let beyond_one_milli = shared_milli.saturating_add(2_000);
        let limit = u128::from(interval) * u128::from(beyond_one_milli) / 1_000;
        let limit = u64::try_from(limit)
            .unwrap_or(u64::MAX)
            .saturating_sub(DELIVERY);
        Self { interval, limit }
    }

    /// What the backlog may reach, B/c, ns.
    #[must_use]
    pub const fn full(&self) -> u64 {
        self.limit.saturating_add(self.interval)
    }
}

impl Capacity {
    /// An endpoint of `endpoints` (M) that share `rate` and `concurrency` evenly; a part of a
    /// request in flight is nobody's, but each has one at least.
    #[must_use]
    pub fn of_total(
        rate: Option<Rate>,
        concurrency: Option<NonZeroU32>,
        endpoints: NonZeroU32,
    ) -> Self {
        let m = u64::from(endpoints.get());
        let share = |l: NonZeroU32| NonZeroU32::new((l.get() / endpoints.get()).max(1));
        Self {
            rate: rate.map(|r| RateLimit::new(r.interval(endpoints), r.per_second_milli(), m)),
            concurrency: concurrency.and_then(share),
        }
    }

    /// An endpoint of `endpoints` (M) that each serve `rate` and `concurrency`.
    #[must_use]
    pub fn of_each(
        rate: Option<Rate>,
        concurrency: Option<NonZeroU32>,
        endpoints: NonZeroU32,
    ) -> Self {
        let m = u64::from(endpoints.get());
        let limit = |r: Rate| {
            let total = r.per_second_milli().saturating_mul(m);
            RateLimit::new(r.interval(NonZeroU32::MIN), total, m)
        };
        Self {
            rate: rate.map(limit),
            concurrency,
        }
    }

    /// Time constant of the load sums, ns: max(0.3 s, 20/c).
    #[must_use]
    pub fn tau(&self) -> u64 {
        let twenty = self.rate.map_or(0, |r| r.interval.saturating_mul(20));
        twenty.max(SECOND * 3 / 10)
    }
}
