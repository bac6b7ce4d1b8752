//! When requests are sent.
//!
//! The rate is a straight line over the flight's time, from one number to another or at one. A
//! request is sent whenever the area below it has grown by one: so the schedule is known before the
//! first request, and no answer changes it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Requests a second, from the beginning to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    from: u32,
    to: u32,
}

/// A rate over a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) rate: Rate,
    pub(super) time: Duration,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "write whole requests a second, such as 20, or from 5 to 75 as 5..75; not all 0";
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.parse().map_err(|_| FORM);
        let rate = Self {
            from: number(from)?,
            to: number(to)?,
        };
        (rate.from.max(rate.to) > 0).then_some(rate).ok_or(FORM)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}/s", self.from)
        } else {
            write!(f, "{}/s to {}/s", self.from, self.to)
        }
    }
}

impl Plan {
    /// How many requests are sent in all.
    pub(super) fn requests(&self) -> u64 {
        let sum = f64::from(self.rate.from) + f64::from(self.rate.to);
        // A float of the size of a request's number becomes an integer as it is.
        (sum / 2.0 * self.time.as_secs_f64()).round().max(1.0) as u64
    }

    /// When the request of this number, counted from 0, is sent.
    pub(super) fn at(&self, number: u64) -> Duration {
        if number == 0 {
            return Duration::ZERO;
        }
        let (from, slope) = (f64::from(self.rate.from), self.slope());
        // Of `from × t + slope × t² / 2 = number`, in the form that also holds for no slope.
        let root = (from * from + 2.0 * slope * number as f64).max(0.0).sqrt();
        let seconds = 2.0 * number as f64 / (from + root);
        Duration::from_secs_f64(seconds.min(self.time.as_secs_f64()))
    }

    /// Requests a second at a time.
    pub(super) fn rate_at(&self, time: Duration) -> f64 {
        f64::from(self.rate.from) + self.slope() * time.as_secs_f64()
    }

    /// How the rate changes, in requests a second and second.
    fn slope(&self) -> f64 {
        (f64::from(self.rate.to) - f64::from(self.rate.from)) / self.time.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: &str, seconds: u64) -> Plan {
        Plan {
            rate: rate.parse().unwrap(),
            time: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn as_many_are_sent_at_a_time_as_lie_below_the_line() {
        for (rate, seconds, requests) in [
            ("20", 30, 600),
            ("5..75", 30, 1_200),
            ("75..0", 10, 375),
            ("0..3", 1, 2),
        ] {
            let plan = plan(rate, seconds);
            assert_eq!(plan.requests(), requests, "{rate}");
            let mut last = Duration::ZERO;
            for number in 0..requests {
                let at = plan.at(number);
                assert!(last <= at && at <= plan.time, "{rate}: {number} at {at:?}");
                let mean = (plan.rate_at(Duration::ZERO) + plan.rate_at(at)) / 2.0;
                let below = mean * at.as_secs_f64();
                let is_one = (below - number as f64).abs() < 0.01 || at == plan.time;
                assert!(is_one, "{rate}: {number} at {at:?}, {below}");
                last = at;
            }
        }
    }

    #[test]
    fn what_is_no_rate() {
        for text in ["", "0", "0..0", "5..", "..5", "-1", "1.5", "5...7", "many"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
