//! Asks for the filter's image again and again, and tells what came of it.
//!
//! One that is missing is asked for with a back-off: who pushes it should not wait long, and a
//! registry that is in trouble should not be troubled more. One that is there is looked at too,
//! though only by its digest: somebody may delete it, and its registry may go away. Sidecars that
//! start then are without the filter, and nobody but the controller notices when it is back: their
//! agents do not try again by themselves. So its *return* is told ([`Returned`]), once it was there
//! for a while, and ever later where it comes and goes: every return is a push to all proxies.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Availability, Images, Unavailable};
use crate::engine::backoff::Backoff;
use crate::metrics::{ImageResult, Metrics};

/// One that is there is looked at again within this time.
const LOOK: Duration = Duration::from_secs(10);
/// A registry that is away is asked again within this time, whatever the back-off: sidecars are
/// without the filter until it is seen to be back.
const AWAY: Duration = Duration::from_secs(5);
/// So long it was there without a break before it counts as returned.
const CALM: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));
/// A return so long after the one before begins anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How often the image could be had again after it could not, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Returned(pub u64);

/// What is known before the registry was asked.
///
/// # Errors
/// Always: nothing may be written yet.
pub fn unknown() -> Availability {
    Err(Unavailable::new(
        "Pending",
        "the filter's image is being looked for",
    ))
}

/// Tells whether an image can be had, until nobody wants to know it any more.
pub async fn follow(
    images: Images,
    image: &str,
    mut backoff: Backoff,
    metrics: &Metrics,
    told: watch::Sender<Availability>,
) {
    let mut returns = Returns::default();
    while !told.is_closed() {
        let known = told.borrow().is_ok();
        let still = known && images.is_still_available(image).await;
        let found = if still {
            Ok(())
        } else {
            images.available(image).await
        };
        let pause = match &found {
            Ok(()) => {
                metrics.looked(ImageResult::Available);
                backoff.succeed();
                returns.there(Instant::now())
            }
            Err(missing) => {
                metrics.looked(ImageResult::Unavailable);
                returns.missing(Instant::now());
                let pause = backoff.after_failure();
                match missing.reason {
                    "RegistryUnreachable" => pause.min(within(AWAY)),
                    _ => pause,
                }
            }
        };
        let found = found.map(|()| returns.returned);
        told.send_if_modified(|known| {
            let differs = *known != found;
            if differs {
                tell(image, known, &found);
                *known = found;
            }
            differs
        });
        tokio::time::sleep(pause).await;
    }
}

fn tell(image: &str, known: &Availability, found: &Availability) {
    match found {
        Ok(_) if known.is_ok() => tracing::info!(
            image,
            "the filter's image stays, so plugins are written anew for the sidecars that started without it"
        ),
        Ok(_) => tracing::info!(image, "the filter's image can be had"),
        Err(missing) => tracing::error!(
            image,
            reason = missing.reason,
            error = %missing,
            "the filter's image cannot be had: plugins that need it are not written, and sidecars that start now are without the filter"
        ),
    }
}

/// When an image counts as returned.
struct Returns {
    returned: Returned,
    /// It was missing, and has not returned yet.
    missing: bool,
    /// When it will have, if it stays.
    due: Option<Instant>,
    calm: Backoff,
    /// When it last had.
    last: Option<Instant>,
}

impl Default for Returns {
    fn default() -> Self {
        Self {
            returned: Returned::default(),
            missing: false,
            due: None,
            calm: CALM,
            last: None,
        }
    }
}

impl Returns {
    fn missing(&mut self, now: Instant) {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_some_and(|since| since >= FORGOTTEN) {
            self.calm.succeed();
        }
        self.missing = true;
        self.due = None;
    }

    /// Says when to look again.
    fn there(&mut self, now: Instant) -> Duration {
        let look = within(LOOK);
        if !self.missing {
            return look;
        }
        let due = *self
            .due
            .get_or_insert_with(|| now + self.calm.after_failure());
        let left = due.saturating_duration_since(now);
        if !left.is_zero() {
            return left.min(look);
        }
        self.returned.0 = self.returned.0.saturating_add(1);
        self.missing = false;
        self.due = None;
        self.last = Some(now);
        look
    }
}

/// Not the same for two replicas.
fn within(time: Duration) -> Duration {
    Backoff::new(time, time).after_failure()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long it takes from when it is there again until it has returned.
    fn outage(returns: &mut Returns, mut now: Instant) -> Duration {
        let before = returns.returned;
        returns.missing(now);
        let began = now;
        loop {
            let pause = returns.there(now);
            if returns.returned > before {
                return now - began;
            }
            now += pause;
        }
    }

    #[test]
    fn what_was_always_there_has_not_returned() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        for look in 0..10 {
            let pause = returns.there(now + 10 * look * SECOND);
            assert!(pause >= 5 * SECOND && pause <= 10 * SECOND, "{pause:?}");
        }
        assert_eq!(returns.returned, Returned(0));
    }

    #[test]
    fn a_return_counts_once_it_was_there_for_a_while() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        assert!(outage(&mut returns, now) <= 2 * SECOND);
        assert_eq!(returns.returned, Returned(1));
        returns.there(now + 20 * SECOND);
        assert_eq!(returns.returned, Returned(1));
        // Away again before it counts.
        returns.missing(now + 30 * SECOND);
        returns.there(now + 31 * SECOND);
        returns.missing(now + 32 * SECOND);
        returns.there(now + 60 * SECOND);
        assert_eq!(returns.returned, Returned(1));
    }

    #[test]
    fn one_that_comes_and_goes_returns_ever_later() {
        let (mut returns, mut now) = (Returns::default(), Instant::now());
        let mut took = Vec::new();
        for _ in 0..12 {
            let time = outage(&mut returns, now);
            took.push(time);
            now += time + SECOND;
        }
        for (time, whole) in took.iter().zip([2, 4, 8, 16, 32, 64, 128, 256, 300, 300]) {
            let whole = whole * SECOND;
            assert!(*time >= whole / 2 && *time <= whole, "{took:?}");
        }
        // Calm for long: it begins anew.
        assert!(outage(&mut returns, now + FORGOTTEN) <= 2 * SECOND);
    }
}
