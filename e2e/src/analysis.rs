//! Judges what the applications saw, from their own time stamps.
//!
//! A limit is a statement about *every* window of time, of whatever length and wherever it begins:
//! at most `rate · W + burst` requests in a window of length W. Counting per second would miss
//! windows that straddle two seconds.
//!
//! It is also a statement about *decisions*, and what is seen are arrivals: a request may be late
//! on its way from the proxy that decided on it, by a cold connection or since the machine stood
//! still, and then arrives closer to the next one. When it was decided upon is known to a span
//! ([`Span`]): after it was meant to be sent, before it arrived. A window holds for certain the
//! requests whose spans lie inside it, and [`max_excess`] counts these: it never blames a limit for
//! the machine, needs no slack, and loses at both ends of a window the latency of a request.

use std::time::{Duration, Instant};

/// When a request was decided upon: between these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not before.
    pub from: Instant,
    /// Not after.
    pub to: Instant,
}

/// The window in which most was decided beyond the rate.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    /// Requests in the window minus `rate · length`: the smallest burst tolerance that allows it.
    pub requests: f64,
    /// Where the window begins.
    pub from: Instant,
    /// Where it ends.
    pub to: Instant,
    /// How many requests it holds for certain.
    pub count: usize,
}

/// The largest excess over `rate` (requests per second) in any closed window.
///
/// The worst window begins where a span begins and ends where one ends. Requests are taken in the
/// order of their ends; for every beginning s the tree keeps `rate · s` and the requests since then
/// whose spans have ended, so that its greatest sum less `rate · t` is the excess of the worst
/// window that ends at t. `None` without any request.
#[must_use]
pub fn max_excess(decided: &[Span], rate: f64) -> Option<Excess> {
    let mut spans = decided.to_vec();
    spans.sort_unstable_by_key(|span| span.from);
    let origin = spans.first()?.from;
    let drained = |at: Instant| rate * at.duration_since(origin).as_secs_f64();
    let mut by_end: Vec<_> = spans.iter().enumerate().collect();
    by_end.sort_unstable_by_key(|(_, span)| span.to);
    let mut windows = Windows::new(spans.len());
    let mut best: Option<Excess> = None;
    for (place, span) in by_end {
        let node = windows.insert(place, drained(span.from));
        let from = spans.get(node.start)?.from;
        let requests = node.best - drained(span.to);
        if best.is_none_or(|best| requests > best.requests) {
            best = Some(Excess {
                requests,
                from,
                to: span.to,
                count: (requests + drained(span.to) - drained(from)).round() as usize,
            });
        }
    }
    best
}

/// A binary tree over the beginnings of windows, in order of time.
struct Windows {
    leaves: usize,
    nodes: Vec<Node>,
}

/// A stretch of beginnings.
#[derive(Clone, Copy)]
struct Node {
    /// Requests that begin here and have ended.
    count: f64,
    /// The greatest sum of a beginning's own `rate · s` and the requests from there to the end of
    /// the stretch.
    best: f64,
    /// The place of that beginning.
    start: usize,
}

impl Windows {
    fn new(beginnings: usize) -> Self {
        let leaves = beginnings.next_power_of_two();
        let empty = Node {
            count: 0.0,
            best: f64::NEG_INFINITY,
            start: 0,
        };
        Self {
            leaves,
            nodes: vec![empty; 2 * leaves],
        }
    }

    /// Counts the request that begins at `place`, and gives the best of all.
    fn insert(&mut self, place: usize, drained: f64) -> Node {
        let mut node = Node {
            count: 1.0,
            best: drained + 1.0,
            start: place,
        };
        let mut at = self.leaves + place;
        loop {
            if let Some(kept) = self.nodes.get_mut(at) {
                *kept = node;
            }
            if at <= 1 {
                return node;
            }
            let Some(sibling) = self.nodes.get(at ^ 1).copied() else {
                return node;
            };
            node = if at.is_multiple_of(2) {
                node.before(sibling)
            } else {
                sibling.before(node)
            };
            at /= 2;
        }
    }
}

impl Node {
    /// This stretch and the one that follows it, as one.
    fn before(self, next: Self) -> Self {
        let through = self.best + next.count;
        let (best, start) = if next.best > through {
            (next.best, next.start)
        } else {
            (through, self.start)
        };
        Self {
            count: self.count + next.count,
            best,
            start,
        }
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

    /// Decided at the moment of arrival.
    fn exact(times: &[Instant]) -> Vec<Span> {
        times.iter().map(|at| Span { from: *at, to: *at }).collect()
    }

    #[test]
    fn an_even_flow_at_the_rate_exceeds_by_its_first_request_only() {
        let times = at(
            Instant::now(),
            &(0..500).map(|n| n * 100).collect::<Vec<_>>(),
        );
        let excess = max_excess(&exact(&times), 10.0).unwrap();
        assert!((excess.requests - 1.0).abs() < 1e-6, "{excess:?}");
    }

    #[test]
    fn it_equals_the_search_over_all_windows() {
        let origin = Instant::now();
        let mut random = crate::random::Random::new(7);
        let mut clock = 0.0;
        let spans: Vec<_> = (0..300)
            .map(|_| {
                clock += random.exponential() / 25.0;
                let late = if random.unit() < 0.1 { 0.3 } else { 0.001 };
                let from = origin + Duration::from_secs_f64(clock);
                let to = from + Duration::from_secs_f64(late * random.exponential());
                Span { from, to }
            })
            .collect();
        let held = |from: Instant, to: Instant| {
            let inside = |span: &&Span| span.from >= from && span.to <= to;
            spans.iter().filter(inside).count()
        };
        let mut worst: f64 = 0.0;
        for first in &spans {
            for last in &spans {
                if let Some(length) = last.to.checked_duration_since(first.from) {
                    let count = held(first.from, last.to) as f64;
                    worst = worst.max(count - 20.0 * length.as_secs_f64());
                }
            }
        }
        let excess = max_excess(&spans, 20.0).unwrap();
        assert!(
            (excess.requests - worst).abs() < 1e-6,
            "{excess:?} against {worst}"
        );
        assert_eq!(excess.count, held(excess.from, excess.to));
    }

    #[test]
    fn a_burst_that_straddles_two_seconds_is_seen() {
        let times = at(Instant::now(), &[990, 995, 999, 1000, 1005, 1010]);
        let excess = max_excess(&exact(&times), 3.0).unwrap();
        assert_eq!(excess.count, 6);
        assert!((excess.requests - (6.0 - 3.0 * 0.020)).abs() < 1e-6);
    }

    #[test]
    fn what_was_late_is_not_held_against_the_limit() {
        let origin = Instant::now();
        let meant = at(origin, &[0, 100, 200, 300, 400, 500]);
        // The machine stood still for 200 ms.
        let arrived = at(origin, &[0, 300, 301, 302, 400, 500]);
        assert!(max_excess(&exact(&arrived), 10.0).unwrap().requests > 2.9);
        let pairs = meant.into_iter().zip(arrived);
        let spans: Vec<_> = pairs.map(|(from, to)| Span { from, to }).collect();
        let excess = max_excess(&spans, 10.0).unwrap();
        assert!(excess.requests < 1.01, "{excess:?}");
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
