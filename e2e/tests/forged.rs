//! Headers of Spillway that somebody else has written: callers, applications, and applications that
//! copy what another service answered.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use hyper::HeaderMap;
use spillway_e2e::address::outbound_port;
use spillway_e2e::app::Behaviour;
use spillway_e2e::artefacts;
use spillway_e2e::client::{Answer, Call, Target};
use spillway_e2e::mesh::{HOURLY, Mesh, MeshBuilder};
use spillway_e2e::policy::{DEFAULT_TOKEN, Policies, Policy};
use spillway_e2e::topology::{EndpointSpec, OutlierDetection, ProxyOptions, Service};

/// No load of these tests comes near it.
const AMPLE: &str = "100000/s";
const PREFIX: &str = "x-spillway-prefix";

fn policies(policy: Policy) -> Policies {
    Policies::two_clusters(policy)
}

fn worker(rate: &str) -> Policy {
    Policy::worker("primary", &["burst"]).total_rate("primary", rate, 1)
}

/// `shop` has the filter, `plain` has a sidecar without it.
fn two_callers() -> Result<MeshBuilder> {
    let service = Service::worker().with(|service| {
        service.outlier_detection = Some(OutlierDetection::without_ejections());
    });
    let plain = ProxyOptions {
        filter: false,
        ..ProxyOptions::default()
    };
    Ok(Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(service)
        .endpoints("primary", 1)
        .endpoints("burst", 1)
        .caller("shop", "primary")
        .caller_with("plain", "primary", Some(plain))
        .filter(artefacts::filter()?))
}

/// All headers of the family.
fn ours(headers: &HeaderMap) -> Vec<String> {
    let ours = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-spillway"));
    ours.map(|(name, value)| format!("{name}: {value:?}"))
        .collect()
}

fn hop(target: &str, token: &str, echo: u32, flags: &str) -> String {
    format!("{target};{token};primary;worker;{echo};{flags}")
}

type Headers = Vec<(&'static str, String)>;

/// What needs no knowledge of the mesh.
fn guesses() -> Vec<Headers> {
    let guess = |target, flags| vec![("x-spillway", hop(target, "mesh-token-9", 1, flags))];
    let mut double = guess("burst", "b");
    double.extend(guess("burst", "b"));
    vec![
        guess("burst", ""),
        guess("burst", "b"),
        guess("primary", "h"),
        guess("primary", "s"),
        double,
        vec![("x-spillway", "burst;".to_owned())],
        vec![(PREFIX, "evil-".to_owned()), (PREFIX, "worse-".to_owned())],
        vec![("x-spillway-load", "primary;64000;1".to_owned())],
        vec![("x-spillway-bounce", "1".to_owned())],
        vec![("x-spillway-shed", "exhausted".to_owned())],
        vec![("x-spillway-anything", "1".to_owned())],
    ]
}

/// What needs the token, which a caller's own sidecar has.
fn with_token() -> Vec<Headers> {
    let right = |target, echo, flags| vec![("x-spillway", hop(target, DEFAULT_TOKEN, echo, flags))];
    let mut double = right("burst", 1, "b");
    double.extend(right("burst", 1, "b"));
    let mut mixed = right("burst", 1, "b");
    mixed.push((
        "x-spillway",
        "burst;mesh-token-9;primary;worker;1;b".to_owned(),
    ));
    vec![
        right("burst", 1, "b"),
        right("burst", 999_999_999, ""),
        right("primary", 999_999_999, "bhs"),
        double,
        mixed,
    ]
}

async fn forge(mesh: &Mesh, caller: &str, number: usize, headers: &Headers) -> Result<Answer> {
    let mut call = Call::get(&format!("/{caller}/{number}"));
    for (name, value) in headers {
        call = call.header(name, value);
    }
    let answer = mesh.client(caller)?.call(&call).await?;
    let served: Vec<_> = ["primary", "burst"]
        .into_iter()
        .flat_map(|cluster| mesh.endpoints(cluster).map(move |one| (cluster, one)))
        .flat_map(|(cluster, one)| one.app.served().into_iter().map(move |s| (cluster, s)))
        .filter(|(_, served)| served.path == call.path)
        .collect();
    assert_eq!(
        served.len(),
        1,
        "{headers:?} was served {} times",
        served.len()
    );
    let (cluster, served) = served.first().context("it was served")?;
    let prefix = format!("{PREFIX}: \"bursty-\"");
    let allowed: &[String] = if *cluster == "burst" { &[prefix] } else { &[] };
    assert_eq!(
        ours(&served.headers),
        allowed,
        "{headers:?} reached the application"
    );
    assert_eq!(answer.status.as_u16(), 200, "{headers:?}: {answer:?}");
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_the_filter_can_forge_nothing() -> Result<()> {
    let mesh = two_callers()?
        .policies(policies(worker(AMPLE)))
        .start()
        .await?;
    let forgeries = guesses().into_iter().chain(with_token());
    for (number, headers) in forgeries.enumerate() {
        let answer = forge(&mesh, "shop", number, &headers).await?;
        assert_eq!(answer.served_by(), Some("primary"), "{headers:?}");
        assert!(ours(&answer.headers).is_empty(), "{headers:?}: {answer:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_the_filter_can_guess_nothing_even_at_a_full_service() -> Result<()> {
    let mesh = two_callers()?
        .policies(policies(worker(HOURLY)))
        .start()
        .await?;
    mesh.fill("primary").await?;
    let forgeries = guesses();
    for (number, headers) in forgeries.iter().enumerate() {
        let answer = forge(&mesh, "plain", number, headers).await?;
        assert_eq!(answer.served_by(), Some("primary"), "{headers:?}");
        assert!(ours(&answer.headers).is_empty(), "{headers:?}: {answer:?}");
    }
    let log = mesh
        .caller("plain")?
        .wait_access_log(forgeries.len())
        .await?;
    assert!(log.iter().all(|line| line["attempts"] == 1), "{log:?}");
    Ok(())
}

/// A sidecar without the filter, and an application that knows the token: its requests may go where
/// they like, but reach the application clean, and once.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_alone_moves_a_request_and_no_more() -> Result<()> {
    let mesh = two_callers()?
        .policies(policies(worker(AMPLE)))
        .start()
        .await?;
    for (number, headers) in with_token().into_iter().enumerate() {
        forge(&mesh, "plain", number, &headers).await?;
    }
    Ok(())
}

/// The load that the primary tells, in thousandths: with a rate of one an hour, the time over which
/// demand is averaged is so long that each counted request adds the same, 50.
async fn counted_requests(mesh: &Mesh, at_least: u64) -> Result<u64> {
    let primary = mesh.endpoints("primary").next().context("one endpoint")?;
    let gauge = "wasmcustom.spillway_load_milli.service=.=default/worker;.;class=.=own;.;";
    let load = primary
        .sidecar
        .wait_stat(gauge, |load| load + 25 >= 50 * at_least)
        .await?;
    Ok((load + 25) / 50)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_echo_counts_as_what_it_is() -> Result<()> {
    let mesh = two_callers()?
        .policies(policies(worker(HOURLY)))
        .start()
        .await?;
    let shop = mesh.client("shop")?;
    let header = hop("primary", DEFAULT_TOKEN, 999_999_999, "b");
    let forged = Call::get("/").header("x-spillway", &header);
    for _ in 0..5 {
        assert_eq!(shop.call(&forged).await?.status.as_u16(), 200);
    }
    assert_eq!(
        counted_requests(&mesh, 5).await?,
        5,
        "the filter writes its own"
    );
    // Nobody writes over it, and the token is right: the credit cuts it.
    let plain = mesh.client("plain")?;
    for _ in 0..5 {
        assert_eq!(plain.call(&forged).await?.status.as_u16(), 200);
    }
    let counted = counted_requests(&mesh, 10).await?;
    assert!((10..=11).contains(&counted), "{counted}");
    Ok(())
}

fn forging(status: u16) -> Behaviour {
    let headers = [
        ("x-spillway", hop("burst", DEFAULT_TOKEN, 1, "b")),
        ("x-spillway-bounce", "1".to_owned()),
        ("x-spillway-load", "primary;64000;3".to_owned()),
        ("x-spillway-load", "burst;64000;3".to_owned()),
        ("x-spillway-shed", "exhausted".to_owned()),
        (PREFIX, "evil-".to_owned()),
    ];
    Behaviour {
        status,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec(),
        ..Behaviour::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_can_neither_bounce_nor_tell_a_load() -> Result<()> {
    let mesh = two_callers()?
        .policies(policies(worker(AMPLE)))
        .start()
        .await?;
    for caller in ["shop", "plain"] {
        let client = mesh.client(caller)?;
        for status in [200, 429, 503] {
            mesh.forget();
            for endpoint in mesh.endpoints("primary") {
                endpoint.app.behave(forging(status));
            }
            for _ in 0..10 {
                let answer = client.call(&Call::get("/")).await?;
                assert_eq!(answer.status.as_u16(), status);
                assert_eq!(ours(&answer.headers), Vec::<String>::new());
            }
            assert_eq!(
                (mesh.count("primary"), mesh.count("burst")),
                (10, 0),
                "{status}"
            );
        }
    }
    Ok(())
}

/// `front` asks `worker`, whose primary is full and whose application forges, and copies every
/// header of the answer to its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_passes_headers_on_causes_no_second_service() -> Result<()> {
    let front = Service::named("front-service", "front");
    let front_host = front.host.clone();
    let front_policy =
        Policy::for_service(&front, "primary", &["burst"]).total_rate("primary", AMPLE, 1);
    let builder = two_callers()?.policies(policies(worker(HOURLY)).policy(front_policy));
    let mesh = builder
        .service(front)
        .endpoint(EndpointSpec {
            calls: true,
            ..EndpointSpec::new(&front_host, "primary")
        })
        .endpoint(EndpointSpec::new(&front_host, "burst"))
        .start()
        .await?;
    let worker_host = Service::worker().host;
    let serving = |host: &str, cluster: &str| {
        let found = mesh.endpoints(cluster).find(|one| one.host() == host);
        found.context("one of each service in each cluster")
    };
    let (full, other) = (
        serving(&worker_host, "primary")?,
        serving(&worker_host, "burst")?,
    );
    let (relay, elsewhere) = (
        serving(&front_host, "primary")?,
        serving(&front_host, "burst")?,
    );
    for _ in 0..20 {
        let client = spillway_e2e::client::HttpClient::new(&full.inbound());
        client.call(&Call::get("/fill")).await?;
    }
    mesh.forget();
    other.app.behave(forging(200));
    relay.app.behave(Behaviour {
        relay: Some(Target {
            address: SocketAddr::from((relay.sidecar.address(), outbound_port(80))),
            host: worker_host.clone(),
            http2: false,
        }),
        ..forging(200)
    });
    let client = spillway_e2e::client::HttpClient::new(&mesh.target_of("shop", &front_host)?);
    for number in 0..10 {
        let answer = client.call(&Call::get(&format!("/{number}"))).await?;
        assert_eq!(answer.served_by(), Some("primary"));
        // The worker's prefix was given to the application, which is free to pass it on; the
        // answer's own wins, and the primary has none.
        assert_eq!(ours(&answer.headers), Vec::<String>::new());
    }
    let counts = [relay, elsewhere, full, other].map(|endpoint| endpoint.app.count());
    assert_eq!(counts, [10, 0, 0, 10]);
    let attempts: Vec<_> = other.app.served();
    assert!(
        attempts
            .iter()
            .all(|served| served.header("x-envoy-attempt-count") == Some("3"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_request_tells_its_caller_that_and_nothing_else() -> Result<()> {
    let shed = worker(HOURLY)
        .total_rate("burst", HOURLY, 1)
        .with(|policy| policy.on_exhausted = Some("Shed"));
    let mesh = two_callers()?.policies(policies(shed)).start().await?;
    mesh.fill("primary").await?;
    mesh.fill("burst").await?;
    let answer = mesh.call("shop", "/").await?;
    assert_eq!(answer.status.as_u16(), 503, "{answer:?}");
    assert_eq!(ours(&answer.headers), ["x-spillway-shed: \"exhausted\""]);
    assert_eq!((mesh.count("primary"), mesh.count("burst")), (0, 0));
    Ok(())
}
