//! Judges what the applications saw, from their own time stamps.
//!
//! The limit of a gate is a statement about *every* window of time, of whatever length and
//! wherever it begins: at most `rate · W + burst` requests in a window of length W. Counting per
//! second would miss windows that straddle two seconds; looking at all pairs of requests would take
//! n² steps. [`max_excess`] is exact in one pass.

use std::time::{Duration, Instant};

use crate::canary::Stall;

/// The window in which most was served beyond the rate.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    /// Requests in the window minus `rate · length`: the smallest burst tolerance that allows it.
    pub requests: f64,
    /// The first request of the window.
    pub from: Instant,
    /// The last request of the window.
    pub to: Instant,
    /// How many requests it holds, both ends included.
    pub count: usize,
}

/// The largest excess over `rate` (requests per second) in any closed window.
///
/// With the i-th request at tᵢ, a window from i to j holds j − i + 1 requests in tⱼ − tᵢ seconds, so
/// its excess is (j + 1 − rate·tⱼ) − (i − rate·tᵢ): the greatest for each j is against the smallest
/// second term so far. `times` need not be sorted. `None` without any request.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn max_excess(times: &[Instant], rate: f64) -> Option<Excess> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let origin = *times.first()?;
    let mut best: Option<Excess> = None;
    let mut low = (0_usize, origin, f64::INFINITY);
    for (index, at) in times.iter().enumerate() {
        let drained = rate * at.duration_since(origin).as_secs_f64();
        let level = index as f64 - drained;
        if level < low.2 {
            low = (index, *at, level);
        }
        let requests = level + 1.0 - low.2;
        if best.is_none_or(|best| requests > best.requests) {
            best = Some(Excess {
                requests,
                from: low.1,
                to: *at,
                count: index - low.0 + 1,
            });
        }
    }
    best
}

/// As [`max_excess`], but only over windows in which the machine did not stall: the requests are
/// cut into the stretches between the stalls.
#[must_use]
pub fn max_excess_outside(times: &[Instant], rate: f64, stalls: &[Stall]) -> Option<Excess> {
    let mut rest = times.to_vec();
    rest.sort_unstable();
    let mut best: Option<Excess> = None;
    for stall in stalls {
        let after = rest.split_off(rest.partition_point(|at| *at < stall.from));
        best = larger(best, max_excess(&rest, rate));
        rest = after.into_iter().filter(|at| *at > stall.to).collect();
    }
    larger(best, max_excess(&rest, rate))
}

fn larger(a: Option<Excess>, b: Option<Excess>) -> Option<Excess> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.requests >= b.requests { a } else { b }),
        (one, other) => one.or(other),
    }
}

/// How many of `times` fall into each of the intervals that follow `start`.
#[must_use]
pub fn per_interval(
    times: &[Instant],
    start: Instant,
    interval: Duration,
    intervals: usize,
) -> Vec<u64> {
    let mut counts = vec![0; intervals];
    for at in times.iter().filter(|at| **at >= start) {
        let index = at.duration_since(start).as_nanos() / interval.as_nanos().max(1);
        if let Some(count) = usize::try_from(index)
            .ok()
            .and_then(|index| counts.get_mut(index))
        {
            *count += 1;
        }
    }
    counts
}

/// How many of `times` lie in `[from, to)`.
#[must_use]
pub fn count_between(times: &[Instant], from: Instant, to: Instant) -> usize {
    times.iter().filter(|at| **at >= from && **at < to).count()
}

/// The rate served in `[from, to)` as a fraction of `capacity` (requests per second).
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn utilisation(times: &[Instant], from: Instant, to: Instant, capacity: f64) -> f64 {
    let seconds = to.duration_since(from).as_secs_f64();
    count_between(times, from, to) as f64 / (capacity * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(origin: Instant, millis: &[u64]) -> Vec<Instant> {
        millis
            .iter()
            .map(|ms| origin + Duration::from_millis(*ms))
            .collect()
    }

    #[test]
    fn an_even_flow_at_the_rate_exceeds_by_its_first_request_only() {
        let times = at(
            Instant::now(),
            &(0..500).map(|n| n * 100).collect::<Vec<_>>(),
        );
        let excess = max_excess(&times, 10.0).unwrap();
        assert!((excess.requests - 1.0).abs() < 1e-6, "{excess:?}");
    }

    #[test]
    fn it_equals_the_search_over_all_pairs() {
        let origin = Instant::now();
        let mut random = crate::random::Random::new(7);
        let mut clock = 0.0;
        let times: Vec<_> = (0..400)
            .map(|_| {
                clock += random.exponential() / 25.0;
                origin + Duration::from_secs_f64(clock)
            })
            .collect();
        let mut worst: f64 = 0.0;
        for i in 0..times.len() {
            for j in i..times.len() {
                let seconds = times[j].duration_since(times[i]).as_secs_f64();
                worst = worst.max((j - i + 1) as f64 - 20.0 * seconds);
            }
        }
        let excess = max_excess(&times, 20.0).unwrap();
        assert!(
            (excess.requests - worst).abs() < 1e-6,
            "{excess:?} against {worst}"
        );
        let inside = count_between(&times, excess.from, excess.to + Duration::from_nanos(1));
        assert_eq!(excess.count, inside);
    }

    #[test]
    fn a_burst_that_straddles_two_seconds_is_seen() {
        let times = at(Instant::now(), &[990, 995, 999, 1000, 1005, 1010]);
        let excess = max_excess(&times, 3.0).unwrap();
        assert_eq!(excess.count, 6);
        assert!((excess.requests - (6.0 - 3.0 * 0.020)).abs() < 1e-6);
    }

    #[test]
    fn windows_with_a_stall_are_left_out() {
        let origin = Instant::now();
        let times = at(origin, &[0, 100, 200, 300, 301, 302, 303, 400, 500]);
        let stall = Stall {
            from: origin + Duration::from_millis(210),
            to: origin + Duration::from_millis(303),
        };
        assert!(max_excess(&times, 10.0).unwrap().requests > 3.0);
        assert!(max_excess_outside(&times, 10.0, &[stall]).unwrap().requests < 1.01);
    }

    #[test]
    fn intervals_and_utilisation_count_what_lies_inside() {
        let origin = Instant::now();
        let times = at(origin, &[0, 10, 999, 1000, 2500]);
        let counts = per_interval(&times, origin, Duration::from_secs(1), 2);
        assert_eq!(counts, [3, 1]);
        let used = utilisation(&times, origin, origin + Duration::from_secs(1), 3.0);
        assert!((used - 1.0).abs() < 1e-9);
    }
}
