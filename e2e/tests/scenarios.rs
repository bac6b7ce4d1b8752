//! The scenarios on the file-driven mesh. The real Istio plays the same ones.

use std::time::Duration;

use anyhow::Result;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::Policy;
use spillway_e2e::topology::{OutlierDetection, ProxyOptions, Service};
use spillway_e2e::{artefacts, scenarios};

/// A failure is noticed and forgotten faster than in production.
async fn stage() -> Result<Mesh> {
    let service = Service::worker().with(|service| {
        service.outlier_detection = Some(OutlierDetection {
            interval: Some(Duration::from_millis(100)),
            base_ejection_time: Some(Duration::from_millis(500)),
            ..OutlierDetection::default()
        });
    });
    Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(service)
        .proxies(ProxyOptions {
            concurrency: 2,
            ..ProxyOptions::default()
        })
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller("shop", "primary")
        .caller("desk", "burst")
        .filter(artefacts::filter()?)
        .policies(scenarios::policies(Policy::worker("primary", &["burst"])))
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_cut_and_comes_home() -> Result<()> {
    scenarios::a_step_is_cut_and_comes_home(&mut stage().await?, 5.0, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_nothing() -> Result<()> {
    scenarios::forged_headers_do_nothing(&mut stage().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn full_home_bounces() -> Result<()> {
    scenarios::full_home_bounces(&mut stage().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_rung_costs_no_answers() -> Result<()> {
    scenarios::a_lost_rung_costs_no_answers(&mut stage().await?, 31).await
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_under_load_cost_nothing() -> Result<()> {
    scenarios::changes_under_load_cost_nothing(&mut stage().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_changes_nothing() -> Result<()> {
    scenarios::shadow_changes_nothing(&mut stage().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_ends_by_itself() -> Result<()> {
    let length = Duration::from_millis(2500);
    scenarios::an_override_ends_by_itself(&mut stage().await?, length).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_circles() -> Result<()> {
    scenarios::nothing_circles(&mut stage().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_switch_and_return() -> Result<()> {
    let between = Duration::from_secs(15);
    scenarios::all_switch_and_return(&mut stage().await?, between).await
}
