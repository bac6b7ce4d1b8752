//! The mesh itself, with real Envoys and mostly without the filter: what every other test stands
//! on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{SinkExt, StreamExt};
use spillway_e2e::app::grpc::{self, GrpcCall};
use spillway_e2e::app::{Behaviour, ws};
use spillway_e2e::client::{Call, HttpClient, Payload};
use spillway_e2e::killed;
use spillway_e2e::load::{Arrivals, Load};
use spillway_e2e::mesh::{Mesh, MeshBuilder};
use spillway_e2e::policy::{DEFAULT_TOKEN, Override, Policies, Policy};
use spillway_e2e::sidecar::Sidecar;
use spillway_e2e::topology::{EndpointSpec, OutlierDetection, Protocol, ProxyOptions, Service};
use spillway_e2e::{Configuration, artefacts};

const HOST: &str = "worker-service.default.svc.cluster.local";

/// A caller in `primary`, two endpoints there and one in `burst`.
fn two_clusters(service: Service) -> MeshBuilder {
    Mesh::builder()
        .cluster("primary")
        .cluster("burst")
        .service(service)
        .endpoints("primary", 2)
        .endpoints("burst", 1)
        .caller("shop", "primary")
}

fn to_burst(path: &str) -> Call {
    Call::get(path).header(
        "x-spillway",
        &format!("burst;{DEFAULT_TOKEN};primary;worker;1;b"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_stay_home_and_follow_the_header_with_the_token() -> Result<()> {
    let mesh = two_clusters(Service::worker())
        .caller("desk", "burst")
        .start()
        .await?;
    // Home is the caller's own cluster where the service names none.
    assert_eq!(mesh.call("desk", "/").await?.served_by(), Some("burst"));
    mesh.forget();

    let client = mesh.client("shop")?;
    for _ in 0..20 {
        let answer = client.call(&Call::get("/home")).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.served_by()),
            (200, Some("primary"))
        );
    }
    let used = mesh
        .endpoints("primary")
        .filter(|endpoint| endpoint.app.count() > 0)
        .count();
    assert_eq!(used, 2, "both endpoints of home take requests");

    let answer = client.call(&to_burst("/away")).await?;
    assert_eq!(answer.served_by(), Some("burst"));
    let forged =
        Call::get("/forged").header("x-spillway", "burst;guessed-token;primary;worker;1;b");
    assert_eq!(client.call(&forged).await?.served_by(), Some("primary"));

    let burst: Vec<_> = mesh
        .endpoints("burst")
        .flat_map(|endpoint| endpoint.app.served())
        .collect();
    assert_eq!(burst.len(), 1);
    assert_eq!(burst[0].path, "/away");
    assert_eq!(burst[0].header("x-envoy-attempt-count"), Some("1"));
    assert_eq!(burst[0].header("x-envoy-retry-on"), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounced_request_is_repeated_in_the_next_cluster() -> Result<()> {
    let mesh = two_clusters(Service::worker()).start().await?;
    for endpoint in mesh.endpoints("primary") {
        endpoint.app.behave(Behaviour::bouncing());
    }
    let client = mesh.client("shop")?;
    let began = Instant::now();
    for _ in 0..50 {
        let answer = client.call(&Call::get("/")).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.served_by()),
            (200, Some("burst"))
        );
    }
    assert_eq!(
        mesh.count("primary"),
        100,
        "two attempts at home, then the next priority"
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the back-off is short"
    );
    let burst = mesh.endpoints("burst").next().unwrap().app.served();
    assert!(
        burst
            .iter()
            .all(|served| served.header("x-envoy-attempt-count") == Some("3"))
    );

    let large = client
        .call(&Call::post("/", Payload::Sized(4 << 20)))
        .await?;
    assert_eq!(
        large.status.as_u16(),
        429,
        "more than Envoy keeps cannot be repeated"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_service_changes_routes_endpoints_and_protocol_at_run_time() -> Result<()> {
    let mut mesh = two_clusters(Service::worker()).start().await?;
    let client = mesh.client("shop")?;
    assert_eq!(
        client.call(&to_burst("/")).await?.served_by(),
        Some("burst")
    );

    // Routes: no rung any more.
    mesh.change_service(HOST, |service| service.rungs = Some(Vec::new()))
        .await?;
    assert_eq!(
        client.call(&to_burst("/")).await?.served_by(),
        Some("primary")
    );
    mesh.change_service(HOST, |service| service.rungs = None)
        .await?;
    assert_eq!(
        client.call(&to_burst("/")).await?.served_by(),
        Some("burst")
    );
    // Endpoints: burst is home to everybody.
    mesh.change_service(HOST, |service| service.home = Some("burst".to_owned()))
        .await?;
    assert_eq!(
        client.call(&Call::get("/")).await?.served_by(),
        Some("burst")
    );
    // Discovery: burst's endpoints vanish.
    mesh.announce("burst", false).await?;
    assert_eq!(
        client.call(&Call::get("/")).await?.served_by(),
        Some("primary")
    );
    mesh.announce("burst", true).await?;
    assert_eq!(
        client.call(&Call::get("/")).await?.served_by(),
        Some("burst")
    );
    // Scale.
    mesh.add_endpoint(EndpointSpec::new(HOST, "burst")).await?;
    mesh.forget();
    for _ in 0..20 {
        client.call(&Call::get("/")).await?;
    }
    assert!(
        mesh.endpoints("burst")
            .all(|endpoint| endpoint.app.count() > 0)
    );
    mesh.remove_endpoint("burst").await?;
    assert_eq!(
        client.call(&Call::get("/")).await?.served_by(),
        Some("burst")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cluster_falls_back_home_and_comes_back() -> Result<()> {
    let service = Service::worker().with(|service| {
        service.outlier_detection = Some(OutlierDetection {
            interval: Some(Duration::from_millis(100)),
            base_ejection_time: Some(Duration::from_millis(500)),
            ..OutlierDetection::default()
        });
    });
    let mut mesh = two_clusters(service).start().await?;
    let client = mesh.client("shop")?;
    assert_eq!(
        client.call(&to_burst("/")).await?.served_by(),
        Some("burst")
    );
    mesh.kill_cluster("burst").await;
    for _ in 0..20 {
        let answer = client.call(&to_burst("/")).await?;
        assert_eq!(
            (answer.status.as_u16(), answer.served_by()),
            (200, Some("primary"))
        );
    }
    mesh.restart_cluster("burst").await?;
    let began = Instant::now();
    while client.call(&to_burst("/")).await?.served_by() != Some("burst") {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "burst is never used again"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_of_every_kind_and_websocket_pass() -> Result<()> {
    let mut mesh =
        two_clusters(Service::worker().with(|service| service.protocol = Protocol::Http2))
            .start()
            .await?;
    let client = mesh.client("shop")?;

    let answer = client.call(&Call::grpc_unary(100)).await?;
    assert_eq!(
        (answer.grpc_status(), answer.served_by()),
        (Some(0), Some("primary"))
    );
    assert_eq!(answer.body.len(), 105);

    let mut call = GrpcCall::open(&client, grpc::SERVER_STREAM, &[])?;
    call.send(b"3").await?;
    for expected in ["0", "1", "2"] {
        assert_eq!(call.receive().await?.as_deref(), Some(expected.as_bytes()));
    }
    assert_eq!(call.end().await?.status, 0);

    let mut call = GrpcCall::open(&client, grpc::CLIENT_STREAM, &[])?;
    for _ in 0..5 {
        call.send(b"message").await?;
    }
    call.close();
    assert_eq!(call.receive().await?.as_deref(), Some(&b"5"[..]));
    assert_eq!(call.end().await?.status, 0);

    let header = format!("burst;{DEFAULT_TOKEN};");
    let mut call = GrpcCall::open(&client, grpc::BIDI, &[("x-spillway", &header)])?;
    for message in [&b"one"[..], b"two"] {
        call.send(message).await?;
        assert_eq!(call.receive().await?.as_deref(), Some(message));
    }
    assert_eq!(call.headers().await?.1["x-served-by"], "burst");
    assert_eq!(call.end().await?.status, 0);

    for endpoint in mesh.endpoints("primary") {
        endpoint.app.behave(Behaviour {
            grpc_status: 7,
            ..Behaviour::default()
        });
    }
    assert_eq!(
        client.call(&Call::grpc_unary(1)).await?.grpc_status(),
        Some(7)
    );

    mesh.change_service(HOST, |service| service.protocol = Protocol::Http1)
        .await?;
    let (mut socket, _) = ws::connect(&mesh.target("shop")?, "/socket", &[]).await?;
    socket.send("ping".into()).await?;
    assert_eq!(socket.next().await.unwrap()?.to_text()?, "ping");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_kind_arrive_whole() -> Result<()> {
    let mesh = two_clusters(Service::worker()).start().await?;
    let client = mesh.client("shop")?;
    let slow = Payload::Chunked {
        chunks: 5,
        size: 10,
        gap: Duration::from_millis(20),
    };
    let large = Payload::Chunked {
        chunks: 64,
        size: 65536,
        gap: Duration::ZERO,
    };
    let mut expected = Vec::new();
    for (payload, size) in [(Payload::Sized(7), 7), (slow, 50), (large, 64 * 65536)] {
        let call = Call::post("/", payload).header("expect", "100-continue");
        assert_eq!(client.call(&call).await?.status.as_u16(), 200);
        expected.push(size);
    }
    let mut sizes: Vec<_> = mesh
        .endpoints("primary")
        .flat_map(|endpoint| endpoint.app.served())
        .map(|served| served.body_bytes)
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn load_keeps_its_schedule_whatever_the_answers_do() -> Result<()> {
    let mesh = two_clusters(Service::worker()).start().await?;
    for endpoint in mesh.endpoints("primary") {
        let service_time = Duration::from_millis(400);
        endpoint.app.behave(Behaviour {
            service_time,
            ..Behaviour::default()
        });
    }
    let load = Load::new(5)
        .target(1.0, mesh.target("shop")?)
        .arrivals(Arrivals::Uniform)
        .most_in_flight(30)
        .step(50.0, Duration::from_millis(510))
        .step(200.0, Duration::from_millis(500));
    let outcome = load.start()?.finish().await?;
    assert_eq!(outcome.intended, 125);
    assert!(outcome.dropped > 30, "{} dropped", outcome.dropped);
    assert_eq!(outcome.count_status(200) + outcome.dropped, 125);
    assert_eq!(outcome.count_served_by("primary"), mesh.count("primary"));
    let first = outcome.between(Duration::ZERO, Duration::from_millis(300));
    let latencies = spillway_e2e::load::Outcome::latencies(first)?;
    assert!(latencies.value_at_quantile(0.5) >= 400_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_tells_its_statistics_configuration_memory_and_time() -> Result<()> {
    let mesh = two_clusters(Service::worker()).start().await?;
    let client = mesh.client("shop")?;
    for _ in 0..10 {
        client.call(&to_burst("/logged")).await?;
    }
    let shop = mesh.caller("shop")?;
    let counter = format!("cluster.outbound|80|spillway-burst|{HOST}.upstream_rq_200");
    assert_eq!(shop.stat(&counter).await?, 10);
    assert!(shop.prometheus().await?.contains("envoy_server_live"));
    assert!(
        shop.config_dump()
            .await?
            .to_string()
            .contains("\"CLUSTER_ID\":\"primary\"")
    );
    assert!(shop.memory().await?["allocated"].is_string());
    assert!(shop.resident_memory()? > 10_000_000);
    assert!(shop.cpu_time()? > Duration::ZERO);
    let began = Instant::now();
    let log = loop {
        let log = shop.access_log()?;
        if log.len() == 10 {
            break log;
        }
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "{} lines logged",
            log.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(log[0]["route"], "spillway-burst");
    assert_eq!(log[0]["path"], "/logged");
    assert_eq!(log[0]["side"], "Client");
    assert!(log[0].as_object().unwrap().contains_key("reason"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_change_at_run_time_and_refused_code_changes_nothing() -> Result<()> {
    let plain = ProxyOptions {
        filter: false,
        ..ProxyOptions::default()
    };
    let mut mesh = two_clusters(Service::worker())
        .caller_with("plain", "primary", Some(plain))
        .proxies(ProxyOptions {
            concurrency: 2,
            ..ProxyOptions::default()
        })
        .filter(artefacts::filter()?)
        .start()
        .await?;
    let overflow = Policy::worker("primary", &["burst"]);
    let forced = overflow.clone().with(|policy| {
        let until_unix_seconds = 4_000_000_000;
        policy.override_ = Some(Override {
            force: "Overflow",
            until_unix_seconds,
        });
    });
    let clusters = Policies::for_clusters(["primary", "burst"]).prefix("burst", "bursty-");
    for (policy, cluster) in [
        (forced.clone(), "burst"),
        (overflow, "primary"),
        (forced, "burst"),
    ] {
        let generation = mesh.apply(&clusters.clone().policy(policy)).await?;
        mesh.wait_generation(generation).await?;
        // Connections of their own, so that both worker threads are asked.
        for _ in 0..10 {
            assert_eq!(mesh.call("shop", "/").await?.served_by(), Some(cluster));
            assert_eq!(mesh.call("plain", "/").await?.served_by(), Some("primary"));
        }
    }
    assert!(mesh.caller("plain")?.stats("^wasm").await?.is_empty());

    mesh.swap_filter_bytes(b"no module").await?;
    let refused = mesh.wait_plugins().await.unwrap_err().to_string();
    assert!(refused.contains("refuses"), "{refused}");
    assert_eq!(mesh.call("shop", "/").await?.served_by(), Some("burst"));
    mesh.swap_filter(&artefacts::filter()?).await?;
    mesh.wait_plugins().await?;
    assert_eq!(mesh.call("shop", "/").await?.served_by(), Some("burst"));

    mesh.apply_raw(|_, _| Configuration::Text("{".to_owned()))
        .await?;
    mesh.wait_plugins().await?;
    mesh.apply_raw(|_, _| Configuration::Bytes(vec![0, 255]))
        .await?;
    mesh.wait_plugins().await?;
    assert_eq!(mesh.call("shop", "/").await?.status.as_u16(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_the_mesh_is_dropped() -> Result<()> {
    let mesh = two_clusters(Service::worker()).start().await?;
    let folder = mesh.folder().to_owned();
    let pids: Vec<_> = mesh.sidecars().filter_map(Sidecar::pid).collect();
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| is_envoy(*pid)));
    let client = HttpClient::new(&mesh.target("shop")?);
    drop(mesh);
    for pid in pids {
        assert!(!is_envoy(pid), "{pid} still runs");
    }
    assert!(!folder.exists());
    assert!(client.call(&Call::get("/")).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_when_the_process_is_killed() -> Result<()> {
    if killed::is_meant() {
        let mesh = two_clusters(Service::worker()).start().await?;
        let pids: Vec<u32> = mesh.sidecars().filter_map(Sidecar::pid).collect();
        killed::wait(mesh.folder(), &pids).await;
    }
    let left = killed::run("nothing_is_left_when_the_process_is_killed")?;
    assert_eq!(left.pids.len(), 4);
    left.ends("envoy").await?;
    // The next mesh cleans up what only files are left of.
    drop(two_clusters(Service::worker()).start().await?);
    assert!(!left.folder.exists());
    Ok(())
}

fn is_envoy(pid: u32) -> bool {
    killed::runs(pid, "envoy")
}
