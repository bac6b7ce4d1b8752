//! Twenty-four callers of very different demand, four endpoints at home, two clusters to overflow
//! into.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use spillway_e2e::analysis::{Span, max_excess};
use spillway_e2e::app::{AppOptions, Behaviour};
use spillway_e2e::artefacts;
use spillway_e2e::canary::{Canary, Stall};
use spillway_e2e::load::{Load, Outcome, Reply, Running};
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{Policies, Policy};
use spillway_e2e::topology::{EndpointSpec, OutlierDetection, ProxyOptions, Service};

/// What home serves, requests a second. Five times that is what two cores carry, of thirty Envoys
/// and with room to spare; a larger machine takes more, see CONTRIBUTING.
pub(crate) fn capacity() -> f64 {
    let given = std::env::var("SPILLWAY_MANY_CAPACITY").ok();
    let given = given.and_then(|text| text.parse::<u32>().ok());
    f64::from(given.unwrap_or(120))
}
pub(crate) const ENDPOINTS: u32 = 4;
/// What the first rung serves, in capacities of home.
pub(crate) const NEAR: f64 = 1.5;
pub(crate) const HOME: &str = "primary";
pub(crate) const CLUSTERS: [&str; 3] = [HOME, "near", "far"];
/// Which attempt was served, as the applications pass it on.
const ATTEMPT: &str = "x-envoy-attempt-count";
/// Why the gate shed a request.
pub(crate) const SHED: &str = "x-spillway-shed";
/// A machine that stands still for longer loses capacity.
const STALL: Duration = Duration::from_millis(20);

/// The tolerance of all endpoints together, M·B with B = 3 + max(12, 0.1 s × C)/M.
pub(crate) fn tolerance(capacity: f64, endpoints: u32) -> f64 {
    3.0 * f64::from(endpoints) + (0.1 * capacity).max(12.0)
}

/// The shares of the callers: at 600/s two of them send 150/s each and six of them one request in
/// ten seconds.
pub(crate) fn shares() -> Vec<f64> {
    let groups = [(2, 150.0), (6, 36.0), (10, 8.3), (6, 0.1)];
    let shares = groups.into_iter();
    shares
        .flat_map(|(callers, share)| std::iter::repeat_n(share, callers))
        .collect()
}

pub(crate) fn caller(number: usize) -> String {
    format!("caller-{number}")
}

/// A rate as policies write it.
pub(crate) fn rate(capacities: f64) -> String {
    format!("{:.0}/s", capacities * capacity())
}

pub(crate) fn policy() -> Policy {
    Policy::worker(HOME, &["near", "far"])
        .total_rate(HOME, &rate(1.0), ENDPOINTS)
        .total_rate("near", &rate(NEAR), 2)
}

pub(crate) fn policies(policy: Policy) -> Policies {
    Policies::for_clusters(CLUSTERS)
        .prefix("near", "near-")
        .prefix("far", "far-")
        .policy(policy)
}

fn behaviour() -> Behaviour {
    Behaviour {
        pass_on: vec![ATTEMPT.to_owned()],
        ..Behaviour::default()
    }
}

pub(crate) fn endpoint(cluster: &str) -> EndpointSpec {
    EndpointSpec {
        app: AppOptions {
            behaviour: behaviour(),
            keep_headers: false,
            ..AppOptions::default()
        },
        ..EndpointSpec::new(&Service::worker().host, cluster)
    }
}

/// Changes how the first endpoints of home answer.
pub(crate) fn behave(mesh: &Mesh, endpoints: u32, change: impl Fn(&mut Behaviour)) {
    for endpoint in mesh.endpoints(HOME).take(endpoints as usize) {
        let mut behaviour = behaviour();
        change(&mut behaviour);
        endpoint.app.behave(behaviour);
    }
}

/// Callers whose sidecars have no filter.
pub(crate) const PLAIN: [&str; 2] = ["plain-0", "plain-1"];
/// Callers in the first rung's cluster.
pub(crate) const NEIGHBOURS: [&str; 2] = ["neighbour-0", "neighbour-1"];

/// The callers of one limit alone, or with those that only some faults need.
pub(crate) fn builder(with_others: bool) -> Result<MeshBuilder> {
    // Failures are noticed and forgotten faster than in production.
    let service = Service::worker().with(|service| {
        service.outlier_detection = Some(OutlierDetection {
            interval: Some(Duration::from_millis(100)),
            base_ejection_time: Some(Duration::from_millis(500)),
            ..OutlierDetection::default()
        });
    });
    let proxy = ProxyOptions {
        access_log: false,
        eds: false,
        ..ProxyOptions::default()
    };
    let mut builder = Mesh::builder().service(service).proxies(proxy.clone());
    for (cluster, endpoints) in CLUSTERS.into_iter().zip([ENDPOINTS, 2, 2]) {
        builder = builder.cluster(cluster);
        for _ in 0..endpoints {
            builder = builder.endpoint(endpoint(cluster));
        }
    }
    for number in 0..shares().len() {
        builder = builder.caller(&caller(number), HOME);
    }
    if with_others {
        for name in PLAIN {
            let plain = ProxyOptions {
                filter: false,
                ..proxy.clone()
            };
            builder = builder.caller_with(name, HOME, Some(plain));
        }
        for name in NEIGHBOURS {
            builder = builder.caller(name, "near");
        }
    }
    Ok(builder
        .filter(artefacts::filter()?)
        .policies(policies(policy())))
}

/// A load of all callers, each with its share of one.
pub(crate) fn load(mesh: &Mesh, seed: u64) -> Result<Load> {
    let mut load = Load::new(seed).keep_headers(&[ATTEMPT, SHED]);
    let shares = shares();
    let sum: f64 = shares.iter().sum();
    for (number, share) in shares.into_iter().enumerate() {
        load = load.target(share / sum, mesh.target(&caller(number))?);
    }
    Ok(load)
}

/// A load that is being sent.
pub(crate) struct Going {
    running: Running,
    canary: Canary,
}

impl Going {
    pub(crate) fn start(mesh: &Mesh, load: Load) -> Result<Self> {
        mesh.forget();
        let canary = Canary::start(STALL);
        let running = load.start()?;
        Ok(Self { running, canary })
    }

    /// How long it has been going on.
    pub(crate) fn now(&self) -> Duration {
        self.running.started().elapsed()
    }

    /// Lets it go on for some seconds, and tells which: from the `heard`-th on.
    pub(crate) async fn go_on(&self, heard: Duration, length: Duration) -> (Duration, Duration) {
        let from = self.now() + heard;
        tokio::time::sleep(heard + length).await;
        (from, self.now())
    }

    /// Sends nothing more.
    pub(crate) async fn stop(self) -> Result<Seen> {
        self.running.stop();
        self.end().await
    }

    /// Waits for its end.
    pub(crate) async fn end(self) -> Result<Seen> {
        let outcome = self.running.finish().await?;
        Ok(Seen {
            outcome,
            stalls: self.canary.stalls(),
        })
    }
}

/// What was seen while a load was sent.
pub(crate) struct Seen {
    pub(crate) outcome: Outcome,
    pub(crate) stalls: Vec<Stall>,
}

impl Seen {
    pub(crate) fn all_answered(&self) {
        self.lost_at_most(0);
    }

    /// All were answered with 200, but for so many.
    pub(crate) fn lost_at_most(&self, most: usize) {
        let failures: Vec<_> = self.outcome.failures().collect();
        let few: Vec<_> = failures.iter().take(3).collect();
        assert!(failures.len() <= most, "{} lost: {few:?}", failures.len());
        assert_eq!(self.outcome.dropped, 0);
    }

    /// What home served although it was full, since all else had no room for it.
    pub(crate) fn forced(&self) -> usize {
        let all = self.outcome.replies.iter();
        all.filter(|reply| is_forced(reply)).count()
    }

    /// What home served in a window beyond its capacity, at most.
    pub(crate) fn excess(&self) -> Result<f64> {
        let could_leave = |reply: &Reply| !is_forced(reply);
        self.excess_of(HOME, capacity(), Duration::ZERO, Duration::MAX, could_leave)
    }

    /// The same of some requests and some time, for any cluster.
    pub(crate) fn excess_of(
        &self,
        cluster: &str,
        rate: f64,
        from: Duration,
        to: Duration,
        is_in: impl Fn(&Reply) -> bool,
    ) -> Result<f64> {
        let within = |at: Instant| {
            let at = at.duration_since(self.outcome.started);
            at >= from && at < to
        };
        let served = self.outcome.replies.iter();
        let spans: Vec<_> = served
            .filter(|reply| reply.served_by.as_deref() == Some(cluster) && is_in(reply))
            .filter_map(|reply| {
                let (from, to) = (reply.intended, reply.arrived?);
                (within(from) && within(to)).then_some(Span { from, to })
            })
            .collect();
        let excess = max_excess(&spans, rate);
        Ok(excess.context("nothing was served")?.requests)
    }

    /// A part of the time, counted from the start of the load.
    pub(crate) fn part(&self, from: Duration, to: Duration) -> Part<'_> {
        Part {
            seen: self,
            replies: self.outcome.between(from, to).collect(),
            from: self.outcome.started + from,
            to: self.outcome.started + to,
        }
    }
}

/// Some seconds of it.
pub(crate) struct Part<'s> {
    seen: &'s Seen,
    replies: Vec<&'s Reply>,
    from: Instant,
    to: Instant,
}

impl Part<'_> {
    fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }

    /// How much of what it could have served home did serve: of its capacity, or of the demand
    /// where that is less.
    pub(crate) fn used(&self) -> f64 {
        let offered = self.replies.len() as f64 / self.seconds();
        self.rate(HOME) / offered.min(capacity())
    }

    /// For how long of it the machine stood still.
    pub(crate) fn stalled(&self) -> Duration {
        let stalls = self.seen.stalls.iter();
        let inside = stalls.filter(|stall| stall.from < self.to && stall.to > self.from);
        inside.map(Stall::length).sum()
    }

    /// The share of requests that were bounced at least once.
    pub(crate) fn bounced(&self) -> f64 {
        self.share(is_bounced)
    }

    /// The share of requests of which something is true.
    pub(crate) fn share(&self, is_so: impl Fn(&Reply) -> bool) -> f64 {
        let so = self.replies.iter().filter(|reply| is_so(reply));
        so.count() as f64 / self.replies.len() as f64
    }

    /// Requests a second that a cluster answered.
    pub(crate) fn rate(&self, cluster: &str) -> f64 {
        self.served_by(cluster) as f64 / self.seconds()
    }

    /// How many requests a cluster answered.
    pub(crate) fn served_by(&self, cluster: &str) -> usize {
        let served = self.replies.iter();
        served
            .filter(|reply| reply.served_by.as_deref() == Some(cluster))
            .count()
    }

    /// Jain's index of the parts of their demand that home served, of callers with at least a
    /// hundred requests; of the others all together, since one request more is much of theirs.
    pub(crate) fn jain(&self) -> f64 {
        let mut counts = vec![(0_u32, 0_u32); shares().len()];
        for reply in &self.replies {
            if let Some((all, home)) = counts.get_mut(reply.target) {
                *all += 1;
                *home += u32::from(reply.served_by.as_deref() == Some(HOME));
            }
        }
        let (many, few): (Vec<_>, Vec<_>) = counts.into_iter().partition(|(all, _)| *all >= 100);
        let rest = few
            .into_iter()
            .fold((0, 0), |(a, h), (all, home)| (a + all, h + home));
        let parts = many.into_iter().chain(Some(rest).filter(|it| it.0 >= 100));
        let parts: Vec<f64> = parts
            .map(|(all, home)| f64::from(home) / f64::from(all))
            .collect();
        let sum: f64 = parts.iter().sum();
        let squares: f64 = parts.iter().map(|part| part * part).sum();
        sum * sum / (squares * parts.len() as f64)
    }

    /// Latencies in milliseconds, p50 and p99: served at home at once, sent elsewhere, bounced.
    pub(crate) fn latencies(&self) -> Result<[(f64, f64); 3]> {
        let of = |is_in: &dyn Fn(&Reply) -> bool| -> Result<(f64, f64)> {
            let replies = self.replies.iter().copied();
            let all = Outcome::latencies(replies.filter(|reply| is_in(reply)))?;
            let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
            Ok((at(0.5), at(0.99)))
        };
        Ok([
            of(&|reply| is_home(reply) && !is_bounced(reply))?,
            of(&|reply| !is_home(reply) && !is_bounced(reply))?,
            of(&is_bounced)?,
        ])
    }
}

pub(crate) fn is_home(reply: &Reply) -> bool {
    reply.served_by.as_deref() == Some(HOME)
}

/// It came home after other clusters had turned it away.
pub(crate) fn is_forced(reply: &Reply) -> bool {
    is_home(reply) && attempt(reply) > 2
}

/// A request that was served at a later attempt than the first.
fn is_bounced(reply: &Reply) -> bool {
    attempt(reply) > 1
}

pub(crate) fn attempt(reply: &Reply) -> u32 {
    let attempt = reply.headers.get(ATTEMPT);
    let attempt = attempt.and_then(|attempt| attempt.to_str().ok());
    attempt
        .and_then(|attempt| attempt.parse().ok())
        .unwrap_or(1)
}
