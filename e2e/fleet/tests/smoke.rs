//! A hundred clusters: all of them get what they should, by as few requests as there can be.

use std::time::Duration;

use anyhow::Result;
use spillway_fleet::{Fleet, measure};

const CLUSTERS: usize = 100;
/// Watches are renewed every five minutes.
const WATCHED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_a_hundred_clusters_by_the_least_requests() -> Result<()> {
    let mut fleet = Fleet::start(CLUSTERS).await?;
    let changes = measure::changes(&mut fleet, 1).await?;
    for requests in &changes.requests {
        assert_eq!(
            requests.get("patch wasmplugins"),
            Some(&200),
            "{requests:?}"
        );
        assert_eq!(measure::count(requests, "patch"), 200, "{requests:?}");
        // A look at the claim, unless the last one was a moment ago.
        let others = measure::count(requests, "") - 200;
        let claims = requests.get("get configmaps").copied().unwrap_or_default();
        assert!(others == claims && claims <= 100, "{requests:?}");
    }
    let rest = measure::rest(&mut fleet, WATCHED).await?;
    assert_eq!(
        measure::count(&rest, ""),
        measure::count(&rest, "watch"),
        "{rest:?}"
    );
    Ok(())
}
