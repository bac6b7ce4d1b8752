//! A configuration that changes while requests flow: it costs none of them, takes effect at once,
//! loses nothing of what is known; and a bad one changes nothing at all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_e2e::analysis::{Span, max_excess, utilisation};
use spillway_e2e::client::Call;
use spillway_e2e::load::{Load, Outcome, Running};
use spillway_e2e::mesh::{GENERATION, Mesh, MeshBuilder};
use spillway_e2e::policy::{Policies, Policy, Side};
use spillway_e2e::sidecar::Sidecar;
use spillway_e2e::topology::{EndpointSpec, Service};
use spillway_e2e::{Configuration, artefacts};

const OFFERED: f64 = 150.0;

/// Requests that are to come have come within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A change is in force within this time.
const TAKEN: Duration = Duration::from_secs(1);

fn policies(rate: &str, endpoints: u32) -> Policies {
    Policies::two_clusters(
        Policy::worker("primary", &["burst"]).total_rate("primary", rate, endpoints),
    )
}

fn two_clusters(rate: &str) -> Result<MeshBuilder> {
    Ok(Mesh::two_clusters(Service::worker(), 1)
        .caller("shop", "primary")
        .filter(artefacts::filter()?)
        .policies(policies(rate, 1)))
}

/// An endless load; it ends with [`stop`].
fn load(mesh: &Mesh, seed: u64) -> Result<Running> {
    Load::new(seed)
        .target(1.0, mesh.target("shop")?)
        .step(OFFERED, Duration::from_secs(120))
        .start()
}

async fn stop(running: Running) -> Result<Outcome> {
    running.stop();
    let outcome = running.finish().await?;
    outcome.all_ok()?;
    Ok(outcome)
}

/// The primary's limit from some time on: its endpoints' burst tolerance 3 + max(12, 0.1 s × C)/M,
/// taken together.
struct Stretch {
    from: Instant,
    rate: f64,
    endpoints: f64,
}

impl Stretch {
    fn tolerance(&self) -> f64 {
        3.0 * self.endpoints + (0.1 * self.rate).max(12.0)
    }
}

/// Judges each stretch from a second after its change, and windows over each change by the larger
/// of both limits.
fn judge(outcome: &Outcome, stretches: &[Stretch], end: Instant) -> Result<()> {
    let decided = outcome.decided("primary");
    let home: Vec<_> = decided.iter().map(|span| span.to).collect();
    let within = |from: Instant, to: Instant, rate: f64| -> Result<f64> {
        let inside = |span: &&Span| span.from >= from && span.to < to;
        let inside: Vec<_> = decided.iter().filter(inside).copied().collect();
        Ok(max_excess(&inside, rate)
            .context("nothing was served")?
            .requests)
    };
    for (at, stretch) in stretches.iter().enumerate() {
        let next = stretches.get(at + 1);
        let (from, to) = (stretch.from + TAKEN, next.map_or(end, |next| next.from));
        let used = utilisation(&home, from, to, stretch.rate);
        let excess = within(from, to, stretch.rate)?;
        let tolerance = stretch.tolerance();
        println!(
            "{}/s: {used:.3} used, {excess:.1} of {tolerance} above",
            stretch.rate
        );
        assert!(excess <= tolerance, "{excess} above {}/s", stretch.rate);
        // That the limit is used at all: what remains of it on a busy machine.
        assert!(used > 0.75, "{used:.3} of {}/s", stretch.rate);
        if let Some(next) = next {
            let larger = if next.rate > stretch.rate {
                next
            } else {
                stretch
            };
            let tolerance = stretch.tolerance().max(next.tolerance());
            let excess = within(next.from - TAKEN, next.from + TAKEN, larger.rate)?;
            println!("to {}/s: {excess:.1} of {tolerance} above", next.rate);
            assert!(
                excess <= tolerance,
                "{excess} above at the change to {}/s",
                next.rate
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_limit_holds_within_a_second_and_loses_nothing() -> Result<()> {
    let mut mesh = two_clusters("50/s")?.start().await?;
    let running = load(&mesh, 41)?;
    let mut stretches = Vec::new();
    for (rate, text) in [(50.0, "50/s"), (100.0, "100/s"), (30.0, "30/s")] {
        let from = Instant::now();
        stretches.push(Stretch {
            from,
            rate,
            endpoints: 1.0,
        });
        // The file is written; that it is in force is for the application to show.
        mesh.apply(&policies(text, 1)).await?;
        mesh.wait_for_arrivals("primary", (4.0 * rate) as usize, PATIENCE)
            .await?;
    }
    let end = Instant::now();
    judge(&stop(running).await?, &stretches, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_changes_in_a_row_cost_no_request() -> Result<()> {
    let mut mesh = two_clusters("50/s")?.start().await?;
    let running = load(&mesh, 42)?;
    mesh.wait_for_arrivals("primary", 50, PATIENCE).await?;
    let mut generation = 0;
    for change in 0..50 {
        generation = mesh
            .apply(&policies(["50/s", "100/s", "30/s"][change % 3], 1))
            .await?;
    }
    mesh.wait_generation(generation).await?;
    mesh.wait_for_arrivals("burst", 50, PATIENCE).await?;
    let outcome = stop(running).await?;
    let served = mesh.count("primary") + mesh.count("burst");
    assert_eq!(served, outcome.replies.len(), "each is served once");
    Ok(())
}

const COMPLAINT: &str = "spillway: configuration refused";

/// A configuration with three errors.
#[allow(clippy::indexing_slicing, reason = "a document of this test's own")]
fn wrong(side: Side) -> Value {
    let mut document = policies("50/s", 1).document(99, side);
    document["surprise"] = json!(1);
    document["policies"][0]["mode"] = json!("Swing");
    document["policies"][0]["capacity"]["primary"]["total"]["rate"] = json!("0/s");
    document
}

/// Every bad configuration, and what the complaint must name.
fn bad(side: Side) -> [(&'static str, Configuration, Vec<&'static str>); 5] {
    let text = |text: String| Configuration::Text(text);
    let mut large = policies("50/s", 1).document(99, side).to_string();
    large.push_str(&" ".repeat(513 * 1024));
    let errors = vec!["surprise", "policies[0].mode", "policies[0].capacity"];
    [
        ("not JSON", text("{\"version\": 1,".to_owned()), vec![]),
        ("not text", Configuration::Bytes(vec![0, 159, 255]), vec![]),
        ("with three errors", text(wrong(side).to_string()), errors),
        ("too large", text(large), vec![]),
        ("empty", text(String::new()), vec![]),
    ]
}

/// Complaints of a sidecar's filter so far, each in one line.
fn complaints(sidecar: &Sidecar) -> Vec<String> {
    let log = sidecar.log();
    let lines = log.lines().filter(|line| line.contains(COMPLAINT));
    lines.map(str::to_owned).collect()
}

async fn errors(sidecar: &Sidecar) -> Result<u64> {
    let stats = sidecar
        .stats("^wasmcustom\\.spillway_config_errors")
        .await?;
    Ok(stats.values().sum())
}

async fn wait_for_complaint(sidecar: &Sidecar, complaint: usize, errors_before: u64) -> Result<()> {
    let began = Instant::now();
    while complaints(sidecar).len() < complaint || errors(sidecar).await? <= errors_before {
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "{}: {:?}, {} errors counted",
            sidecar.name(),
            complaints(sidecar),
            errors(sidecar).await?
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_changes_nothing_is_counted_and_logged_once() -> Result<()> {
    let mut mesh = two_clusters("50/s")?.start().await?;
    let generation = mesh.apply(&policies("50/s", 1)).await?;
    mesh.wait_generation(generation).await?;
    let running = load(&mesh, 43)?;
    let from = Instant::now();
    let kinds = bad(Side::Client).len();
    for kind in 0..kinds {
        let mut before = Vec::new();
        for sidecar in mesh.sidecars() {
            before.push(errors(sidecar).await?);
        }
        mesh.apply_raw(|_, side| bad(side)[kind].1.clone()).await?;
        mesh.wait_plugins().await?;
        for (sidecar, before) in mesh.sidecars().zip(before) {
            wait_for_complaint(sidecar, kind + 1, before).await?;
            assert_eq!(
                sidecar.stats(GENERATION).await?.values().min(),
                Some(&generation)
            );
        }
    }
    mesh.wait_for_arrivals("primary", 50, PATIENCE).await?;
    let end = Instant::now();
    let outcome = stop(running).await?;
    let limit = [Stretch {
        from,
        rate: 50.0,
        endpoints: 1.0,
    }];
    judge(&outcome, &limit, end)?;
    for sidecar in mesh.sidecars() {
        let lines = complaints(sidecar);
        assert_eq!(lines.len(), kinds, "{}: {lines:#?}", sidecar.name());
        for ((name, _, fields), line) in bad(Side::Client).iter().zip(&lines) {
            let missing = fields.iter().find(|field| !line.contains(**field));
            assert_eq!(missing, None, "{name}: {line}");
        }
    }

    // A good one is in force at once.
    let generation = mesh.apply(&policies("100/s", 1)).await?;
    mesh.wait_generation(generation).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_at_the_start_leaves_traffic_untouched() -> Result<()> {
    let mut mesh = two_clusters("50/s")?.start().await?;
    for cluster in ["primary", "burst"] {
        mesh.kill_cluster(cluster).await;
    }
    mesh.caller_mut("shop")?.stop().await?;
    let kinds = bad(Side::Client).len();
    for kind in 0..kinds {
        mesh.apply_raw(|_, side| bad(side)[kind].1.clone()).await?;
        for cluster in ["primary", "burst"] {
            mesh.restart_cluster(cluster).await?;
        }
        mesh.caller_mut("shop")?.start().await?;
        mesh.forget();
        let client = mesh.client("shop")?;
        let call = Call::get("/").header("x-spillway-prefix", "of the caller's own");
        for _ in 0..30 {
            let answer = client.call(&call).await?;
            assert_eq!(answer.status.as_u16(), 200);
            assert_eq!(answer.header("x-spillway-prefix"), None);
        }
        assert_eq!((mesh.count("primary"), mesh.count("burst")), (30, 0));
        let app = &mesh.endpoints("primary").next().context("an endpoint")?.app;
        for served in app.served() {
            assert_eq!(served.header("x-spillway"), None);
            assert_eq!(
                served.header("x-spillway-prefix"),
                Some("of the caller's own")
            );
        }
        for cluster in ["primary", "burst"] {
            mesh.kill_cluster(cluster).await;
        }
        mesh.caller_mut("shop")?.stop().await?;
    }
    for sidecar in mesh.sidecars() {
        let lines = complaints(sidecar);
        assert_eq!(lines.len(), kinds, "{}: {lines:#?}", sidecar.name());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_follows_the_number_of_endpoints() -> Result<()> {
    const RATE: f64 = 60.0;
    let host = Service::worker().host;
    let mut mesh = two_clusters("60/s")?.start().await?;
    let running = load(&mesh, 44)?;
    let mut judged = Vec::new();
    for endpoints in [1_u32, 3, 2] {
        while mesh.endpoints("primary").count() < endpoints as usize {
            mesh.add_endpoint(EndpointSpec::new(&host, "primary"))
                .await?;
        }
        while mesh.endpoints("primary").count() > endpoints as usize {
            mesh.remove_endpoint("primary").await?;
        }
        let generation = mesh.apply(&policies("60/s", endpoints)).await?;
        mesh.wait_generation(generation).await?;
        let from = Instant::now();
        mesh.wait_for_arrivals("primary", (4.0 * RATE) as usize, PATIENCE)
            .await?;
        let end = Instant::now();
        let stretch = Stretch {
            from,
            rate: RATE,
            endpoints: f64::from(endpoints),
        };
        judged.push((stretch, end));
    }
    let outcome = stop(running).await?;
    for (stretch, end) in judged {
        judge(&outcome, &[stretch], end)?;
    }
    Ok(())
}
