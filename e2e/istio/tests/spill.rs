//! The whole way, with the real parts: a policy on the hub, the controller with the charts' rights,
//! istiods, agents that pull the image, Envoys that run the filter, requests that spill.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use spillway_clusters::User;
use spillway_e2e::analysis::{max_excess, utilisation};
use spillway_e2e::canary::Canary;
use spillway_e2e::client::Call;
use spillway_e2e::load::Load;
use spillway_istio::mesh::{HUB, Mesh};
use spillway_istio::spillway::{Spillway, policy};
use spillway_istio::{programs, sandbox};

/// Of the primary.
const ENDPOINTS: u32 = 2;
/// A machine that stands still for longer loses capacity.
const STALL: Duration = Duration::from_millis(5);

#[test]
fn requests_spill_into_the_other_cluster() -> Result<()> {
    sandbox::run("requests_spill_into_the_other_cluster", async || {
        let began = std::time::Instant::now();
        let mesh = Mesh::builder()
            .cluster("primary")
            .cluster("burst")
            .endpoints("primary", ENDPOINTS as usize)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .start()
            .await?;
        println!("the mesh is ready after {:?}", began.elapsed());
        let mut spillway = Spillway::install(&mesh).await?;
        let policy = |rate| policy(&mesh, "primary", &["burst"], rate);
        spillway.apply(&mesh, &policy("200/s")).await?;
        for cluster in mesh.members() {
            mesh.wait_filters(cluster, &[]).await?;
        }
        println!("the policy is in force after {:?}", began.elapsed());

        let kubeconfig = kubeconfig(&mesh)?;
        the_command_sees_the_filters(&mesh, &kubeconfig)?;
        a_forged_header_does_nothing(&mesh).await?;
        the_limit_holds(&mesh, 200.0, 10).await?;
        the_command_sees_the_traffic(&mesh, &kubeconfig).await?;

        // Proxies go on deciding by what was written last, whoever is away.
        spillway.kill();
        for cluster in mesh.members() {
            mesh.istiod(cluster)?.kill();
        }
        the_limit_holds(&mesh, 200.0, 5).await?;
        for cluster in mesh.members() {
            mesh.istiod(cluster)?.start().await?;
        }
        let before = mesh.generations("primary").await?;
        spillway.start()?;
        spillway.apply(&mesh, &policy("100/s")).await?;
        // The capacity of a service is its home's to know.
        mesh.wait_filters("primary", &before).await?;
        the_limit_holds(&mesh, 100.0, 5).await
    })
}

/// Of a user who may do all in every cluster; its first context is the hub.
fn kubeconfig(mesh: &Mesh) -> Result<PathBuf> {
    let mut kubeconfig: Value =
        serde_json::from_str(&mesh.cluster(HUB)?.kubeconfig(User::admin())?)?;
    for name in mesh.members() {
        let other: Value = serde_json::from_str(&mesh.cluster(name)?.kubeconfig(User::admin())?)?;
        for list in ["clusters", "users", "contexts"] {
            let more = other.get(list).and_then(Value::as_array).cloned();
            let all = kubeconfig.get_mut(list).and_then(Value::as_array_mut);
            all.context("a list")?.extend(more.unwrap_or_default());
        }
    }
    let path = mesh.folder().join("admin.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string())?;
    Ok(path)
}

/// `spillway check` asks the proxies through their API servers, and finds the filter in every one
/// with the configuration that was written last.
fn the_command_sees_the_filters(mesh: &Mesh, kubeconfig: &Path) -> Result<()> {
    let output = Command::new(programs::command()?)
        .args(["check", "--kubeconfig"])
        .arg(kubeconfig)
        .env_clear()
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let namespace = &mesh.service().namespace;
    for (plugin, asked) in [
        ("client", 3),
        ("server", ENDPOINTS),
        ("client", 1),
        ("server", 1),
    ] {
        let line = format!(
            "√ proxies in {namespace} run spillway-{plugin} ({asked} of {asked} asked), generation "
        );
        assert!(
            said.contains(&line),
            "no {line}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// `spillway status` counts what the proxies decide, where there is no Prometheus, and finds none
/// of them without the filter.
async fn the_command_sees_the_traffic(mesh: &Mesh, kubeconfig: &Path) -> Result<()> {
    mesh.forget();
    let load = Load::new(10).step(600.0, Duration::from_secs(12));
    let running = mesh.start_load("shop", load).await?;
    while mesh.count("burst") < 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut command = Command::new(programs::command()?);
    command
        .args(["status", "-o", "json", "--kubeconfig"])
        .arg(kubeconfig)
        .env_clear();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let outcome = running.finish().await?;
    let of_burst = mesh.count("burst") as f64 / outcome.replies.len() as f64;
    let told: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    assert_eq!(
        told.pointer("/sources/0"),
        Some(&"sidecars".into()),
        "{told:#}"
    );
    for none in ["/sidecars", "/silent", "/cut"] {
        assert_eq!(
            told.pointer(none),
            Some(&Value::Array(Vec::new())),
            "{told:#}"
        );
    }
    let number = |path| {
        told.pointer(path)
            .and_then(Value::as_f64)
            .context("no traffic")
    };
    let rate = number("/policies/0/traffic/rate").with_context(|| format!("{told:#}"))?;
    let at_home = number("/policies/0/traffic/homeShare")?;
    println!(
        "the command tells {rate:.0} of 600/s, {at_home:.2} at home; {of_burst:.2} were served by burst"
    );
    assert!((400.0..800.0).contains(&rate), "{told:#}");
    // What is bounced was sent home first.
    assert!((at_home + of_burst - 1.0).abs() < 0.2, "{told:#}");
    let reason = told.pointer("/policies/0/traffic/reason");
    assert_eq!(reason, Some(&"over-limit".into()), "{told:#}");
    Ok(())
}

async fn a_forged_header_does_nothing(mesh: &Mesh) -> Result<()> {
    mesh.forget();
    for value in ["burst;", "burst;mesh-token-9;primary;worker;1;b"] {
        for _ in 0..10 {
            let call = Call::get("/").header("x-spillway", value);
            let answer = mesh.send("shop", call).await?;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.served_by(), Some("primary"), "{answer:?}");
        }
    }
    assert_eq!((mesh.count("primary"), mesh.count("burst")), (20, 0));
    Ok(())
}

/// Under three times the capacity, requests a second of all endpoints together.
async fn the_limit_holds(mesh: &Mesh, capacity: f64, seconds: u64) -> Result<()> {
    // M·B, with B = 3 + max(12, 0.1 s × C)/M.
    let burst = 3.0 * f64::from(ENDPOINTS) + (0.1 * capacity).max(12.0);
    // The bound is exact. A run that lost capacity since the machine stood still is repeated.
    for attempt in 0..4 {
        mesh.forget();
        let canary = Canary::start(STALL);
        let load = Load::new(11 + attempt)
            .step(0.5 * capacity, Duration::from_secs(2))
            .step(3.0 * capacity, Duration::from_secs(seconds))
            .keep_headers(&["x-spillway-prefix"]);
        let running = mesh.start_load("shop", load).await?;
        let started = running.started();
        let outcome = running.finish().await?;
        let failures: Vec<_> = outcome.failures().take(5).collect();
        assert!(failures.is_empty(), "{failures:?}");
        for reply in &outcome.replies {
            let tag = reply.headers.get("x-spillway-prefix");
            let served = reply.served_by.as_deref().context("nobody served it")?;
            let expected = format!("{served}-");
            assert_eq!(tag.map(|tag| tag.as_bytes()), Some(expected.as_bytes()));
        }
        let served = mesh.arrivals("primary");
        assert_eq!(served.len() + mesh.count("burst"), outcome.replies.len());
        let decided = outcome.decided("primary");
        let excess = max_excess(&decided, capacity).context("nothing was served")?;
        let from = started + Duration::from_secs(4);
        let to = started + Duration::from_secs(1 + seconds);
        let used = utilisation(&served, from, to, capacity);
        println!(
            "attempt {attempt}: {used:.3} of the capacity, {:.1} of {burst} above it in one window, {} of {} spilled",
            excess.requests,
            mesh.count("burst"),
            outcome.replies.len(),
        );
        assert!(excess.requests <= burst, "{excess:?}");
        if used >= 0.95 {
            return Ok(());
        }
        assert!(
            canary.stalled_between(from, to),
            "only {used:.3} of the capacity was used"
        );
    }
    anyhow::bail!("the machine stood still in every run")
}
