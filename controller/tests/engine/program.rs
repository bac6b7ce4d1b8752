//! The program as it ships: what it does without the filter's image, what it says of itself, and
//! how it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use spillway_clusters::registry::{IMAGE, LAYER, Registry, digest, manifest};
use spillway_clusters::{FaultProxy, Method, User};
use spillway_controller::observe::kinds::Kind;
use spillway_e2e::address::Block;
use spillway_e2e::process::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, eventually, policies, spec, versions};

const RULE: &str = "DestinationRule/spillway-worker";
const ROUTES: &str = "VirtualService/spillway-worker";
const CLIENT: &str = "WasmPlugin/spillway-client";

/// The controller, started with an administrator's rights on the hub.
struct Program {
    process: Process,
    address: String,
    _block: Block,
}

impl Program {
    fn start(world: &World, registry: &str, image: &str) -> Result<Self> {
        let mut block = Block::take()?;
        let (address, admin) = (block.next_address()?, block.next_address()?);
        let folder = world.clusters().folder();
        let kubeconfig = folder.join("hub.kubeconfig");
        std::fs::write(&kubeconfig, world.hub().kubeconfig(User::admin())?)?;
        let arguments = [
            format!("--image={image}"),
            format!("--insecure-registries={registry}"),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--listen={address}:8080"),
            format!("--admin={admin}:8081"),
            "--push-interval=200ms".to_owned(),
            "--call-timeout=5s".to_owned(),
            "--log-format=text".to_owned(),
        ];
        let program = env!("CARGO_BIN_EXE_spillway-controller");
        let log = folder.join("controller.log");
        Ok(Self {
            process: Process::start(program.as_ref(), &arguments, &log)?,
            address: format!("{address}:8080"),
            _block: block,
        })
    }

    async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        let body = answer.split_once("\r\n\r\n").context("no body")?.1;
        Ok((status, body.to_owned()))
    }

    /// Whether a probe succeeds; not before it listens.
    async fn is(&self, path: &str) -> Result<bool> {
        Ok(self.ask(path).await.is_ok_and(|(status, _)| status == 200))
    }

    /// The sum of all series that begin so; nothing where there is none.
    async fn sum(&self, series: &str) -> Result<f64> {
        let (_, text) = self.ask("/metrics").await?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("spillway_controller_{series}")));
        let values = lines.map(|line| {
            let value = line.rsplit(' ').next().context("no value")?;
            Ok(value.parse::<f64>()?)
        });
        values.sum()
    }

    /// Waits until a series has a value, also before it listens.
    async fn has(&self, series: &str, value: f64) -> Result<()> {
        let is_it = |sum: f64| (sum - value).abs() < 0.5;
        let has = async || Ok(self.sum(series).await.is_ok_and(is_it));
        eventually(&format!("{series} is {value}"), has).await
    }

    fn signal(&self) -> Result<()> {
        let pid = Pid::from_raw(self.process.id().cast_signed()).context("no process")?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits for its end.
    async fn exited(&mut self) -> Result<i32> {
        let began = Instant::now();
        loop {
            if let Some(code) = self.process.exit_code() {
                return Ok(code);
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "it goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Status and reason of `Programmed`, and its message.
async fn programmed(hub: Client) -> Result<(String, String)> {
    let policy = policies(hub).get("worker").await?;
    let conditions = policy.status.unwrap_or_default().conditions;
    let found = conditions.iter().find(|it| it.type_ == "Programmed");
    Ok(found.map_or_else(Default::default, |condition| {
        let state = format!("{} {}", condition.status, condition.reason);
        (state, condition.message.clone())
    }))
}

async fn is_programmed(world: &World, state: &str) -> Result<()> {
    let is = async || Ok(programmed(world.client("hub")).await?.0 == state);
    eventually(state, is).await
}

/// How often each kind was written: every write counts an object's generation up.
fn written(ours: &BTreeMap<String, DynamicObject>, kind: &str) -> Result<f64> {
    let of_kind = ours.iter().filter(|(name, _)| name.starts_with(kind));
    let counts = of_kind.map(|(_, object)| {
        let annotation = object.annotations().get("spillway.dev/generation");
        Ok(annotation.context("no generation")?.parse::<f64>()?)
    });
    counts.sum()
}

fn has_rate(ours: &BTreeMap<String, DynamicObject>, rate: u32) -> bool {
    let rate = rate.to_string();
    ours.get(CLIENT)
        .is_some_and(|it| spec(it).to_string().contains(&rate))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_does_and_ends_in_order() -> Result<()> {
    let world = World::start(&["a", "b"]).await?;
    let proxy = world.cluster("b").fault_proxy().await?;
    let registry = Registry::start().await?;
    let content = manifest(LAYER, b"layer");
    let digest = digest(&serde_json::to_vec(&content)?);
    let image = format!("oci://{}/spillway/filter@{digest}", registry.address());
    world.attach("a").await?;
    world.attach_behind("b", &proxy).await?;
    world.policy("a", "b", "50/s").await?;

    let address = registry.address().to_owned();
    let mut program = Program::start(&world, &address, &image)?;
    without_its_image(&world, &program).await?;
    let blobs: [&[u8]; 2] = [b"{}", b"layer"];
    ensure!(registry.push(IMAGE, &content, &blobs).await? == image);
    is_programmed(&world, "True Programmed").await?;
    // The image runs: nobody needs its registry any more.
    drop(registry);
    world.policy("a", "b", "7771/s").await?;
    for cluster in ["a", "b"] {
        world.until(cluster, |ours| has_rate(ours, 7771)).await?;
    }
    is_programmed(&world, "True Programmed").await?;
    its_numbers(&world, &program, &proxy).await?;
    its_end(&world, &mut program, &proxy).await?;

    // Once more, without a registry: what is as it should be is not written, and two signals end
    // it at once.
    let before = world.ours("a").await?;
    let mut program = Program::start(&world, &address, &image)?;
    program.has("clusters{state=\"Ready\"}", 2.0).await?;
    is_programmed(&world, "True Programmed").await?;
    ensure!(versions(&world.ours("a").await?) == versions(&before));
    proxy.hang();
    world.policy("a", "b", "7774/s").await?;
    world.until("a", |ours| has_rate(ours, 7774)).await?;
    program.signal()?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(program.process.is_running(), "it has not waited");
    program.signal()?;
    let began = Instant::now();
    ensure!(program.exited().await? == 1);
    ensure!(began.elapsed() < Duration::from_secs(2), "{began:?}");
    Ok(())
}

/// All is there but what would have proxies fetch the image, and it is said why.
async fn without_its_image(world: &World, program: &Program) -> Result<()> {
    is_programmed(world, "False ImageNotFound").await?;
    let (_, message) = programmed(world.client("hub")).await?;
    ensure!(
        message.starts_with("2 of 2 clusters wait: oci://")
            && message.contains("is not in its registry: push it"),
        "{message}"
    );
    for cluster in ["a", "b"] {
        let there = |ours: &BTreeMap<_, _>| ours.contains_key(RULE) && ours.contains_key(ROUTES);
        let ours = world.until(cluster, there).await?;
        ensure!(ours.len() == 2, "{:?}", ours.keys());
    }
    ensure!(program.is("/readyz").await?);
    ensure!(
        program
            .sum("image_checks_total{result=\"Unavailable\"}")
            .await?
            >= 1.0
    );
    program.has("policies{state=\"Failed\"}", 1.0).await?;
    ensure!(program.sum("applies_total{kind=\"WasmPlugin\"").await? < 0.5);
    let events: Api<Event> = Api::namespaced(world.client("hub"), "shop");
    eventually("an event", async || {
        let events = events.list(&ListParams::default()).await?;
        let mut reasons = events.iter().map(|event| event.reason.as_deref());
        Ok(reasons.any(|reason| reason == Some("ImageNotFound")))
    })
    .await
}

/// What was counted is what happened.
async fn its_numbers(world: &World, program: &Program, proxy: &FaultProxy) -> Result<()> {
    program.has("clusters{state=\"Ready\"}", 2.0).await?;
    program.has("policies{state=\"Programmed\"}", 1.0).await?;
    ensure!(program.sum("leader").await? > 0.5);
    // The image came, and the rate changed: each once in each cluster.
    program.has("propagation_seconds_count", 4.0).await?;

    // Only one object is edited by hand.
    let rules: Api<DynamicObject> =
        Api::namespaced_with(world.client("a"), "shop", &Kind::DestinationRule.resource());
    let theirs = Patch::Merge(json!({"spec": {"host": "elsewhere"}}));
    let name = "spillway-worker";
    rules.patch(name, &PatchParams::default(), &theirs).await?;
    let repaired = "repairs_total{kind=\"DestinationRule\"}";
    program.has(repaired, 1.0).await?;
    ensure!((program.sum("repairs_total").await? - 1.0).abs() < 0.5);
    program.has("propagation_seconds_count", 4.0).await?;
    let (a, b) = (world.ours("a").await?, world.ours("b").await?);
    for kind in ["DestinationRule", "VirtualService", "WasmPlugin"] {
        let expected = written(&a, kind)? + written(&b, kind)?;
        let found = program
            .sum(&format!(
                "applies_total{{kind=\"{kind}\",result=\"Written\"}}"
            ))
            .await?;
        ensure!(
            (expected - found).abs() < 0.5,
            "{kind}: {found} of {expected}"
        );
    }
    let failed = program.sum("applies_total").await? - written(&a, "")? - written(&b, "")?;
    ensure!(failed.abs() < 0.5, "{failed} writes besides");
    // What it counts of b is what b was asked.
    let asked = proxy
        .seen()
        .iter()
        .filter(|it| it.method == Method::PATCH)
        .count();
    let patched = "cluster_calls_total{peer=\"Member\",verb=\"Patch\"";
    ensure!(asked > 0 && program.sum(patched).await? > 0.5 + f64::from(u32::try_from(asked)?));

    // At rest nobody is asked anything.
    let calls = "cluster_calls_total{peer=\"Member\"";
    let statuses = "status_writes_total";
    let count = async || Ok((program.sum(calls).await?, program.sum(statuses).await?));
    eventually("it is at rest", async || {
        let before: (f64, f64) = count().await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after: Result<_> = count().await;
        Ok(before == after?)
    })
    .await?;

    // A cluster that is away, and no reason for a restart.
    proxy.refuse().await;
    program.has("clusters{state=\"Unreachable\"}", 1.0).await?;
    program.has("clusters{state=\"Ready\"}", 1.0).await?;
    program.has("policies{state=\"Failed\"}", 1.0).await?;
    ensure!(program.is("/healthz").await? && program.is("/readyz").await?);
    proxy.accept().await?;
    program.has("clusters{state=\"Ready\"}", 2.0).await?;
    program.has("policies{state=\"Programmed\"}", 1.0).await
}

/// What is being written when the signal comes is written to its end.
async fn its_end(world: &World, program: &mut Program, proxy: &FaultProxy) -> Result<()> {
    // The claim was looked at just now, so that the next call is a write.
    world.policy("a", "b", "7772/s").await?;
    world.until("b", |ours| has_rate(ours, 7772)).await?;
    is_programmed(world, "True Programmed").await?;
    let before = world.ours("b").await?;
    proxy.hang();
    world.policy("a", "b", "7773/s").await?;
    world.until("a", |ours| has_rate(ours, 7773)).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    program.signal()?;
    eventually("it is ending", async || {
        Ok(program.ask("/readyz").await? == (503, "it is ending\n".to_owned()))
    })
    .await?;
    ensure!(program.is("/healthz").await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(program.process.is_running(), "it has not waited");
    proxy.resume();
    ensure!(program.exited().await? == 0);
    ensure!(versions(&world.ours("b").await?) != versions(&before));
    let leases: Api<Lease> = Api::namespaced(world.client("hub"), "spillway-system");
    let lease = leases.get("spillway-controller").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    ensure!(holder.is_none(), "{holder:?}");
    Ok(())
}
