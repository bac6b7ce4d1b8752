//! What a policy must leave alone: everything in Shadow, all but its target under an override, the
//! routes that are never to leave, and the traffic of a neighbour that is as full as oneself.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hyper::HeaderMap;
use spillway_e2e::analysis::{count_between, utilisation};
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, Payload};
use spillway_e2e::load::{Arrivals, Load, Outcome};
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{Override, Policies, Policy, RouteClass};
use spillway_e2e::sidecar::Sidecar;
use spillway_e2e::topology::{ProxyOptions, Service};

/// What the threads of a sidecar need to hear of something, and requests under way to arrive.
const HEARD: Duration = Duration::from_millis(500);

fn two_clusters(service: Service) -> MeshBuilder {
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
}

fn policies(policy: Policy) -> Policies {
    Policies::for_clusters(["primary", "burst"])
        .prefix("primary", "calm-")
        .prefix("burst", "bursty-")
        .policy(policy)
}

fn all_answered(outcome: &Outcome) {
    let failures: Vec<_> = outcome.failures().take(5).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(outcome.dropped, 0);
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
    const OWN: [&str; 3] = ["x-request-id", "date", "x-envoy-upstream-service-time"];
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
    all_answered(&outcome);
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

/// A policy under an override of at least this length, and when it ends.
fn overridden(force: &'static str, length: Duration) -> Result<(Policies, Instant)> {
    let (wall, now) = (
        SystemTime::now().duration_since(UNIX_EPOCH)?,
        Instant::now(),
    );
    let until_unix_seconds = (wall + length).as_secs() + 1;
    let policy = Policy::worker("primary", &["burst"])
        .total_rate("primary", "20/s", 1)
        .with(|policy| {
            policy.override_ = Some(Override {
                force,
                until_unix_seconds,
            });
        });
    let end = now + (Duration::from_secs(until_unix_seconds) - wall);
    Ok((policies(policy), end))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_works_at_once_and_ends_by_itself() -> Result<()> {
    let mut mesh = two_clusters(Service::worker())
        .filter(artefacts::filter()?)
        .start()
        .await?;
    let running = Load::new(22)
        .arrivals(Arrivals::Uniform)
        .target(1.0, mesh.target("shop")?)
        .step(60.0, Duration::from_secs(60))
        .start()?;
    let after = Duration::from_secs(2);
    for (force, spared) in [("Overflow", "primary"), ("Home", "burst")] {
        let (policies, end) = overridden(force, Duration::from_millis(2500))?;
        let generation = mesh.apply(&policies).await?;
        mesh.wait_generation(generation).await?;
        let begin = Instant::now() + Duration::from_millis(200);
        ensure!(begin < end, "the configuration took too long");
        tokio::time::sleep_until((end + HEARD + after).into()).await;
        let forced = count_between(&mesh.arrivals(spared), begin, end);
        assert_eq!(forced, 0, "{force} until {end:?}");
        // At 60/s the limit of 20/s holds again.
        let (from, to) = (end + HEARD, end + HEARD + after);
        let home = utilisation(&mesh.arrivals("primary"), from, to, 20.0);
        let away = count_between(&mesh.arrivals("burst"), from, to);
        println!("after {force}: {home:.2} of the capacity at home, {away} away");
        assert!((0.6..1.6).contains(&home) && away > 40, "after {force}");
    }
    running.stop();
    all_answered(&running.finish().await?);
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
    all_answered(&outcome);
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

#[tokio::test(flavor = "multi_thread")]
async fn two_full_clusters_serve_their_own_and_nothing_circles() -> Result<()> {
    const CAPACITY: f64 = 100.0;
    // Everybody's home is the own cluster; the rung that is one's home is passed over.
    let policy = Policy::worker("", &["primary", "burst"])
        .total_rate("primary", "100/s", 1)
        .total_rate("burst", "100/s", 1)
        .with(|policy| policy.home = None);
    let mesh = two_clusters(Service::worker())
        .caller("desk", "burst")
        .filter(artefacts::filter()?)
        .policies(policies(policy))
        .start()
        .await?;
    let load = |caller: &str, seed| -> Result<Load> {
        Ok(Load::new(seed)
            .target(1.0, mesh.target(caller)?)
            .call(1.0, Call::get(&format!("/{caller}")))
            .step(1.3 * CAPACITY, Duration::from_secs(8)))
    };
    let (shop, desk) = (load("shop", 24)?.start()?, load("desk", 25)?.start()?);
    let (shop, desk) = (shop.finish().await?, desk.finish().await?);
    all_answered(&shop);
    all_answered(&desk);
    let all = shop.replies.len() + desk.replies.len();

    // Envoy gives each request an id once, before its first attempt.
    let mut ids = HashSet::new();
    let mut attempts = 0;
    for (cluster, own) in [("primary", "/shop"), ("burst", "/desk")] {
        let served = mesh.endpoints(cluster).flat_map(|one| one.app.served());
        let served: Vec<_> = served.collect();
        for one in &served {
            let id = one.header("x-request-id").context("Envoy gives an id")?;
            assert!(ids.insert(id.to_owned()), "{id} was served twice");
            let attempt = one.header("x-envoy-attempt-count");
            attempts += attempt.context("Envoy counts")?.parse::<usize>()?;
        }
        let own = served.iter().filter(|one| one.path == own).count();
        let share = own as f64 / served.len() as f64;
        println!("{cluster}: {share:.3} of {} are its own", served.len());
        // .85 when overflow does not yield.
        assert!(share > 0.92, "{cluster} serves {share:.3} of its own");
    }
    assert_eq!(ids.len(), all);
    let attempts = attempts as f64 / all as f64;
    println!("{attempts:.3} attempts a request");
    assert!(attempts < 1.5, "{attempts} attempts a request");
    Ok(())
}
