//! What a filter that traps costs: the request that made it trap, once in each worker thread, and
//! from then on the filter's effect, until there is a new configuration; never the traffic.
//!
//! The override sends everything to the burst cluster, so that where a request is served shows
//! whether the caller's filter is at work; the prefix on the answers shows the server's.

use std::path::Path;

use anyhow::Result;
use spillway_e2e::artefacts;
use spillway_e2e::client::{Answer, Call, HttpClient, Target};
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{Override, Policies, Policy};
use spillway_e2e::topology::{EndpointSpec, ProxyOptions, Service};

const WORKERS: u32 = 2;
/// New connections until every worker thread has had some.
const CONNECTIONS: usize = 60;

fn policies() -> Policies {
    let policy = Policy::worker("primary", &["burst"]).with(|policy| {
        policy.override_ = Some(Override {
            force: "Overflow",
            until_unix_seconds: 4_000_000_000,
        });
    });
    Policies::two_clusters(policy).prefix("primary", "home-")
}

/// A mesh whose filter is on one side only.
async fn mesh(code: &Path, callers: bool) -> Result<Mesh> {
    let with = |filter| {
        Some(ProxyOptions {
            concurrency: WORKERS,
            filter,
            ..ProxyOptions::default()
        })
    };
    let service = Service::worker();
    let endpoint = |cluster| EndpointSpec {
        proxy: with(!callers),
        ..EndpointSpec::new(&Service::worker().host, cluster)
    };
    Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(service)
        .endpoint(endpoint("primary"))
        .endpoint(endpoint("burst"))
        .caller_with("shop", "primary", with(callers))
        .filter(code.to_owned())
        .policies(policies())
        .start()
        .await
}

/// Answers to requests over connections of their own.
async fn ask(target: &Target, trap: bool) -> Result<Vec<Answer>> {
    let call = if trap {
        Call::get("/").header("x-test-trap", "1")
    } else {
        Call::get("/")
    };
    let mut answers = Vec::new();
    for _ in 0..CONNECTIONS {
        answers.push(HttpClient::new(target).call(&call).await?);
    }
    Ok(answers)
}

fn count(answers: &[Answer], wanted: impl Fn(&Answer) -> bool) -> usize {
    answers.iter().filter(|answer| wanted(answer)).count()
}

/// Each worker thread answers one of these requests with 503, and serves the others.
async fn trap_everywhere(target: &Target) -> Result<()> {
    let answers = ask(target, true).await?;
    let failed = count(&answers, |answer| answer.status.as_u16() == 503);
    assert_eq!(failed, WORKERS as usize, "one in each worker thread");
    let served = count(&answers, |answer| answer.status.as_u16() == 200);
    assert_eq!(failed + served, answers.len());
    Ok(())
}

async fn all_show(target: &Target, wanted: impl Fn(&Answer) -> bool) -> Result<()> {
    let answers = ask(target, false).await?;
    assert_eq!(
        count(&answers, |answer| answer.status.as_u16() == 200),
        answers.len()
    );
    assert_eq!(
        count(&answers, wanted),
        answers.len(),
        "{:?}",
        answers.last()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_caller_requests_go_home_until_the_next_configuration() -> Result<()> {
    let mut mesh = mesh(&artefacts::trapping_filter()?, true).await?;
    let target = mesh.target("shop")?;
    let works = |answer: &Answer| answer.served_by() == Some("burst");
    let bypassed = |answer: &Answer| answer.served_by() == Some("primary");
    all_show(&target, works).await?;
    trap_everywhere(&target).await?;
    all_show(&target, bypassed).await?;

    let generation = mesh.apply(&policies()).await?;
    mesh.wait_generation(generation).await?;
    all_show(&target, works).await?;
    trap_everywhere(&target).await?;

    mesh.swap_filter(&artefacts::filter()?).await?;
    mesh.wait_plugins().await?;
    all_show(&target, works).await?;
    let answers = ask(&target, true).await?;
    assert_eq!(
        count(&answers, works),
        answers.len(),
        "this one does not trap"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_server_requests_are_served_until_the_next_configuration() -> Result<()> {
    let mut mesh = mesh(&artefacts::trapping_filter()?, false).await?;
    let target = mesh.target("shop")?;
    let works = |answer: &Answer| answer.header("x-spillway-prefix") == Some("home-");
    let bypassed = |answer: &Answer| answer.header("x-spillway-prefix").is_none();
    // The caller's Envoy keeps connections, which may all belong to one worker thread here: so the
    // requests come past it.
    let Some(inbound) = mesh.endpoints("primary").next().map(|one| one.inbound()) else {
        anyhow::bail!("no endpoint");
    };
    all_show(&inbound, works).await?;
    trap_everywhere(&inbound).await?;
    all_show(&inbound, bypassed).await?;
    all_show(&target, |answer| answer.served_by() == Some("primary")).await?;

    let generation = mesh.apply(&policies()).await?;
    mesh.wait_generation(generation).await?;
    all_show(&inbound, works).await?;
    trap_everywhere(&inbound).await?;

    mesh.swap_filter(&artefacts::filter()?).await?;
    mesh.wait_plugins().await?;
    all_show(&inbound, works).await?;
    let answers = ask(&inbound, true).await?;
    assert_eq!(
        count(&answers, works),
        answers.len(),
        "this one does not trap"
    );
    Ok(())
}
