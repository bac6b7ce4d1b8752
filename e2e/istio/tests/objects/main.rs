//! Users' own objects on the real mesh: respected, merged into, refused and told about, and
//! restored as they were; and a cluster that no policy names.

mod rights;
mod users;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_e2e::client::Answer;
use spillway_e2e::load::Load;
use spillway_istio::mesh::{HUB, Mesh};
use spillway_istio::policy::{self, HOURLY, fill, wait_condition, with};
use spillway_istio::spillway::{self, Spillway};
use spillway_istio::{istioctl, sandbox, wait};

use self::users::{NAME, a_rule, a_virtual_service, api, as_text, get, in_namespace, ours};

/// Twice at home, then in the next cluster.
const BOUNCED: &str = "3";

#[test]
fn objects_of_users_are_respected() -> Result<()> {
    sandbox::run("objects_of_users_are_respected", async || {
        let began = Instant::now();
        let done = |what: &str| println!("{what}: after {:.1} s", began.elapsed().as_secs_f64());
        let mut mesh = Mesh::builder()
            .cluster("primary")
            .cluster("burst")
            .cluster("third")
            .endpoints("primary", 1)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .caller_in("office", "desk", "primary")
            .start()
            .await?;
        let spillway = Spillway::install(&mesh).await?;
        done("installed");
        let both = json!({"clients": {"namespaces": ["default", "office"]}});
        let full = with(
            spillway::policy(&mesh, "primary", &["burst"], HOURLY),
            &both,
        );

        a_service_by_dns_is_refused(&mesh, &full).await?;
        done("a service by DNS");

        let merged = with(full.clone(), &json!({"routing": "Merge"}));
        let replaced = with(merged.clone(), &json!({"userRetries": "Replace"}));
        spillway.apply(&mesh, &full).await?;
        mesh.wait_in_force().await?;
        bounced(&mesh, "/").await?;
        the_routes_are_as_documented(&mesh).await?;
        done("routes");

        let (rule, before) = a_rule(&mesh).await?;
        let user = a_virtual_service(&mesh, None).await?;
        wait_condition(&mesh, NAME, "Conflicted", "VirtualServiceExists").await?;
        wait::until("sidecars have one for the host", async || {
            let ours = ours(&mesh, "primary").await?;
            Ok(!ours.iter().any(|it| it.starts_with("VirtualService")))
        })
        .await?;
        assert_eq!(get(&mesh, "VirtualService").await?, user);
        let answer = mesh.call("shop", "/special/offer").await?;
        assert_eq!(
            (answer.status.as_u16(), of_user(&answer)),
            (200, Some("special"))
        );
        done("refused");

        spillway.apply(&mesh, &merged).await?;
        mesh.wait_in_force().await?;
        for (path, route) in [("/special/offer", "special"), ("/", "other")] {
            let answer = bounced(&mesh, path).await?;
            assert_eq!(of_user(&answer), Some(route), "{path}");
        }
        done("merged");

        let with_retries = a_virtual_service(&mesh, Some(2)).await?;
        wait_condition(&mesh, NAME, "BounceDisabled", "UserRetries").await?;
        spillway.apply(&mesh, &replaced).await?;
        wait_condition(&mesh, NAME, "BounceDisabled", "AsWritten").await?;
        mesh.wait_in_force().await?;
        bounced(&mesh, "/").await?;
        done("retries");

        a_rule_of_callers_is_told_about(&mesh).await?;
        done("a rule of callers");
        ambient_is_refused(&mesh).await?;
        done("ambient");
        rights::are_those_of_the_charts(&mesh).await?;
        done("rights");

        policy::delete(&mesh, NAME).await?;
        done("deleted");
        assert_eq!(get(&mesh, "VirtualService").await?, with_retries);
        assert_eq!(as_text(&rule.get("worker").await?)?, before);
        for cluster in mesh.members() {
            assert_eq!(
                ours(&mesh, cluster).await?,
                Vec::<String>::new(),
                "{cluster}"
            );
        }
        no_proxy_has_anything(&mesh).await?;
        done("nothing is left");
        a_cluster_that_is_not_named_gets_nothing(&mut mesh, &spillway, &both).await?;
        done("a third cluster");
        let answer = mesh.call("shop", "/special/offer").await?;
        assert_eq!(
            (answer.status.as_u16(), of_user(&answer)),
            (200, Some("special"))
        );
        Ok(())
    })
}

/// Locality failover for a host that is resolved by DNS ends istiod (istio#61857).
async fn a_service_by_dns_is_refused(mesh: &Mesh, policy: &Value) -> Result<()> {
    let host = &mesh.service().host;
    let address = |address, locality| json!({"address": address, "locality": locality});
    let entry = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": NAME, "namespace": "default"},
        "spec": {
            "hosts": [host],
            "resolution": "DNS",
            "location": "MESH_INTERNAL",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "endpoints": [address("a.example.com", "a/1"), address("b.example.com", "b/1")],
        },
    });
    let primary = mesh.cluster("primary")?;
    let istiod = mesh.istiod("primary")?.pid();
    primary.apply(&entry.to_string()).await?;
    let hub = mesh.cluster(HUB)?;
    hub.apply(&policy.to_string()).await?;
    let message = wait_condition(mesh, NAME, "Accepted", "ServiceNotFit").await?;
    ensure!(message.contains("crashes istiod"), "{message}");
    ensure!(ours(mesh, "primary").await?.is_empty(), "it was refused");
    api(mesh, "primary", "ServiceEntry")?
        .delete(NAME, &DeleteParams::default())
        .await?;
    wait_condition(mesh, NAME, "Accepted", "Accepted").await?;
    assert_eq!(mesh.istiod("primary")?.pid(), istiod, "istiod has crashed");
    Ok(())
}

/// It has endpoints, and home and its rung are asked for more than they can serve.
async fn a_cluster_that_is_not_named_gets_nothing(
    mesh: &mut Mesh,
    spillway: &Spillway,
    both: &Value,
) -> Result<()> {
    let burst = json!([{"cluster": "burst", "total": {"rate": "20/s"}}]);
    let limits = json!({"capacity": {"overrides": burst}, "routing": "Merge"});
    let policy = with(spillway::policy(mesh, "primary", &["burst"], "50/s"), both);
    spillway.apply(mesh, &with(policy, &limits)).await?;
    mesh.add_endpoint("third").await?;
    let message = wait_condition(mesh, NAME, "BounceDisabled", "OtherClusters").await?;
    ensure!(message.contains("third"), "{message}");
    mesh.wait_in_force().await?;
    mesh.forget();
    let load = Load::new(3).step(150.0, Duration::from_secs(4));
    let outcome = mesh.start_load("shop", load).await?.finish().await?;
    let failures: Vec<_> = outcome.failures().take(5).collect();
    assert!(failures.is_empty(), "{failures:?}");
    let counts = ["primary", "burst", "third"].map(|cluster| mesh.count(cluster));
    println!("primary, burst and third served {counts:?}");
    assert!(counts[1] > 20 && counts[2] == 0, "{counts:?}");
    Ok(())
}

/// The answer to a caller that has not heard that home is full, once the routes are there too.
async fn bounced(mesh: &Mesh, path: &str) -> Result<Answer> {
    fill(mesh, "desk").await?;
    let routed = async || {
        let answer = mesh.call("shop", path).await?;
        Ok(answer.served_by() == Some("burst"))
    };
    wait::until(&format!("{path} is bounced into burst"), routed).await?;
    mesh.forget();
    let answer = mesh.call("shop", path).await?;
    let found = (answer.status.as_u16(), answer.served_by());
    assert_eq!(found, (200, Some("burst")), "{path}");
    let burst = mesh.endpoints("burst").flat_map(|it| it.app.served());
    let served = burst.last().context("burst served it")?;
    assert_eq!(
        served.header("x-envoy-attempt-count"),
        Some(BOUNCED),
        "{path}"
    );
    Ok(answer)
}

/// What `istioctl proxy-config` shows of a caller's sidecar, by docs/istio.md.
async fn the_routes_are_as_documented(mesh: &Mesh) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/istio.md");
    let page = std::fs::read_to_string(page)?;
    let file = mesh.folder().join("config_dump.json");
    std::fs::write(&file, mesh.caller("shop")?.admin("/config_dump").await?)?;
    let file = format!("--file={}", file.display());
    let host = format!("--fqdn={}", mesh.service().host);
    for arguments in [
        ["proxy-config", "routes", &file, "--name=80"],
        ["proxy-config", "clusters", &file, &host],
    ] {
        let said = istioctl::run(mesh.folder(), &arguments)?;
        ensure!(said.is_success, "{said:?}");
        for line in said.out.lines().map(str::trim_end) {
            ensure!(
                page.contains(line),
                "docs/istio.md does not show:\n{}",
                said.out
            );
        }
    }
    Ok(())
}

/// A rule of callers' own hides ours from them, and nothing of ours may lead them astray.
async fn a_rule_of_callers_is_told_about(mesh: &Mesh) -> Result<()> {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "own", "namespace": "office"},
        "spec": {
            "host": mesh.service().host,
            "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}},
        },
    });
    mesh.cluster("primary")?.apply(&rule.to_string()).await?;
    wait_condition(mesh, NAME, "ClientsNotCovered", "DestinationRuleHides").await?;
    let desk = mesh.caller("desk")?;
    wait::until("desk has no filter", async || {
        Ok(desk.generation().await?.is_none())
    })
    .await?;
    for _ in 0..20 {
        assert_eq!(mesh.call("desk", "/").await?.status.as_u16(), 200);
    }
    let office = in_namespace(mesh, "primary", "DestinationRule", "office")?;
    office.delete("own", &DeleteParams::default()).await?;
    wait_condition(mesh, NAME, "ClientsNotCovered", "Covered").await?;
    desk.wait_filter(0).await
}

/// There is no sidecar in an ambient namespace, whoever calls.
async fn ambient_is_refused(mesh: &Mesh) -> Result<()> {
    const AMBIENT: [&str; 2] = ["istio-injection-", "istio.io/dataplane-mode=ambient"];
    const SIDECARS: [&str; 2] = ["istio-injection=enabled", "istio.io/dataplane-mode-"];
    let primary = mesh.cluster("primary")?;
    let label = async |namespace: &str, labels: [&str; 2]| {
        let arguments = [&["label", "namespace", namespace][..], &labels].concat();
        primary.kubectl(User::admin(), &arguments).await
    };
    label("office", AMBIENT).await?;
    wait_condition(mesh, NAME, "ClientsNotCovered", "Ambient").await?;
    label("office", SIDECARS).await?;
    wait_condition(mesh, NAME, "ClientsNotCovered", "Covered").await?;
    label("default", AMBIENT).await?;
    let message = wait_condition(mesh, NAME, "Accepted", "ServiceNotFit").await?;
    ensure!(message.contains("ambient"), "{message}");
    assert_eq!(mesh.call("shop", "/").await?.status.as_u16(), 200);
    label("default", SIDECARS).await?;
    wait_condition(mesh, NAME, "Accepted", "Accepted")
        .await
        .map(drop)
}

/// Once the policy is gone, neither plugins nor routes nor subsets are left anywhere.
async fn no_proxy_has_anything(mesh: &Mesh) -> Result<()> {
    for pod in mesh.pods() {
        let clean = async || {
            let dump = pod.admin("/config_dump").await?;
            let ours = [
                "x-spillway",
                "spillway-home",
                "spillway-client",
                "spillway-server",
            ];
            Ok(!ours.iter().any(|name| dump.contains(name)))
        };
        wait::until(&format!("{} has nothing of it", pod.name()), clean).await?;
    }
    Ok(())
}

fn of_user(answer: &Answer) -> Option<&str> {
    answer.header("x-user")
}
