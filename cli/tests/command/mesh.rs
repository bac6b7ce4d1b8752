//! A mesh of real sidecars on this machine: two clusters, a service in both, and a caller at home.

use anyhow::Result;
use spillway_e2e::artefacts;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::Service;

pub(crate) const CLUSTERS: [&str; 2] = ["primary", "burst"];
/// Who calls, at home in the first.
pub(crate) const CALLER: &str = "shop";

/// One with the filter, and no policy yet.
pub(crate) async fn mesh() -> Result<Mesh> {
    Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(Service::worker())
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller(CALLER, "primary")
        .filter(artefacts::filter()?)
        .start()
        .await
}

/// One whose home serves requests at this rate.
pub(crate) async fn limited(rate: &str) -> Result<Mesh> {
    let mut mesh = mesh().await?;
    let policies = Policies::for_clusters(CLUSTERS)
        .prefix("burst", "bursty-")
        .policy(Policy::worker("primary", &["burst"]).total_rate("primary", rate, 1));
    let generation = mesh.apply(&policies).await?;
    mesh.wait_generation(generation).await?;
    Ok(mesh)
}
