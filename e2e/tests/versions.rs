//! The Envoys of the Istio releases that are supported, each alone and mixed: a route is chosen
//! anew, a bounced request is repeated, the limit holds, and callers see 200.

use std::time::Duration;

use anyhow::{Context, Result};
use spillway_e2e::analysis::max_excess;
use spillway_e2e::app::grpc::{self, GrpcCall};
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::load::{Load, Outcome};
use spillway_e2e::mesh::{HOURLY, Mesh, MeshBuilder};
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::{EndpointSpec, Protocol, ProxyOptions, Service};

const ENVOYS: [&str; 3] = ["1.38.2", "1.39.3", "1.40.0"];

const CAPACITY: f64 = 100.0;
/// B = 3 + max(12, 0.1 s × C), the tolerance of the one endpoint.
const BURST: f64 = 15.0;

fn policies(rate: &str) -> Policies {
    let policy = Policy::worker("primary", &["burst"]).total_rate("primary", rate, 1);
    Policies::two_clusters(policy)
}

fn proxy(envoy: &str, filter: bool) -> Option<ProxyOptions> {
    Some(ProxyOptions {
        envoy: envoy.to_owned(),
        concurrency: 2,
        filter,
        ..ProxyOptions::default()
    })
}

fn mesh(shop: &str, primary: &str, burst: &str, rate: &str) -> Result<MeshBuilder> {
    let service = Service::worker().with(|service| service.protocol = Protocol::ClientProtocol);
    let endpoint = |cluster, envoy| EndpointSpec {
        proxy: proxy(envoy, true),
        ..EndpointSpec::new(&Service::worker().host, cluster)
    };
    Ok(Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(service)
        .endpoint(endpoint("primary", primary))
        .endpoint(endpoint("burst", burst))
        .caller_with("shop", "primary", proxy(shop, true))
        .filter(artefacts::filter()?)
        .policies(policies(rate)))
}

/// How many requests the burst cluster served at this attempt.
fn served_at(mesh: &Mesh, attempt: &str) -> usize {
    let served = mesh.endpoints("burst").flat_map(|one| one.app.served());
    served
        .filter(|one| one.header("x-envoy-attempt-count") == Some(attempt))
        .count()
}

/// With a gate that stays full: every request is bounced, as nobody knows of the load.
async fn bounces(mesh: &Mesh) -> Result<()> {
    mesh.fill("primary").await?;
    let client = mesh.client("shop")?;
    for _ in 0..20 {
        let answer = client.call(&Call::get("/")).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.served_by()),
            (200, Some("burst"))
        );
        assert_eq!(answer.header("x-spillway-prefix"), Some("bursty-"));
    }
    let grpc = HttpClient::new(&Target {
        http2: true,
        ..mesh.target("shop")?
    });
    for method in [grpc::UNARY, grpc::BIDI] {
        let mut call = GrpcCall::open(&grpc, method, &[])?;
        call.send(b"one").await?;
        assert_eq!(
            call.receive().await?.as_deref(),
            Some(&b"one"[..]),
            "{method}"
        );
        assert_eq!(call.end().await?.status, 0, "{method}");
    }
    assert_eq!((mesh.count("primary"), served_at(mesh, "3")), (0, 22));
    Ok(())
}

async fn run(mesh: &Mesh, load: Load) -> Result<Outcome> {
    mesh.forget();
    let outcome = load.start()?.finish().await?;
    outcome.all_ok()?;
    let served = mesh.count("primary") + mesh.count("burst");
    assert_eq!(
        served,
        outcome.replies.len(),
        "each request was served once"
    );
    Ok(outcome)
}

/// Under load: the limit holds, and most of the excess is sent elsewhere at once.
async fn limits(mesh: &Mesh) -> Result<()> {
    let load = Load::new(11)
        .target(1.0, mesh.target("shop")?)
        .step(3.0 * CAPACITY, Duration::from_secs(4));
    let outcome = run(mesh, load).await?;
    let excess = max_excess(&outcome.decided("primary"), CAPACITY).context("nothing was served")?;
    assert!(excess.requests <= BURST, "{excess:?}");
    let (burst, at_once) = (mesh.count("burst"), served_at(mesh, "1"));
    println!("{excess:?}; burst served {burst}, {at_once} of them without a bounce");
    assert!(
        at_once * 2 > burst,
        "{at_once} of {burst} chose the route to burst"
    );
    Ok(())
}

async fn scenario(shop: &str, primary: &str, burst: &str) -> Result<()> {
    let mut mesh = mesh(shop, primary, burst, HOURLY)?.start().await?;
    bounces(&mesh).await?;
    let generation = mesh.apply(&policies("100/s")).await?;
    mesh.wait_generation(generation).await?;
    limits(&mesh).await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_38() -> Result<()> {
    scenario("1.38.2", "1.38.2", "1.38.2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_39() -> Result<()> {
    scenario("1.39.3", "1.39.3", "1.39.3").await
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_1_40() -> Result<()> {
    scenario("1.40.0", "1.40.0", "1.40.0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_caller_and_newer_servers() -> Result<()> {
    scenario("1.38.2", "1.40.0", "1.39.3").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_caller_and_older_servers() -> Result<()> {
    scenario("1.40.0", "1.38.2", "1.39.3").await
}

/// It is counted and never bounced, and what it takes is taken from those who can go elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_the_filter_displaces_those_with_it() -> Result<()> {
    for envoy in ENVOYS {
        displaces(envoy).await.context(envoy)?;
    }
    Ok(())
}

async fn displaces(envoy: &str) -> Result<()> {
    let builder = mesh(envoy, envoy, envoy, "100/s")?;
    let plain = proxy(envoy, false);
    let mesh = builder
        .caller_with("plain", "primary", plain)
        .start()
        .await?;
    let (shop, plain) = (mesh.target("shop")?, mesh.target("plain")?);
    let seconds = Duration::from_secs(4);
    let home = |outcome: &Outcome, target| {
        let late = outcome.between(Duration::from_secs(1), seconds);
        let mine: Vec<_> = late.filter(|reply| reply.target == target).collect();
        let home = mine
            .iter()
            .filter(|one| one.served_by.as_deref() == Some("primary"))
            .count();
        home as f64 / mine.len() as f64
    };
    let alone = run(
        &mesh,
        Load::new(5).target(1.0, shop.clone()).step(80.0, seconds),
    )
    .await?;
    let load = Load::new(6)
        .target(1.0, shop)
        .target(1.0, plain)
        .step(160.0, seconds);
    let both = run(&mesh, load).await?;
    let (before, after) = (home(&alone, 0), home(&both, 0));
    println!("{envoy}, at home: {before:.2} alone, {after:.2} beside a caller without the filter");
    assert!(before > 0.9, "{before}");
    // 100/s, of which 80/s are taken: a quarter of 80/s is left.
    assert!(after < 0.5, "{after}");
    assert_eq!(home(&both, 1), 1.0);

    let sent = both
        .replies
        .iter()
        .filter(|reply| reply.target == 1)
        .count();
    let primary = mesh.endpoints("primary").next().context("one endpoint")?;
    let counter = "wasmcustom.spillway_callers_without_filter.service=.=default/worker;.;";
    primary
        .sidecar
        .wait_stat(counter, |count| count >= sent as u64)
        .await?;
    assert_eq!(primary.sidecar.stat(counter).await?, sent as u64);
    let plain = mesh.caller("plain")?.wait_access_log(sent).await?;
    assert!(plain.iter().all(|line| line["attempts"] == 1));
    Ok(())
}
