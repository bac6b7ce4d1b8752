//! What a policy must leave alone: everything in Shadow, and the routes that are never to leave.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hyper::HeaderMap;
use spillway_e2e::analysis::utilisation;
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, Payload};
use spillway_e2e::load::Load;
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{Policies, Policy, RouteClass};
use spillway_e2e::sidecar::Sidecar;
use spillway_e2e::topology::Service;

fn two_clusters(service: Service) -> MeshBuilder {
    Mesh::two_clusters(service, 1).caller("shop", "primary")
}

fn policies(policy: Policy) -> Policies {
    Policies::two_clusters(policy).prefix("primary", "calm-")
}

/// In Shadow there are no routes to rungs yet. Locality failover keeps requests in their cluster.
fn without_routes() -> Service {
    Service::worker().with(|service| {
        service.rungs = Some(Vec::new());
        service.bounce_headers = false;
        service.retries = None;
    })
}

/// Headers but those that Envoy and the application make anew for each message.
fn kept(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    const OWN: [&str; 4] = [
        "x-request-id",
        "date",
        "x-envoy-upstream-service-time",
        "x-arrived",
    ];
    let mut kept: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    kept.sort();
    kept
}

/// A message as it arrived.
type Message = (String, Vec<(String, Vec<u8>)>, Vec<u8>);

/// What the application got and what the caller got, for requests of several kinds.
async fn exchange(mesh: &Mesh) -> Result<(Vec<Message>, Vec<Message>)> {
    let chunks = Payload::Chunked {
        chunks: 3,
        size: 1000,
        gap: Duration::ZERO,
    };
    let calls = [
        Call::get("/?query=1#no"),
        Call::get("/own").header("x-spillway-prefix", "of the caller's own"),
        Call::post("/sized", Payload::Sized(100_000)).header("x-tag", "1"),
        Call::post("/chunked", chunks).header("x-tag", "2"),
    ];
    let client = mesh.client("shop")?;
    let mut answers = Vec::new();
    for call in &calls {
        let answer = client.call(call).await?;
        let status = answer.status.to_string();
        answers.push((status, kept(&answer.headers), answer.body.to_vec()));
    }
    let app = &mesh.endpoints("primary").next().context("an endpoint")?.app;
    let served = app.served();
    assert_eq!(served.len(), calls.len());
    let requests = served.iter().map(|served| {
        let line = format!("{} {}", served.method, served.path);
        let length = served.body_bytes.to_string().into_bytes();
        (line, kept(&served.headers), length)
    });
    Ok((requests.collect(), answers))
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_leaves_every_message_as_it_is() -> Result<()> {
    let policy = Policy::worker("primary", &["burst"])
        .total_rate("primary", "20/s", 1)
        .with(|policy| policy.enforcement = Some("Shadow"));
    let plain = two_clusters(without_routes()).start();
    let shadow = two_clusters(without_routes())
        .filter(artefacts::filter()?)
        .policies(policies(policy))
        .start();
    let (plain, shadow) = tokio::try_join!(plain, shadow)?;
    assert_eq!(exchange(&plain).await?, exchange(&shadow).await?);
    Ok(())
}

/// Waits until counters of this name sum up to `wanted`, and gives those of some labels.
async fn counted(sidecar: &Sidecar, name: &str, wanted: usize, labels: &str) -> Result<u64> {
    let began = Instant::now();
    loop {
        let stats = sidecar.stats(&format!("^wasmcustom\\.{name}\\.")).await?;
        let total: u64 = stats.values().sum();
        if total == wanted as u64 {
            let labelled = stats.iter().filter(|(name, _)| name.contains(labels));
            return Ok(labelled.map(|(_, count)| count).sum());
        }
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "{wanted} wanted: {stats:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_keeps_all_home_and_counts_what_it_would_have_done() -> Result<()> {
    let policy = Policy::worker("primary", &["burst"])
        .total_rate("primary", "20/s", 1)
        .with(|policy| policy.enforcement = Some("Shadow"));
    let mesh = two_clusters(without_routes())
        .filter(artefacts::filter()?)
        .policies(policies(policy))
        .start()
        .await?;
    let outcome = Load::new(21)
        .target(1.0, mesh.target("shop")?)
        .keep_headers(&["x-spillway-prefix"])
        .step(60.0, Duration::from_secs(6))
        .start()?
        .finish()
        .await?;
    outcome.all_ok()?;
    let all = outcome.replies.len();
    assert_eq!((mesh.count("primary"), mesh.count("burst")), (all, 0));
    assert!(outcome.replies.iter().all(|reply| reply.headers.is_empty()));
    let endpoint = mesh.endpoints("primary").next().context("an endpoint")?;
    for served in endpoint.app.served() {
        let ours = served
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("x-spillway"));
        assert!(!ours, "{:?}", served.headers);
    }

    let shop = mesh.caller("shop")?;
    let labels = "service=.=default/worker;.;reason=.=over-limit;.;target=.=burst;.;";
    let over = counted(shop, "spillway_shadow_decisions", all, labels).await?;
    let gate = &endpoint.sidecar;
    let labels = "service=.=default/worker;.;verdict=.=admitted;.;";
    // The gate was asked for what would have stayed.
    let asked = all - usize::try_from(over)?;
    let fits = counted(gate, "spillway_shadow_gate", asked, labels).await?;
    println!("of {all}: {over} would have left, {fits} would have fitted");
    // Two thirds leave once the caller has heard of it, which takes at most 2 s of these 6.
    assert!(over as f64 > all as f64 * 0.4 && (over as f64) < all as f64 * 0.7);
    // 20/s and the burst tolerance of 15; Poisson arrivals waste a little of it.
    assert!((110..=136).contains(&fits), "{fits} fit, about 20/s × 6 s");
    for name in ["spillway_decisions", "spillway_gate"] {
        assert_eq!(counted(shop, name, 0, "").await?, 0);
        assert_eq!(counted(gate, name, 0, "").await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_never_leave_stay_home_and_others_make_room() -> Result<()> {
    let policy = Policy::worker("primary", &["burst"])
        .total_rate("primary", "30/s", 1)
        .with(|policy| {
            policy.routes = vec![RouteClass {
                path_prefix: "/checkout".to_owned(),
                class: "Never",
            }];
        });
    let mesh = two_clusters(Service::worker())
        .filter(artefacts::filter()?)
        .policies(policies(policy))
        .start()
        .await?;
    let running = Load::new(23)
        .target(1.0, mesh.target("shop")?)
        .call(1.0, Call::get("/checkout/basket"))
        .call(2.0, Call::get("/other/checkout"))
        .step(60.0, Duration::from_secs(8))
        .start()?;
    let started = running.started();
    let outcome = running.finish().await?;
    outcome.all_ok()?;
    let burst = mesh.endpoints("burst").next().context("an endpoint")?;
    let paths = burst.app.count_by_path();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["/other/checkout"]);
    // 20/s of the 30/s are taken by what never leaves; σ of its number in 6 s is 11 of 180.
    let (from, to) = (
        started + Duration::from_secs(2),
        started + Duration::from_secs(8),
    );
    let used = utilisation(&mesh.arrivals("primary"), from, to, 30.0);
    println!("{used:.2} of the capacity at home");
    assert!((0.8..1.2).contains(&used), "{used:.2} of the capacity");
    Ok(())
}
