//! What operators read: metrics, the access log, the memory of a sidecar.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use spillway_e2e::app::Behaviour;
use spillway_e2e::artefacts;
use spillway_e2e::client::Call;
use spillway_e2e::load::Load;
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{Override, Policies, Policy};
use spillway_e2e::sidecar::{DEADLINE, Sidecar};
use spillway_e2e::topology::{EndpointSpec, OutlierDetection, ProxyOptions, Service};

const REASONS: [&str; 7] = [
    "below-limit",
    "probe",
    "over-limit",
    "switched",
    "never-route",
    "override",
    "exhausted",
];
const VERDICTS: [&str; 4] = ["admitted", "forced", "bounced", "shed"];

const WORKER: (&str, &str) = ("service", "default/worker");

fn policy() -> Policy {
    Policy::worker("primary", &["burst"])
        .total_rate("primary", "100/s", 1)
        .total_rate("burst", "100000/s", 1)
}

fn policies(policy: Policy) -> Policies {
    Policies::for_clusters(["primary", "burst"]).policy(policy)
}

fn one_endpoint_each(proxy: ProxyOptions) -> MeshBuilder {
    Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(Service::worker().with(|service| {
            service.outlier_detection = Some(OutlierDetection::without_ejections());
        }))
        .proxies(proxy)
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller("shop", "primary")
        .policies(policies(policy()))
}

/// A metric with its labels, as Prometheus reads it.
#[derive(Clone, Copy)]
enum Form {
    /// With `extraStatTags`.
    Labels,
    /// Without: the labels stay inside the name.
    Name,
}

impl Form {
    fn series(self, metric: &str, labels: &[(&str, &str)]) -> String {
        match self {
            Self::Labels => {
                let labels: Vec<_> = labels.iter().map(|(l, v)| format!("{l}=\"{v}\"")).collect();
                format!("{metric}{{{}}}", labels.join(","))
            }
            Self::Name => {
                let labels: String = labels
                    .iter()
                    .map(|(l, v)| format!("{l}=.={v};.;"))
                    .collect();
                let name: String = format!("{metric}.{labels}")
                    .chars()
                    .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                    .collect();
                format!("{name}{{}}")
            }
        }
    }

    /// Every series that there can be.
    fn closed_set(self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for target in ["primary", "burst"] {
            for reason in REASONS {
                let labels = [WORKER, ("reason", reason), ("target", target)];
                all.insert(self.series("spillway_decisions", &labels));
            }
        }
        for verdict in VERDICTS {
            all.insert(self.series("spillway_gate", &[WORKER, ("verdict", verdict)]));
        }
        for class in ["own", "overflow"] {
            all.insert(self.series("spillway_load_milli", &[WORKER, ("class", class)]));
        }
        for side in ["client", "server"] {
            all.insert(self.series("spillway_config_generation", &[("side", side)]));
        }
        all.insert(self.series("spillway_rate_milli", &[WORKER]));
        all.insert(self.series("spillway_rung_closed", &[WORKER, ("target", "burst")]));
        all.insert(self.series("spillway_callers_without_filter", &[WORKER]));
        all
    }
}

/// What a sidecar's Prometheus endpoint shows of Spillway's metrics.
struct Scrape {
    form: Form,
    series: Vec<(String, usize)>,
}

impl Scrape {
    async fn of(sidecar: &Sidecar, form: Form) -> Result<Self> {
        let text = sidecar.prometheus().await?;
        let series = text
            .lines()
            .filter(|line| line.starts_with("spillway_"))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').context("a name and a value")?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { form, series })
    }

    fn value(&self, metric: &str, labels: &[(&str, &str)]) -> usize {
        let wanted = self.form.series(metric, labels);
        let found = self.series.iter().find(|(name, _)| *name == wanted);
        found.map_or(0, |(_, value)| *value)
    }

    fn decisions(&self, reason: &str, target: &str) -> usize {
        let labels = [WORKER, ("reason", reason), ("target", target)];
        self.value("spillway_decisions", &labels)
    }

    fn decisions_for(&self, target: &str) -> usize {
        REASONS
            .iter()
            .map(|reason| self.decisions(reason, target))
            .sum()
    }

    fn gate(&self, verdict: &str) -> usize {
        self.value("spillway_gate", &[WORKER, ("verdict", verdict)])
    }

    fn served(&self) -> usize {
        self.gate("admitted") + self.gate("forced")
    }
}

/// Scrapes until nothing is missing: threads hand over what they have counted at their next tick.
async fn scrape(
    sidecar: &Sidecar,
    form: Form,
    complete: impl Fn(&Scrape) -> bool,
) -> Result<Scrape> {
    let begin = Instant::now();
    loop {
        let scrape = Scrape::of(sidecar, form).await?;
        if complete(&scrape) {
            return Ok(scrape);
        }
        let name = sidecar.name();
        ensure!(
            begin.elapsed() < DEADLINE,
            "{name} shows {:?}",
            scrape.series
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn endpoint<'a>(mesh: &'a Mesh, cluster: &str) -> Result<&'a Sidecar> {
    let one = mesh
        .endpoints(cluster)
        .next()
        .context("one endpoint in each")?;
    Ok(&one.sidecar)
}

/// Three times the limit from a caller with the filter, and a bit from one without.
async fn metrics_agree_with_the_applications(form: Form) -> Result<()> {
    let proxy = ProxyOptions {
        concurrency: 2,
        extra_stat_tags: matches!(form, Form::Labels),
        ..ProxyOptions::default()
    };
    let plain = ProxyOptions {
        filter: false,
        ..proxy.clone()
    };
    let mut mesh = one_endpoint_each(proxy)
        .caller_with("plain", "primary", Some(plain))
        .filter(artefacts::filter()?)
        .start()
        .await?;
    let generation = mesh.apply(&policies(policy())).await?;
    mesh.wait_generation(generation).await?;
    let load = Load::new(8)
        .target(10.0, mesh.target("shop")?)
        .target(1.0, mesh.target("plain")?)
        .step(330.0, Duration::from_secs(3));
    let outcome = load.start()?.finish().await?;
    assert_eq!(outcome.failures().count(), 0);
    let sent = |target| {
        outcome
            .replies
            .iter()
            .filter(|one| one.target == target)
            .count()
    };
    let (by_shop, by_plain) = (sent(0), sent(1));

    let (home, away) = (mesh.count("primary"), mesh.count("burst"));
    assert_eq!(home + away, by_shop + by_plain);
    let records = mesh.endpoints("burst").flat_map(|one| one.app.served());
    let attempt = |number: &'static str| {
        move |one: &spillway_e2e::app::Served| one.header("x-envoy-attempt-count") == Some(number)
    };
    let records: Vec<_> = records.collect();
    let spilled = records.iter().filter(|one| attempt("1")(one)).count();
    assert!(
        spilled > 300 && spilled < away,
        "{spilled} of {away}, the others were bounced"
    );

    let shop = mesh.caller("shop")?;
    let complete =
        |one: &Scrape| one.decisions_for("primary") + one.decisions_for("burst") >= by_shop;
    let client = scrape(shop, form, complete).await?;
    assert_eq!(client.decisions_for("burst"), spilled);
    assert_eq!(client.decisions("over-limit", "burst"), spilled);
    assert_eq!(client.decisions_for("primary"), by_shop - spilled);
    assert_eq!(
        client.value("spillway_config_generation", &[("side", "client")]),
        1
    );

    let primary = scrape(endpoint(&mesh, "primary")?, form, |one| {
        one.served() >= home
    })
    .await?;
    let burst = scrape(endpoint(&mesh, "burst")?, form, |one| one.served() >= away).await?;
    assert_eq!((primary.served(), burst.served()), (home, away));
    let retries: u64 = shop.stats("upstream_rq_retry$").await?.values().sum();
    assert_eq!(
        (primary.gate("bounced") + burst.gate("bounced")) as u64,
        retries
    );
    assert!(retries > 0);
    assert_eq!(
        primary.value("spillway_callers_without_filter", &[WORKER]),
        by_plain
    );
    assert_eq!(burst.value("spillway_callers_without_filter", &[WORKER]), 0);
    assert_eq!(
        primary.value("spillway_config_generation", &[("side", "server")]),
        1
    );

    let closed = form.closed_set();
    for (name, _) in [&client, &primary, &burst]
        .into_iter()
        .flat_map(|one| &one.series)
    {
        assert!(closed.contains(name), "{name} is in no document");
    }
    for (metric, labels) in [
        ("spillway_rate_milli", &[WORKER][..]),
        ("spillway_load_milli", &[WORKER, ("class", "own")]),
    ] {
        let wanted = form.series(metric, labels);
        assert!(
            primary.series.iter().any(|(name, _)| *name == wanted),
            "{wanted}"
        );
    }

    // The reason stands in the log of what was not simply below the limit.
    let log = shop.wait_access_log(by_shop).await?;
    let over = log
        .iter()
        .filter(|line| line["reason"] == "over-limit")
        .count();
    assert_eq!(over, spilled);
    for line in &log {
        let route = line["route"].as_str().unwrap_or_default();
        assert_eq!(
            line["reason"] == "over-limit",
            route == "spillway-burst",
            "{line}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_with_istios_labels_agree_with_the_applications() -> Result<()> {
    metrics_agree_with_the_applications(Form::Labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_without_extra_labels_agree_with_the_applications() -> Result<()> {
    metrics_agree_with_the_applications(Form::Name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_gauges_follow_the_demand() -> Result<()> {
    let mesh = one_endpoint_each(ProxyOptions::default())
        .filter(artefacts::filter()?)
        .start()
        .await?;
    let load = Load::new(4).target(1.0, mesh.target("shop")?);
    let running = load.step(200.0, Duration::from_secs(60)).start()?;
    let primary = endpoint(&mesh, "primary")?;
    let gauge = "spillway_load_milli";
    let own = [WORKER, ("class", "own")];
    let twice = |one: &Scrape| (1_700..2_300).contains(&one.value(gauge, &own));
    let full = scrape(primary, Form::Labels, twice).await?;
    let rate = full.value("spillway_rate_milli", &[WORKER]);
    assert!((150_000..250_000).contains(&rate), "{rate}");
    running.stop();
    assert_eq!(running.finish().await?.failures().count(), 0);
    scrape(primary, Form::Labels, |one| one.value(gauge, &own) < 100).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rung_that_fails_is_closed_and_counted() -> Result<()> {
    let forced = policy().with(|policy| {
        policy.override_ = Some(Override {
            force: "Overflow",
            until_unix_seconds: 4_000_000_000,
        });
    });
    // A server without the filter tells no load: its 503 may come from anywhere.
    let bare = EndpointSpec {
        proxy: Some(ProxyOptions {
            filter: false,
            ..ProxyOptions::default()
        }),
        ..EndpointSpec::new(&Service::worker().host, "burst")
    };
    let mesh = Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(Service::worker())
        .endpoints("primary", 1)
        .endpoint(bare)
        .caller("shop", "primary")
        .filter(artefacts::filter()?)
        .policies(policies(forced))
        .start()
        .await?;
    for endpoint in mesh.endpoints("burst") {
        endpoint.app.behave(Behaviour {
            status: 503,
            ..Behaviour::default()
        });
    }
    let client = mesh.client("shop")?;
    let statuses = [
        client.call(&Call::get("/")).await?.status.as_u16(),
        client.call(&Call::get("/")).await?.status.as_u16(),
    ];
    assert_eq!(statuses, [503, 200], "one request finds out");
    let closed = |one: &Scrape| one.value("spillway_rung_closed", &[WORKER, ("target", "burst")]);
    let shop = mesh.caller("shop")?;
    let shown = scrape(shop, Form::Labels, |one| {
        closed(one) >= 1 && one.decisions_for("primary") == 1
    })
    .await?;
    assert_eq!(closed(&shown), 1);
    assert_eq!(shown.decisions("override", "burst"), 1);
    assert_eq!(shown.decisions("exhausted", "primary"), 1);
    let log = shop.wait_access_log(2).await?;
    let reasons: Vec<_> = log
        .iter()
        .filter_map(|line| line["reason"].as_str())
        .collect();
    assert_eq!(reasons, ["override", "exhausted"]);
    Ok(())
}

/// The resident memory of each sidecar after some traffic, MB: the least of three starts, because
/// how much of what the compiler freed the allocator keeps is a matter of chance.
async fn memory(builder: impl Fn() -> MeshBuilder) -> Result<BTreeMap<String, f64>> {
    let mut least = BTreeMap::new();
    for _ in 0..3 {
        let mesh = builder().start().await?;
        let load = Load::new(2).target(1.0, mesh.target("shop")?);
        let outcome = load
            .step(300.0, Duration::from_secs(1))
            .start()?
            .finish()
            .await?;
        assert_eq!(outcome.failures().count(), 0);
        for one in mesh.sidecars() {
            let megabytes = one.resident_memory()? as f64 / 1e6;
            least
                .entry(one.name().to_owned())
                .and_modify(|least: &mut f64| *least = least.min(megabytes))
                .or_insert(megabytes);
        }
    }
    Ok(least)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_costs_at_most_30_mb_of_memory() -> Result<()> {
    let proxies = || {
        one_endpoint_each(ProxyOptions {
            concurrency: 2,
            ..ProxyOptions::default()
        })
    };
    let filter = artefacts::filter()?;
    let without = memory(proxies).await?;
    let with = memory(|| proxies().filter(filter.clone())).await?;
    for ((name, before), after) in without.iter().zip(with.values()) {
        let more = after - before;
        println!("{name}: {before:.1} MB without the filter, {more:.1} MB more with it");
        assert!(more <= 30.0, "{name}: {more:.1} MB more");
    }
    Ok(())
}
