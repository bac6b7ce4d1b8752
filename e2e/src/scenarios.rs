//! What requests do under a policy, told once for every mesh ([`crate::stage`]).
//!
//! Each scenario brings its policies along and leaves them in force. Home is `primary`, where one
//! endpoint runs, and the rung is `burst`. Bounds of the limit are exact, on every machine; how much
//! of it is used is not, so those bounds are wide.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::analysis::{Span, count_between, max_excess, utilisation};
use crate::client::Call;
use crate::load::{Arrivals, Load, Outcome};
use crate::policy::{Override, Policies, Policy, Switch};
use crate::stage::Stage;

const HOP: &str = "x-spillway";
const PREFIX: &str = "x-spillway-prefix";
/// What the threads of a sidecar need to hear of something, and requests under way to arrive.
const HEARD: Duration = Duration::from_millis(500);
/// More than a gate of one request an hour takes, which are at most 15.
const FILL: usize = 20;
/// Twice at home, then in the next cluster.
const BOUNCED: &str = "3";

/// A policy from `primary` into `burst` in a mesh of both.
#[must_use]
pub fn policies(policy: Policy) -> Policies {
    Policies::for_clusters(["primary", "burst"])
        .prefix("primary", "primary-")
        .prefix("burst", "burst-")
        .policy(policy)
}

fn limited(rate: &str) -> Policy {
    Policy::worker("primary", &["burst"]).total_rate("primary", rate, 1)
}

/// The burst tolerance of the one endpoint at home: B = 3 + max(12, 0.1 s × C).
fn tolerance(capacity: f64) -> f64 {
    3.0 + (0.1 * capacity).max(12.0)
}

fn all_answered(outcome: &Outcome) {
    let failures: Vec<_> = outcome.failures().take(5).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(outcome.dropped, 0);
}

/// Each answer is tagged with where it was served.
fn all_tagged(outcome: &Outcome) -> Result<()> {
    for reply in &outcome.replies {
        let tag = reply.headers.get(PREFIX).context("no tag")?;
        let served = reply.served_by.as_deref().context("nobody served it")?;
        ensure!(
            tag.as_bytes() == format!("{served}-").as_bytes(),
            "{tag:?} of {served}"
        );
    }
    Ok(())
}

fn is_inside(from: Instant, to: Instant) -> impl Fn(&&Span) -> bool {
    move |span| span.from >= from && span.to < to
}

/// A step of the demand from a third of the capacity to `peak` times of it is cut at once, and all
/// comes home after the step down.
///
/// # Errors
/// When requests cannot be sent.
pub async fn a_step_is_cut_and_comes_home(
    stage: &mut impl Stage,
    peak: f64,
    seconds: u64,
) -> Result<()> {
    const CAPACITY: f64 = 200.0;
    stage.enforce(&policies(limited("200/s"))).await?;
    stage.forget();
    let steps = [(0.3, 3), (peak, seconds), (0.3, 6)];
    let load = Load::new(7).keep_headers(&[PREFIX]);
    let load = steps.iter().fold(load, |load, (share, seconds)| {
        load.step(share * CAPACITY, Duration::from_secs(*seconds))
    });
    let running = stage.start("shop", load).await?;
    let started = running.started();
    let outcome = running.finish().await?;
    all_answered(&outcome);
    all_tagged(&outcome)?;
    let excess = max_excess(&outcome.decided("primary"), CAPACITY).context("nothing was served")?;
    assert!(excess.requests <= tolerance(CAPACITY), "{excess:?}");
    let at = |seconds: u64| started + Duration::from_secs(seconds);
    let used = utilisation(&stage.arrivals("primary"), at(4), at(3 + seconds), CAPACITY);
    println!("{used:.3} used, {:.1} above in one window", excess.requests);
    // That the limit is used at all: what remains of it on a busy machine.
    assert!(used > 0.75, "{used:.3} of the capacity");
    let away = stage.arrivals("burst");
    let (from, to) = (at(3 + seconds + 2), at(3 + seconds + 6));
    let late = count_between(&away, from, to);
    // A machine that stalls sends what waited at once, which a limit has to cut.
    let surge = surge(stage, from, to, CAPACITY);
    assert!(
        late as f64 <= surge,
        "{late} still spill 2 s after the step down, {surge:.1} above the limit at once"
    );
    let most = (peak - 1.0) * CAPACITY * seconds as f64;
    assert!(
        away.len() as f64 > 0.7 * most,
        "{} of {most} spilled",
        away.len()
    );
    Ok(())
}

/// How far what arrived anywhere in `[from, to)` was above `rate` (requests per second) at once.
fn surge(stage: &impl Stage, from: Instant, to: Instant, rate: f64) -> f64 {
    let clusters = ["primary", "burst"].map(|cluster| stage.arrivals(cluster));
    let arrived = clusters.iter().flatten();
    let within: Vec<_> = arrived
        .filter(|at| (from..to).contains(*at))
        .map(|at| Span { from: *at, to: *at })
        .collect();
    max_excess(&within, rate).map_or(0.0, |excess| excess.requests)
}

/// What needs no knowledge of the mesh: neither its token, nor more than names.
fn guesses() -> Vec<Vec<(&'static str, &'static str)>> {
    vec![
        vec![(HOP, "burst;mesh-token-9;primary;worker;1;b")],
        vec![(HOP, "primary;mesh-token-9;primary;worker;1;h")],
        vec![
            (HOP, "burst;mesh-token-9;primary;worker;1;b"),
            (HOP, "burst;mesh-token-9;primary;worker;1;"),
        ],
        vec![(HOP, "burst;")],
        vec![(PREFIX, "evil-"), (PREFIX, "worse-")],
        vec![("x-spillway-load", "primary;64000;1")],
        vec![("x-spillway-bounce", "1")],
        vec![("x-spillway-shed", "exhausted")],
        vec![("x-spillway-anything", "1")],
    ]
}

/// No header of a caller's chooses where it is served, or reaches the application.
///
/// # Errors
/// When requests cannot be sent.
pub async fn forged_headers_do_nothing(stage: &mut impl Stage) -> Result<()> {
    stage.enforce(&policies(limited("100000/s"))).await?;
    for headers in guesses() {
        stage.forget();
        let call = Call::get("/");
        let call = headers
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value));
        let answer = stage.send("shop", call).await?;
        let found = (answer.status.as_u16(), answer.served_by());
        assert_eq!(found, (200, Some("primary")), "{headers:?}: {answer:?}");
        let served = stage.served("primary");
        assert_eq!(served.len(), 1, "{headers:?}");
        for (name, value) in served.iter().flat_map(|it| &it.headers) {
            let is_ours = name.as_str().starts_with(HOP);
            assert!(
                !is_ours || (name == PREFIX && value == "primary-"),
                "{name}: {value:?}"
            );
        }
        assert_eq!(stage.count("burst"), 0, "{headers:?}");
    }
    Ok(())
}

/// A full home turns requests away, and their caller does not notice. Nobody has called before: who
/// has heard of a load far above one request an hour does not come near the gate.
///
/// # Errors
/// When requests cannot be sent.
pub async fn full_home_bounces(stage: &mut impl Stage) -> Result<()> {
    stage.enforce(&policies(limited("1/h"))).await?;
    for _ in 0..FILL {
        stage.send("desk", Call::get("/fill")).await?;
    }
    stage.forget();
    for _ in 0..20 {
        let answer = stage.send("shop", Call::get("/")).await?;
        let found = (answer.status.as_u16(), answer.served_by());
        assert_eq!(found, (200, Some("burst")), "{answer:?}");
        assert_eq!(answer.header(PREFIX), Some("burst-"));
    }
    let burst = stage.served("burst");
    let attempts = burst
        .iter()
        .filter_map(|it| it.header("x-envoy-attempt-count"));
    assert_eq!(attempts.collect::<Vec<_>>(), [BOUNCED; 20]);
    assert_eq!(stage.count("primary"), 0);
    Ok(())
}

/// The rung is lost while it is in use, is away for a while, and comes back.
///
/// # Errors
/// When requests cannot be sent.
pub async fn a_lost_rung_costs_no_answers(stage: &mut impl Stage, seed: u64) -> Result<()> {
    const CAPACITY: f64 = 50.0;
    stage.enforce(&policies(limited("50/s"))).await?;
    stage.forget();
    let load = Load::new(seed).step(150.0, Duration::from_secs(120));
    let running = stage.start("shop", load).await?;
    stage.wait_for_more("burst", 100).await?;
    stage.lose("burst").await?;
    let settled = Instant::now() + HEARD;
    stage.wait_for_more("primary", 200).await?;
    let noon = Instant::now();
    stage.regain("burst").await?;
    stage.wait_for_more("burst", 100).await?;
    running.stop();
    let outcome = running.finish().await?;
    // Those that were under way, and those that are bounced to the rung just when its endpoint is
    // found dead: a few of an outage, however long.
    let lost = outcome.failures().count();
    let used = utilisation(&stage.arrivals("primary"), settled, noon, CAPACITY);
    println!(
        "{lost} of {} lost, {used:.2} of home's capacity used",
        outcome.replies.len()
    );
    assert!(lost <= 10, "{lost} requests lost");
    // All of the 150/s, at a capacity of 50/s; σ is a tenth at a second's 150.
    assert!(used > 2.2, "home took {used:.2} of its capacity");
    Ok(())
}

/// Limits that change while requests flow hold as soon as they are in force, and cost none.
///
/// # Errors
/// When requests cannot be sent.
pub async fn changes_under_load_cost_nothing(stage: &mut impl Stage) -> Result<()> {
    let rates = [(50.0, "50/s"), (100.0, "100/s"), (30.0, "30/s")];
    stage.enforce(&policies(limited("50/s"))).await?;
    stage.forget();
    let load = Load::new(41).step(150.0, Duration::from_secs(120));
    let running = stage.start("shop", load).await?;
    let mut stretches = Vec::new();
    for (rate, text) in rates {
        stage.enforce(&policies(limited(text))).await?;
        let from = Instant::now() + HEARD;
        stage
            .wait_for_more("primary", (3.0 * rate) as usize)
            .await?;
        stretches.push((from, Instant::now(), rate));
    }
    running.stop();
    let outcome = running.finish().await?;
    all_answered(&outcome);
    let served = stage.count("primary") + stage.count("burst");
    assert_eq!(served, outcome.replies.len(), "each is served once");
    let decided = outcome.decided("primary");
    for (from, to, rate) in stretches {
        let inside: Vec<_> = decided
            .iter()
            .filter(is_inside(from, to))
            .copied()
            .collect();
        let excess = max_excess(&inside, rate).context("nothing was served")?;
        println!("{:.1} above {rate}/s in one window", excess.requests);
        assert!(
            excess.requests <= tolerance(rate),
            "{excess:?} above {rate}/s"
        );
    }
    Ok(())
}

/// Under Shadow requests go where the mesh sends them without Spillway, each once, and neither side
/// sees anything of it.
///
/// # Errors
/// When requests cannot be sent.
pub async fn shadow_changes_nothing(stage: &mut impl Stage) -> Result<()> {
    let shadow = limited("20/s").with(|policy| policy.enforcement = Some("Shadow"));
    stage.enforce(&policies(shadow)).await?;
    stage.forget();
    let load = Load::new(21).keep_headers(&[PREFIX]);
    let load = load.step(60.0, Duration::from_secs(4));
    let outcome = stage.start("shop", load).await?.finish().await?;
    all_answered(&outcome);
    assert!(outcome.replies.iter().all(|reply| reply.headers.is_empty()));
    let served = [stage.served("primary"), stage.served("burst")].concat();
    assert_eq!(served.len(), outcome.replies.len());
    for one in served {
        let mut names = one.headers.keys().map(|name| name.as_str());
        let ours = names.any(|name| name.starts_with(HOP));
        assert!(!ours, "{:?}", one.headers);
        // None is repeated; without routes of ours Envoy may not even count.
        let attempt = one.header("x-envoy-attempt-count");
        assert!(attempt.is_none_or(|attempt| attempt == "1"), "{attempt:?}");
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
    let policy = limited("20/s").with(|policy| {
        policy.override_ = Some(Override {
            force,
            until_unix_seconds,
        });
    });
    let end = now + (Duration::from_secs(until_unix_seconds) - wall);
    Ok((policies(policy), end))
}

/// An override is followed by all as soon as it is in force, and ends by itself. `length` is longer
/// than a policy needs to come into force.
///
/// # Errors
/// When requests cannot be sent.
pub async fn an_override_ends_by_itself(stage: &mut impl Stage, length: Duration) -> Result<()> {
    stage.enforce(&policies(limited("20/s"))).await?;
    stage.forget();
    let load = Load::new(22).arrivals(Arrivals::Uniform);
    let load = load.step(60.0, Duration::from_secs(120));
    let running = stage.start("shop", load).await?;
    let after = Duration::from_secs(2);
    for (force, spared) in [("Overflow", "primary"), ("Home", "burst")] {
        let (policies, end) = overridden(force, length)?;
        stage.enforce(&policies).await?;
        let begin = Instant::now() + HEARD;
        ensure!(begin < end, "the configuration took too long");
        tokio::time::sleep_until((end + HEARD + after).into()).await;
        let forced = count_between(&stage.arrivals(spared), begin, end);
        assert_eq!(forced, 0, "{force} until {end:?}");
        // At 60/s the limit of 20/s holds again.
        let (from, to) = (end + HEARD, end + HEARD + after);
        let home = utilisation(&stage.arrivals("primary"), from, to, 20.0);
        let away = count_between(&stage.arrivals("burst"), from, to);
        println!("after {force}: {home:.2} of the capacity at home, {away} away");
        assert!((0.6..1.6).contains(&home) && away > 40, "after {force}");
    }
    running.stop();
    all_answered(&running.finish().await?);
    Ok(())
}

/// Two clusters, each full by its own callers, serve their own: nothing circles between them, and
/// nothing is served twice. `shop` calls in `primary`, `desk` in `burst`.
///
/// # Errors
/// When requests cannot be sent.
pub async fn nothing_circles(stage: &mut impl Stage) -> Result<()> {
    const CAPACITY: f64 = 100.0;
    // Everybody's home is the own cluster; the rung that is one's home is passed over.
    let policy = Policy::worker("", &["primary", "burst"])
        .total_rate("primary", "100/s", 1)
        .total_rate("burst", "100/s", 1)
        .with(|policy| policy.home = None);
    stage.enforce(&policies(policy)).await?;
    stage.forget();
    let load = |caller: &str, seed| {
        Load::new(seed)
            .call(1.0, Call::get(&format!("/{caller}")))
            .step(1.3 * CAPACITY, Duration::from_secs(8))
    };
    let shop = stage.start("shop", load("shop", 24)).await?;
    let desk = stage.start("desk", load("desk", 25)).await?;
    let (shop, desk) = (shop.finish().await?, desk.finish().await?);
    all_answered(&shop);
    all_answered(&desk);
    let all = shop.replies.len() + desk.replies.len();

    // Envoy gives each request an id once, before its first attempt.
    let mut ids = HashSet::new();
    let mut attempts = 0;
    for (cluster, own) in [("primary", "/shop"), ("burst", "/desk")] {
        let served = stage.served(cluster);
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

/// Switch mode: all leave when the rate stays above one limit, all return when it stays below
/// another, and nothing changes between the limits for `between`, not even for the other caller.
///
/// # Errors
/// When requests cannot be sent.
pub async fn all_switch_and_return(stage: &mut impl Stage, between: Duration) -> Result<()> {
    /// Rates a second: well above `enter`, between the limits, well below `leave`.
    const ABOVE: f64 = 20.0;
    const BETWEEN: f64 = 12.0;
    const BELOW: f64 = 5.0;
    /// A change of the rate is followed within this time. The sums need 3 s at even arrivals; by
    /// the schedule of the first seed they need 2.5 s and 2.1 s.
    const DECIDED: Duration = Duration::from_secs(6);
    /// The threads of a caller follow one another by a tick of 100 ms.
    const TOGETHER: Duration = Duration::from_millis(500);
    let switch = Policy::worker("primary", &["burst"]).with(|policy| {
        policy.mode = Some("Switch");
        policy.switch = Some(Switch {
            enter: "15/s".to_owned(),
            leave: "10/s".to_owned(),
            endpoints: BTreeMap::new(),
        });
    });
    stage.enforce(&policies(switch)).await?;
    stage.forget();
    let seconds = Duration::from_secs;
    let load = |caller: &str, seed| {
        let load = Load::new(seed).keep_headers(&[PREFIX]);
        load.call(1.0, Call::get(&format!("/{caller}")))
    };
    let shop = load("shop", 10)
        .step(BELOW, seconds(3))
        .step(ABOVE, seconds(8))
        .step(BETWEEN, between)
        .step(BELOW, seconds(9));
    let desk = load("desk", 24).step(BETWEEN, seconds(15) + between);
    let (shop, desk) = (
        stage.start("shop", shop).await?,
        stage.start("desk", desk).await?,
    );
    let up = shop.started() + seconds(3);
    let down = up + seconds(8) + between;
    let end = down + seconds(9);
    let (shop, desk) = (shop.finish().await?, desk.finish().await?);
    for outcome in [&shop, &desk] {
        all_answered(outcome);
        all_tagged(outcome)?;
    }
    let arrivals = |cluster: &str, caller: &str| {
        let path = format!("/{caller}");
        let served = stage.served(cluster).into_iter();
        let mut times: Vec<_> = served
            .filter(|it| it.path == path)
            .map(|it| it.at)
            .collect();
        times.sort_unstable();
        times
    };
    assert_eq!(arrivals("burst", "desk"), []);
    assert_eq!(arrivals("primary", "desk").len(), desk.replies.len());

    let (home, away) = (arrivals("primary", "shop"), arrivals("burst", "shop"));
    assert_eq!(home.len() + away.len(), shop.replies.len());
    let left = *away.first().context("shop has left")?;
    let returned = *home.last().context("shop has returned")?;
    let late = home
        .iter()
        .rfind(|at| **at < down)
        .context("shop was home")?;
    let first_home = *home
        .iter()
        .find(|at| **at >= down)
        .context("shop is home")?;
    let last_away = *away.last().context("shop has left")?;
    println!(
        "left {:.1} s after the step, returned {:.1} s after the other",
        left.saturating_duration_since(up).as_secs_f64(),
        first_home.saturating_duration_since(down).as_secs_f64(),
    );
    assert!(left > up && left < up + DECIDED, "left at {left:?}");
    assert!(
        late.saturating_duration_since(left) < TOGETHER,
        "all leave at once and none is home until the rate falls"
    );
    assert!(first_home > down && first_home < down + DECIDED);
    assert!(
        last_away.saturating_duration_since(first_home) < TOGETHER,
        "all return at once"
    );
    assert!(count_between(&home, down + DECIDED, end) > 0 && returned > last_away);
    Ok(())
}
