//! Switch mode where callers share the limits: twelve callers at four endpoints, of which none is
//! over the limit alone. They leave and return together, and a lie about it changes little.
//!
//! What left is what the applications served. When a caller changed its mind is read from its access
//! log, which has the reason of every decision.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use spillway_e2e::artefacts;
use spillway_e2e::client::{Call, HttpClient};
use spillway_e2e::load::{Load, Reply, Running};
use spillway_e2e::mesh::Mesh;
use spillway_e2e::policy::{DEFAULT_TOKEN, Policies, Policy};
use spillway_e2e::topology::{ProxyOptions, Service};

const CALLERS: usize = 12;
const ENDPOINTS: u32 = 4;
/// All leave above this rate, and return below two thirds of it.
const ENTER: u32 = 60;

/// Demands, as parts of `enter`.
const NONE: f64 = 0.1;
const LOW: f64 = 1.0 / 3.0;
const BETWEEN: f64 = 5.0 / 6.0;
const HIGH: f64 = 4.0 / 3.0;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const AN_HOUR: Duration = seconds(3_600);

fn caller(number: usize) -> String {
    format!("caller-{number}")
}

fn policies(enter: u32, leave: u32) -> Policies {
    let limits = (&*format!("{enter}/s"), &*format!("{leave}/s"));
    let shared = Some(("primary", ENDPOINTS));
    Policies::two_clusters(Policy::worker("primary", &["burst"]).switch(limits, shared))
}

async fn start(enter: u32, threads: u32) -> Result<Mesh> {
    let mesh = Mesh::two_clusters(Service::worker(), ENDPOINTS as usize).proxies(ProxyOptions {
        concurrency: threads,
        eds: false,
        ..ProxyOptions::default()
    });
    (0..CALLERS)
        .fold(mesh, |mesh, number| mesh.caller(&caller(number), "primary"))
        .filter(artefacts::filter()?)
        .policies(policies(enter, enter / 3 * 2))
        .start()
        .await
}

/// A load of these callers, with equal shares.
fn load(mesh: &Mesh, callers: impl IntoIterator<Item = usize>, seed: u64) -> Result<Load> {
    callers
        .into_iter()
        .try_fold(Load::new(seed), |load, number| {
            Ok(load.target(1.0, mesh.target(&caller(number))?))
        })
}

async fn stop(running: Running) -> Result<()> {
    running.stop();
    running.finish().await?.all_ok()
}

fn is_away(reply: &Reply) -> bool {
    reply.served_by.as_deref() == Some("burst")
}

/// A workload that knows the token, and claims the next epoch each second at one endpoint after the
/// other: whoever follows it changes its state.
struct Liar {
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Liar {
    fn start(mesh: &Mesh) -> Self {
        let clients: Vec<_> = mesh
            .endpoints("primary")
            .map(|one| HttpClient::new(&one.inbound()))
            .collect();
        let task = tokio::spawn(async move {
            let mut epoch = 0;
            for client in clients.iter().cycle() {
                let answer = client.call(&claim(epoch + 1)).await?;
                ensure!(answer.status == 200);
                let load = answer.header("x-spillway-load").unwrap_or_default();
                // An endpoint tells nothing before it has looked at its clock.
                let told = load.rsplit(';').next().and_then(|told| told.parse().ok());
                epoch = epoch.max(told.unwrap_or_default());
                tokio::time::sleep(seconds(1)).await;
            }
            Ok(())
        });
        Self { task }
    }

    async fn stop(self) -> Result<()> {
        self.task.abort();
        match self.task.await {
            Ok(ended) => ended,
            Err(_) => Ok(()), // By the abort.
        }
    }
}

/// A request that says an epoch, whatever is true.
fn claim(epoch: u32) -> Call {
    let hop = format!("primary;{DEFAULT_TOKEN};primary;worker;1;;{epoch}");
    Call::get("/lie").header("x-spillway", &hop)
}

/// When each caller left after one step of the demand, and when the last of its requests left after
/// another.
struct Times {
    left: Vec<f64>,
    back: Vec<f64>,
}

impl Times {
    /// A step up and one down; both demands last for so long.
    async fn measure(
        mesh: &Mesh,
        enter: u32,
        seed: u64,
        high: Duration,
        low: Duration,
    ) -> Result<Self> {
        let enter = f64::from(enter);
        let (up, down) = (seconds(3), seconds(3) + high);
        let steps = load(mesh, 0..CALLERS, seed)?
            .step(LOW * enter, up)
            .step(HIGH * enter, high)
            .step(LOW * enter, low);
        let outcome = steps.start()?.finish().await?;
        outcome.all_ok()?;
        let (mut left, mut back) = (Vec::new(), Vec::new());
        for number in 0..CALLERS {
            let mut away = outcome
                .replies
                .iter()
                .filter(|reply| reply.target == number && is_away(reply));
            let at = |reply: &Reply| (reply.intended - outcome.started).as_secs_f64();
            let first = at(away
                .next()
                .with_context(|| format!("caller {number} never left"))?);
            let last = away.next_back().map_or(first, at);
            left.push(first - up.as_secs_f64());
            back.push((last - down.as_secs_f64()).max(0.0));
        }
        for times in [&mut left, &mut back] {
            times.sort_by(f64::total_cmp);
        }
        println!("left {left:.1?}, back {back:.1?}");
        Ok(Self { left, back })
    }
}

/// First, mean and last.
fn spread(times: &[f64]) -> [f64; 3] {
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    [
        times.first().copied().unwrap_or_default(),
        mean,
        times.last().copied().unwrap_or_default(),
    ]
}

/// Waits until most of a second's requests are away.
async fn wait_until_away(mesh: &Mesh, limit: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        mesh.forget();
        tokio::time::sleep(seconds(1)).await;
        let (home, burst) = (mesh.count("primary"), mesh.count("burst"));
        if burst > home {
            return Ok(());
        }
        ensure!(
            began.elapsed() < limit,
            "{home} at home, {burst} away, after {limit:?}"
        );
    }
}

/// Changes of the callers' minds while a demand lasts, and the share of requests that stayed home.
struct Watched {
    changes: usize,
    kept: f64,
    length: Duration,
}

impl Watched {
    /// After a while, in which all hear of it.
    async fn measure(
        mesh: &Mesh,
        demand: f64,
        seed: u64,
        hear: Duration,
        length: Duration,
    ) -> Result<Self> {
        let running = load(mesh, 0..CALLERS, seed)?
            .step(demand, hear + length)
            .start()?;
        tokio::time::sleep(hear).await;
        let from = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs_f64();
        let outcome = running.finish().await?;
        outcome.all_ok()?;
        let (all, away) = outcome
            .between(hear, hear + length)
            .fold((0, 0), |(all, away), reply| {
                (all + 1, away + usize::from(is_away(reply)))
            });
        let mut changes = 0;
        for sidecar in mesh.callers() {
            let mut decisions = Vec::new();
            for line in sidecar.access_log()? {
                let text = |field: &str| line.get(field).and_then(Value::as_str);
                let start: f64 = text("start").context("no start")?.parse()?;
                if start >= from {
                    decisions.push((start, text("reason").is_some()));
                }
            }
            // Lines are written when requests end.
            decisions.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let switched = || decisions.iter().map(|(_, switched)| *switched);
            let next = switched().skip(1);
            changes += switched()
                .zip(next)
                .filter(|(one, next)| one != next)
                .count();
        }
        let kept = f64::from(all - u32::try_from(away)?) / f64::from(all);
        Ok(Self {
            changes,
            kept,
            length,
        })
    }

    /// Of one caller.
    fn changes_an_hour(&self) -> f64 {
        let hours = self.length.as_secs_f64() / AN_HOUR.as_secs_f64();
        self.changes as f64 / CALLERS as f64 / hours
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_leave_and_return_together_and_nothing_else_moves_them() -> Result<()> {
    let mut mesh = start(ENTER, 2).await?;
    let enter = f64::from(ENTER);

    // Well below the limits nobody is talked into leaving.
    let few = load(&mesh, 0..CALLERS, 1)?
        .step(NONE * enter, AN_HOUR)
        .start()?;
    let liar = Liar::start(&mesh);
    tokio::time::sleep(seconds(5)).await;
    liar.stop().await?;
    stop(few).await?;
    assert_eq!(mesh.count("burst"), 0, "a lie made them leave");

    let times = Times::measure(&mesh, ENTER, 3, seconds(12), seconds(26)).await?;
    let ([first, _, last], [.., returned]) = (spread(&times.left), spread(&times.back));
    assert!(first > 0.0 && last < 9.0, "{:.1?}", times.left);
    assert!(last - first < 4.0, "{:.1?}", times.left);
    assert!(returned < 22.0, "{:.1?}", times.back);

    the_state_survives(&mut mesh).await
}

/// A lie, a configuration, and the restart of a caller.
async fn the_state_survives(mesh: &mut Mesh) -> Result<()> {
    let enter = f64::from(ENTER);
    let patience = seconds(15);
    let above = load(mesh, 0..CALLERS, 5)?
        .step(2.0 * enter, AN_HOUR)
        .start()?;
    wait_until_away(mesh, patience).await?;
    // Well above the limits lies bring nobody home for long: the next epoch, and those far ahead.
    let liar = Liar::start(mesh);
    let inbound = mesh
        .endpoints("primary")
        .next()
        .context("an endpoint")?
        .inbound();
    for epoch in [1_000, 400_000_000] {
        let answer = HttpClient::new(&inbound).call(&claim(epoch)).await?;
        ensure!(answer.status == 200);
    }
    tokio::time::sleep(seconds(6)).await;
    liar.stop().await?;
    wait_until_away(mesh, seconds(5)).await?;

    // Between the limits what is lost does not come back by itself.
    let between = load(mesh, 1..CALLERS, 6)?
        .step(BETWEEN * enter, AN_HOUR)
        .start()?;
    stop(above).await?;
    let generation = mesh.apply(&policies(ENTER + 4, ENTER / 3 * 2 - 4)).await?;
    mesh.wait_generation(generation).await?;
    wait_until_away(mesh, seconds(5)).await?;

    mesh.caller_mut(&caller(0))?.stop().await?;
    mesh.caller_mut(&caller(0))?.start().await?;
    mesh.wait_plugins().await?;
    let restarted = load(mesh, [0], 7)?.step(BETWEEN * enter, seconds(3));
    let outcome = restarted.start()?.finish().await?;
    outcome.all_ok()?;
    let gone = outcome
        .replies
        .iter()
        .filter(|reply| is_away(reply))
        .count();
    let all = outcome.replies.len();
    assert!(gone * 2 > all, "{gone} of {all}");
    stop(between).await
}

/// The figures of record 0004: `make test-many`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "for its length: make test-many"]
async fn times_of_leaving_and_returning() -> Result<()> {
    for (enter, rounds, high, low) in [(15, 2, 30, 70), (ENTER, 4, 15, 25)] {
        let mesh = start(enter, 1).await?;
        let (mut left, mut back) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let times =
                Times::measure(&mesh, enter, 10 + round, seconds(high), seconds(low)).await?;
            left.push(spread(&times.left));
            back.push(spread(&times.back));
        }
        let mean = |times: &[[f64; 3]]| {
            [0, 1, 2].map(|at| times.iter().map(|one| one[at]).sum::<f64>() / times.len() as f64)
        };
        println!(
            "enter {enter}/s: left after first, mean, last {:.1?} s, back {:.1?} s",
            mean(&left),
            mean(&back)
        );
    }
    Ok(())
}

/// The same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "for its length: make test-many"]
async fn changes_with_and_without_lies() -> Result<()> {
    let mesh = start(ENTER, 1).await?;
    let enter = f64::from(ENTER);
    for (seed, demand) in [BETWEEN, HIGH, LOW].into_iter().enumerate() {
        for lies in [false, true] {
            let liar = lies.then(|| Liar::start(&mesh));
            let seed = 20 + seed as u64;
            let watched =
                Watched::measure(&mesh, demand * enter, seed, seconds(15), seconds(60)).await?;
            if let Some(liar) = liar {
                liar.stop().await?;
            }
            println!(
                "demand {:.0}/s of {enter}/s, lies {lies}: {:.0} changes an hour, {:.3} stay home",
                demand * enter,
                watched.changes_an_hour(),
                watched.kept
            );
        }
    }
    Ok(())
}
