//! Clusters on two networks, which reach each other by east–west gateways only; an ingress gateway;
//! and callers that Spillway has no part in.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_e2e::analysis::max_excess;
use spillway_e2e::client::{Call, HttpClient, Target};
use spillway_e2e::load::{Load, Outcome};
use spillway_istio::mesh::{GATEWAY, HOST, HUB, Mesh};
use spillway_istio::policy::{self, HOURLY, fill, wait_condition, with};
use spillway_istio::spillway::{self, Spillway, attach};
use spillway_istio::{sandbox, wait};

const NAME: &str = "worker";
/// Twice at home, then in the next cluster.
const BOUNCED: &str = "3";

#[test]
fn requests_cross_networks_and_come_in_by_gateways() -> Result<()> {
    sandbox::run(
        "requests_cross_networks_and_come_in_by_gateways",
        async || {
            let mut mesh = Mesh::builder()
                .cluster("primary")
                .network("site")
                .cluster("burst")
                .network("cloud")
                .endpoints("primary", 1)
                .endpoints("burst", 2)
                .caller("shop", "primary")
                .caller_in("office", "desk", "primary")
                .caller_in("apart", "clerk", "primary")
                .stranger("stranger", "primary")
                .ingress("primary")
                .start()
                .await?;
            let spillway = Spillway::install(&mesh).await?;
            mesh.cluster("primary")?
                .apply(&gateway_routes(&mesh))
                .await?;
            let policy = |rate, namespaces: &[&str]| {
                let policy = spillway::policy(&mesh, "primary", &["burst"], rate);
                let spec = json!({"clients": {"namespaces": namespaces}, "routing": "Merge"});
                with(policy, &spec)
            };
            let everybody = ["default", "office", "istio-ingress"];

            // Nobody calls from the other cluster: nothing of ours is in the way or at hand there.
            spillway.apply(&mesh, &policy(HOURLY, &["office"])).await?;
            mesh.wait_in_force().await?;
            ensure!(!has_rule(&mesh, "burst").await?, "no callers in burst");
            fill(&mesh, "desk").await?;
            for _ in 0..20 {
                assert_eq!(served_by(&mesh, "desk").await?, "burst");
            }

            spillway.apply(&mesh, &policy(HOURLY, &everybody)).await?;
            mesh.wait_in_force().await?;
            ensure!(
                has_rule(&mesh, "burst").await?,
                "there may be callers in burst"
            );
            bounced(&mesh).await?;
            others_are_served(&mesh).await?;

            let limits = json!({"capacity": {"overrides": [{"cluster": "burst", "total": {"rate": "40/s"}}]}});
            let limited = with(policy("50/s", &everybody), &limits);
            spillway.apply(&mesh, &limited).await?;
            mesh.wait_in_force().await?;
            loads_are_heard_of(&mesh).await?;

            spillway.apply(&mesh, &policy("50/s", &everybody)).await?;
            mesh.wait_in_force().await?;
            endpoints_come_and_go(&mut mesh).await
        },
    )
}

/// What leads the world to the service.
fn gateway_routes(mesh: &Mesh) -> String {
    let route = json!({
        "route": [{"destination": {"host": mesh.service().host}}],
        "headers": {"response": {"set": {"x-user": "gateway"}}},
    });
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"hosts": [HOST], "gateways": [GATEWAY], "http": [route]},
    })
    .to_string()
}

async fn has_rule(mesh: &Mesh, cluster: &str) -> Result<bool> {
    let arguments = [
        "get",
        "destinationrules",
        "--all-namespaces",
        "--output=name",
    ];
    let cluster = mesh.cluster(cluster)?;
    let names = cluster.kubectl(User::admin(), &arguments).await?;
    Ok(names.contains("spillway-worker-service"))
}

async fn served_by(mesh: &Mesh, caller: &str) -> Result<String> {
    let answer = mesh.call(caller, "/").await?;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    Ok(answer.served_by().context("nobody served it")?.to_owned())
}

/// From a sidecar and from the ingress gateway, neither of which has heard that home is full.
async fn bounced(mesh: &Mesh) -> Result<()> {
    let world = HttpClient::new(&mesh.ingress("primary")?);
    fill(mesh, "desk").await?;
    for number in 0..20 {
        let path = format!("/{number}");
        let outside = world.call(&Call::get(&path)).await?;
        assert_eq!(outside.header("x-user"), Some("gateway"));
        for answer in [mesh.call("shop", &path).await?, outside] {
            let found = (answer.status.as_u16(), answer.served_by());
            assert_eq!(found, (200, Some("burst")), "{answer:?}");
        }
    }
    let burst: Vec<_> = mesh
        .endpoints("burst")
        .flat_map(|it| it.app.served())
        .collect();
    let attempts = burst
        .iter()
        .filter_map(|it| it.header("x-envoy-attempt-count"));
    let attempts = attempts.filter(|it| *it == BOUNCED).count();
    assert_eq!((burst.len(), attempts), (40, 40), "each was bounced twice");
    Ok(())
}

/// A sidecar that no policy is about, and a pod without one: they are served where Istio leads them,
/// however full that is, and no header of theirs chooses a route.
async fn others_are_served(mesh: &Mesh) -> Result<()> {
    let forged = Call::get("/").header("x-spillway", "burst;mesh-token-9;primary;worker;1;b");
    for _ in 0..20 {
        let answer = mesh.send("clerk", forged.clone()).await?;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    }
    let home = mesh.endpoints("primary").next().context("an endpoint")?;
    let address = (home.pod.address(), mesh.service().app_port).into();
    let host = mesh.service().host.clone();
    let direct = Target {
        address,
        host,
        http2: false,
    };
    let stranger = mesh.caller("stranger")?;
    let refused = stranger.call(direct.clone(), forged.clone()).await;
    ensure!(refused.is_err(), "the mesh is strict: {refused:?}");
    let lax = |mode| {
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "lax", "namespace": "default"},
            "spec": {"mtls": {"mode": mode}},
        })
        .to_string()
    };
    mesh.cluster("primary")?.apply(&lax("PERMISSIVE")).await?;
    wait::until("it is let in", async || {
        let answer = stranger.call(direct.clone(), Call::get("/")).await;
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    })
    .await?;
    for _ in 0..20 {
        let answer = stranger.call(direct.clone(), forged.clone()).await?;
        let found = (answer.status.as_u16(), answer.served_by());
        assert_eq!(found, (200, Some("primary")), "{answer:?}");
    }
    mesh.cluster("primary")?
        .apply(&lax("STRICT"))
        .await
        .map(drop)
}

/// Answers tell of the load in the other network, and so nothing is sent there that has no room.
async fn loads_are_heard_of(mesh: &Mesh) -> Result<()> {
    mesh.forget();
    let load = Load::new(5).step(150.0, Duration::from_secs(5));
    let outcome = mesh.start_load("shop", load).await?.finish().await?;
    let failures: Vec<_> = outcome.failures().take(5).collect();
    assert!(failures.is_empty(), "{failures:?}");
    // Of two endpoints: 2 B, with B = 3 + 12/2.
    let excess = max_excess(&outcome.decided("burst"), 40.0).context("burst served")?;
    let counts = ["primary", "burst"].map(|cluster| mesh.count(cluster));
    println!(
        "of {} home served {counts:?}, {:.1} above burst's limit",
        outcome.replies.len(),
        excess.requests
    );
    // What neither has room for is served at home.
    assert!(counts[0] > 2 * 50 * 4 && counts[1] > 100, "{counts:?}");
    assert!(excess.requests <= 18.0, "{excess:?}");
    Ok(())
}

/// Those of the rung: not ready, gone, and back, while they are needed.
async fn endpoints_come_and_go(mesh: &mut Mesh) -> Result<()> {
    mesh.forget();
    let load = Load::new(6).step(150.0, Duration::from_secs(60));
    let running = mesh.start_load("shop", load).await?;
    wait_for_more(mesh, "burst", 50).await?;
    for ready in [false, true] {
        for endpoint in mesh.endpoints("burst") {
            mesh.report_ready(&endpoint.pod, ready).await?;
        }
        // While away, everything is served at home.
        if !ready {
            let away = Instant::now();
            wait_for_more(mesh, "primary", 300).await?;
            println!("not ready: home served 300 in {:?}", away.elapsed());
        }
    }
    wait_for_more(mesh, "burst", 50).await?;
    mesh.lose_endpoints("burst").await?;
    wait_for_more(mesh, "primary", 300).await?;
    mesh.add_endpoint("burst").await?;
    wait_for_more(mesh, "burst", 50).await?;
    running.stop();
    let outcome = running.finish().await?;
    judge(&outcome);
    Ok(())
}

/// Lost are requests that were under way when the endpoints were lost, and a few that were sent
/// before anybody knew.
fn judge(outcome: &Outcome) {
    let lost: Vec<_> = outcome.failures().collect();
    println!("{} of {} lost", lost.len(), outcome.replies.len());
    assert!(lost.len() <= 10, "{} lost: {:?}", lost.len(), lost.first());
    assert_eq!(outcome.dropped, 0);
}

async fn wait_for_more(mesh: &Mesh, cluster: &str, requests: usize) -> Result<()> {
    let wanted = mesh.count(cluster) + requests;
    let enough = async || Ok(mesh.count(cluster) >= wanted);
    let what = format!("{cluster} serves {requests} more");
    wait::until(&what, enough).await.map(drop)
}

/// A cluster without a control plane, which joins by what istioctl writes: for Istio, and for the
/// hub, which finds it and then may write to it.
#[test]
fn a_remote_cluster_is_found_and_spilled_into() -> Result<()> {
    sandbox::run("a_remote_cluster_is_found_and_spilled_into", async || {
        let mesh = Mesh::builder()
            .cluster("primary")
            .network("site")
            .cluster("burst")
            .network("cloud")
            .remote_of("primary")
            .joined_by_istioctl()
            .endpoints("primary", 1)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .caller_in("office", "desk", "primary")
            .start()
            .await?;
        let spillway = Spillway::install_discovering(&mesh, &["burst"]).await?;
        let clients = json!({"clients": {"namespaces": ["default", "office"]}});
        let policy = spillway::policy(&mesh, "primary", &["burst"], HOURLY);
        let policy: Value = with(policy, &clients);
        let hub = mesh.cluster(HUB)?;
        wait::until("the hub has found it", async || {
            let arguments = ["get", "meshclusters", "--output=name"];
            Ok(hub
                .kubectl(User::admin(), &arguments)
                .await?
                .contains("/burst"))
        })
        .await?;
        hub.apply(&policy.to_string()).await?;
        let message = wait_condition(&mesh, NAME, "Accepted", "NoUsableRung").await?;
        ensure!(message.contains("attach the cluster"), "{message}");
        attach(&mesh, "burst").await?;
        spillway.apply(&mesh, &policy).await?;
        mesh.wait_in_force().await?;
        fill(&mesh, "desk").await?;
        for _ in 0..20 {
            assert_eq!(served_by(&mesh, "shop").await?, "burst");
        }
        policy::delete(&mesh, NAME).await
    })
}
