//! Waiting for what no event tells.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Far longer than anything takes: a test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until something holds. Returns how long it took.
///
/// # Errors
/// When it never does, or cannot be asked for.
pub async fn until(what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
    let began = Instant::now();
    while !holds().await? {
        ensure!(began.elapsed() < PATIENCE, "{what}: it never was");
        tokio::time::sleep(LOOK).await;
    }
    Ok(began.elapsed())
}
