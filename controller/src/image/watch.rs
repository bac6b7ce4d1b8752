//! Asks for the filter's image again and again, and tells what came of it.
//!
//! One that is missing is asked for with a back-off: who pushes it should not wait long, and a
//! registry that is in trouble should not be troubled more. One that is there is looked at from
//! time to time, since somebody may delete it: whoever needs it then waits, and nobody else.

use std::time::Duration;

use tokio::sync::watch;

use super::{Availability, Images, Unavailable};
use crate::engine::backoff::Backoff;
use crate::metrics::{ImageResult, Metrics};

/// One that is there is looked at again after this time.
const TRUSTED: Duration = Duration::from_secs(600);

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
    while !told.is_closed() {
        let found = images.available(image).await;
        let pause = match &found {
            Ok(()) => {
                metrics.looked(ImageResult::Available);
                backoff.succeed();
                TRUSTED
            }
            Err(_) => {
                metrics.looked(ImageResult::Unavailable);
                backoff.after_failure()
            }
        };
        told.send_if_modified(|known| {
            let differs = *known != found;
            if differs {
                tell(image, &found);
                *known = found;
            }
            differs
        });
        tokio::time::sleep(pause).await;
    }
}

fn tell(image: &str, found: &Availability) {
    match found {
        Ok(()) => tracing::info!(image, "the filter's image can be had"),
        Err(missing) => tracing::error!(
            image,
            reason = missing.reason,
            error = %missing,
            "the filter's image cannot be had, so plugins that need it are not written"
        ),
    }
}
