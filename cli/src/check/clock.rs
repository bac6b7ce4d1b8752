//! How far the clock of a cluster is from this machine's.
//!
//! Overrides end and certificates begin by each machine's own clock. An API server tells its time
//! with every answer, in whole seconds; what is told here is the least that it can be off.

use k8s_openapi::jiff::Timestamp;
use kube::Client;

/// Clocks that are further apart are told, in seconds.
pub(super) const SKEW: f64 = 5.0;

/// By how many seconds a cluster's clock is ahead of this machine's, to a second.
pub(super) async fn ahead(client: &Client) -> Option<f64> {
    let request = http::Request::get("/version").body(kube::client::Body::empty());
    let before = Timestamp::now();
    let answer = client.send(request.ok()?).await.ok()?;
    let after = Timestamp::now();
    let date = answer.headers().get("date")?.to_str().ok()?;
    skew(date, before, after)
}

/// The header has whole seconds, and the answer was made at some time between.
fn skew(date: &str, before: Timestamp, after: Timestamp) -> Option<f64> {
    let date = jiff::fmt::rfc2822::parse(date)
        .ok()?
        .timestamp()
        .as_second() as f64;
    let seconds = |time: Timestamp| time.as_millisecond() as f64 / 1_000.0;
    let (least, most) = (date - seconds(after), date + 1.0 - seconds(before));
    Some(if least > 0.0 { least } else { most.min(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_no_less_than_it_must_be() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let date = "Sun, 22 Nov 2026 03:00:10 GMT";
        for (before, after, expected) in [
            ("2026-11-22T03:00:10.2Z", "2026-11-22T03:00:10.9Z", 0.0),
            ("2026-11-22T03:00:09.5Z", "2026-11-22T03:00:11.5Z", 0.0),
            ("2026-11-22T03:00:00.0Z", "2026-11-22T03:00:00.5Z", 9.5),
            ("2026-11-22T03:01:11.0Z", "2026-11-22T03:01:12.0Z", -60.0),
        ] {
            let skew = skew(date, time(before), time(after)).unwrap();
            assert!((skew - expected).abs() < 0.01, "{before}: {skew}");
        }
        assert_eq!(
            skew(
                "yesterday",
                time("2026-11-22T03:00:00Z"),
                time("2026-11-22T03:00:00Z")
            ),
            None
        );
    }
}
