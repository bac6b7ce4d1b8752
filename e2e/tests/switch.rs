//! Switch mode: who has left stays away between the limits, whatever is changed around it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use spillway_e2e::artefacts;
use spillway_e2e::client::Call;
use spillway_e2e::load::{Load, Outcome, Running};
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::Service;

/// Rates a second: well above `enter`, between the limits, well below `leave`.
const ABOVE: f64 = 20.0;
const BETWEEN: f64 = 12.0;
const BELOW: f64 = 5.0;

/// A change of the rate is followed within this time. The sums need 3 s at even arrivals.
const DECIDED: Duration = Duration::from_secs(6);

/// The threads of a caller follow one another by a tick of 100 ms.
const TOGETHER: Duration = Duration::from_millis(500);

fn policies(enter: &str, leave: &str) -> Policies {
    Policies::two_clusters(Policy::worker("primary", &["burst"]).switch((enter, leave), None))
}

async fn start() -> Result<Mesh> {
    Mesh::two_clusters(Service::worker(), 1)
        .caller("shop", "primary")
        .filter(artefacts::filter()?)
        .policies(policies("15/s", "10/s"))
        .start()
        .await
}

/// A load from a caller, whose name is the path.
fn load(mesh: &Mesh, caller: &str, seed: u64) -> Result<Load> {
    Ok(Load::new(seed)
        .target(1.0, mesh.target(caller)?)
        .call(1.0, Call::get(&format!("/{caller}")))
        .keep_headers(&["x-spillway-prefix"]))
}

fn all_ok_with_their_prefix(outcome: &Outcome) -> Result<()> {
    outcome.all_ok()?;
    for reply in &outcome.replies {
        let prefix = reply.headers.get("x-spillway-prefix");
        let away = reply.served_by.as_deref() == Some("burst");
        assert_eq!(prefix.is_some_and(|prefix| prefix == "bursty-"), away);
        assert_eq!(prefix.is_some(), away, "home has no prefix");
    }
    Ok(())
}

/// The filter with one more custom section, which means nothing: another code to Envoy, so that it
/// makes new VMs.
fn other_code() -> Result<Vec<u8>> {
    let filter: PathBuf = artefacts::filter()?;
    let mut code = std::fs::read(filter)?;
    // Section 0 of five bytes: a name of four.
    code.extend_from_slice(b"\x00\x05\x04next");
    Ok(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_switched_over_a_new_configuration_and_new_code() -> Result<()> {
    let mut mesh = start().await?;
    let minute = Duration::from_secs(60);
    let finish = async |running: Running| -> Result<()> {
        running.stop();
        all_ok_with_their_prefix(&running.finish().await?)
    };
    let above = load(&mesh, "shop", 1)?.step(ABOVE, minute).start()?;
    mesh.wait_for_arrivals("burst", 10, DECIDED + TOGETHER)
        .await?;
    // Between the limits what is lost does not come back by itself.
    let between = load(&mesh, "shop", 2)?.step(BETWEEN, minute).start()?;
    finish(above).await?;
    mesh.forget();

    let generation = mesh.apply(&policies("16/s", "9/s")).await?;
    mesh.wait_generation(generation).await?;
    let patience = Duration::from_secs(10);
    mesh.wait_for_arrivals("burst", 20, patience).await?;
    mesh.swap_filter_bytes(&other_code()?).await?;
    mesh.wait_plugins().await?;
    mesh.wait_for_arrivals("burst", 20, patience).await?;
    assert_eq!(mesh.count("primary"), 0, "it was home in between");

    // The new code goes on deciding.
    let below = load(&mesh, "shop", 3)?.step(BELOW, minute).start()?;
    finish(between).await?;
    mesh.wait_for_arrivals("primary", 5, Duration::from_secs(8))
        .await?;
    mesh.forget();
    mesh.wait_for_arrivals("primary", 5, patience).await?;
    assert_eq!(mesh.count("burst"), 0);
    finish(below).await
}
