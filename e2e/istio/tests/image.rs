//! The filter's image cannot always be had: its registry is away, hangs or lacks it, and agents
//! throw away what they keep. Requests go on, filters that run are not lost, and who started
//! without the filter has it soon after the registry is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use spillway_e2e::artefacts;
use spillway_e2e::client::Call;
use spillway_e2e::load::Load;
use spillway_image::{Image, Provenance};
use spillway_istio::mesh::{HUB, Mesh};
use spillway_istio::pod::Pod;
use spillway_istio::policy::wait_condition;
use spillway_istio::spillway::{Spillway, policy};
use spillway_istio::{sandbox, wait};

/// Within this time after its registry is back, all sidecars have the filter.
const BACK: Duration = Duration::from_secs(30);
/// For so long the registry hangs: Istio gives up after 30 s.
const HANGS: Duration = Duration::from_secs(35);

/// What is done, in this order; the load goes on meanwhile.
struct Scene {
    mesh: Mesh,
    spillway: Spillway,
    /// Of the capacity, so that each policy is another one.
    rate: u32,
}

#[test]
fn requests_go_on_without_the_image() -> Result<()> {
    sandbox::run("requests_go_on_without_the_image", async || {
        let mesh = Mesh::builder()
            .cluster("primary")
            .cluster("burst")
            .endpoints("primary", 1)
            .endpoints("burst", 1)
            .caller("shop", "primary")
            .start()
            .await?;
        let spillway = Spillway::install(&mesh).await?;
        let load = Load::new(6).step(40.0, Duration::from_secs(900));
        let traffic = mesh.start_load("shop", load).await?;
        let mut scene = Scene {
            mesh,
            spillway,
            rate: 1000,
        };
        scene.it_begins_without_its_registry().await?;
        scene.configurations_change_without_it().await?;
        scene.a_pod_that_starts_without_it().await?;
        scene.another_image_that_is_not_there_yet().await?;
        scene.a_registry_that_hangs().await?;
        scene.an_agent_that_keeps_nothing().await?;

        traffic.stop();
        let outcome = traffic.finish().await?;
        let failures: Vec<_> = outcome.failures().take(5).collect();
        ensure!(failures.is_empty(), "{failures:?}");
        println!("{} requests, none failed", outcome.replies.len());
        Ok(())
    })
}

impl Scene {
    /// The controller starts while the registry is away: there are routes, and no filter.
    async fn it_begins_without_its_registry(&mut self) -> Result<()> {
        self.spillway.kill();
        self.spillway.registry().kill();
        self.spillway.start()?;
        let policy = self.next_policy();
        self.mesh.cluster(HUB)?.apply(&policy.to_string()).await?;
        let says = self.waits("RegistryUnreachable").await?;
        ensure!(says.contains("cannot be asked for oci://"), "{says}");
        forged_headers_do_nothing(&self.mesh, "shop").await?;
        for pod in self.mesh.pods() {
            let filters = pod.filters().await?;
            ensure!(filters.is_empty(), "{}: {filters:?}", pod.name());
        }
        let back = self.registry_back().await?;
        for cluster in self.mesh.members() {
            self.mesh.wait_filters(cluster, &[]).await?;
        }
        told("all sidecars have their first filter", back)
    }

    /// What agents keep is enough.
    async fn configurations_change_without_it(&mut self) -> Result<()> {
        self.registry_away().await?;
        self.change().await?;
        self.all_run(None).await
    }

    /// A pod that starts now is without the filter, and safe. Nobody touches it afterwards.
    async fn a_pod_that_starts_without_it(&mut self) -> Result<()> {
        self.mesh.start_caller("late", "primary", &[]).await?;
        let late = self.mesh.caller("late")?;
        wait::until("the agent has given up", async || is_without(late).await).await?;
        ensure!(late.log().contains("applying allow RBAC filter"));
        forged_headers_do_nothing(&self.mesh, "late").await?;
        self.all_run(Some("late")).await?;
        let back = self.registry_back().await?;
        self.mesh.caller("late")?.wait_filter(0).await?;
        told("the pod that started without it has the filter", back)?;
        self.all_run(None).await
    }

    /// An image that is not pushed yet, as one of a wrong digest: it is told, and the filters that
    /// run stay. Once it is pushed it takes over.
    async fn another_image_that_is_not_there_yet(&mut self) -> Result<()> {
        let mut module = std::fs::read(artefacts::filter()?)?;
        // A section that engines skip: one byte of name, and nothing else.
        module.extend([0, 2, 1, b'x']);
        let image = Image::filter(&module, &Provenance::default())?;
        let name = self.spillway.name(&image)?;
        self.spillway.use_image(&name)?;
        let says = self.waits("ImageNotFound").await?;
        ensure!(says.contains("push it, or name another digest"), "{says}");
        self.all_run(None).await?;
        let began = Instant::now();
        ensure!(self.spillway.push(&image).await? == name);
        let digest = image.digest().trim_start_matches("sha256:").to_owned();
        let runs_it = async || {
            for pod in self.mesh.pods() {
                let filters = pod.filters().await?;
                let mut modules = filters.iter().map(|filter| filter.module.as_ref());
                if !modules.all(|module| module.is_some_and(|it| it.contains(&digest))) {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        wait::until("all sidecars run the new image", runs_it).await?;
        println!("all sidecars run the new image after {:?}", began.elapsed());
        Ok(())
    }

    async fn a_registry_that_hangs(&mut self) -> Result<()> {
        let began = Instant::now();
        self.spillway.registry().pause()?;
        self.mesh.start_caller("slow", "primary", &[]).await?;
        println!("a pod is ready after {:?}", began.elapsed());
        tokio::time::sleep(HANGS.saturating_sub(began.elapsed())).await;
        let slow = self.mesh.caller("slow")?;
        wait::until("the agent has given up", async || is_without(slow).await).await?;
        self.all_run(Some("slow")).await?;
        self.spillway.registry().resume()?;
        let back = Instant::now();
        self.mesh.caller("slow")?.wait_filter(0).await?;
        told("the pod that gave up has the filter", back)
    }

    /// With the registry it fetches the image again. Without, it loses the filter at the next
    /// change, which is why agents should keep images.
    async fn an_agent_that_keeps_nothing(&mut self) -> Result<()> {
        let forgetful = [("WASM_MODULE_EXPIRY", "1s"), ("WASM_PURGE_INTERVAL", "1s")];
        self.mesh
            .start_caller("forgetful", "primary", &forgetful)
            .await?;
        self.mesh.caller("forgetful")?.wait_filter(0).await?;
        self.forgotten().await?;
        self.change().await?;
        self.all_run(None).await?;

        self.registry_away().await?;
        self.forgotten().await?;
        self.change_of(&["shop", "late", "slow"]).await?;
        self.all_run(Some("forgetful")).await?;
        let pod = self.mesh.caller("forgetful")?;
        wait::until("the filter is lost", async || is_without(pod).await).await?;
        forged_headers_do_nothing(&self.mesh, "forgetful").await?;
        let back = self.registry_back().await?;
        let runs = async || Ok(!is_without(self.mesh.caller("forgetful")?).await?);
        wait::until("it has the filter again", runs).await?;
        told("the agent that keeps nothing has fetched it again", back)
    }

    fn next_policy(&mut self) -> serde_json::Value {
        self.rate += 1;
        policy(
            &self.mesh,
            "primary",
            &["burst"],
            &format!("{}/s", self.rate),
        )
    }

    async fn waits(&self, reason: &str) -> Result<String> {
        wait_condition(&self.mesh, "worker", "Programmed", reason).await
    }

    /// A changed threshold comes to all sidecars of the home.
    async fn change(&mut self) -> Result<()> {
        let before = self.mesh.generations("primary").await?;
        let policy = self.next_policy();
        self.spillway.apply(&self.mesh, &policy).await?;
        self.mesh.wait_filters("primary", &before).await
    }

    /// The same, for these callers.
    async fn change_of(&mut self, callers: &[&str]) -> Result<()> {
        let before = self.mesh.caller("shop")?.generation().await?;
        let policy = self.next_policy();
        self.spillway.apply(&self.mesh, &policy).await?;
        for caller in callers {
            let caller = self.mesh.caller(caller)?;
            caller.wait_filter(before.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// No filter was lost, but for that of this pod.
    async fn all_run(&self, but: Option<&str>) -> Result<()> {
        for pod in self.mesh.pods().filter(|pod| Some(pod.name()) != but) {
            let filters = pod.filters().await?;
            let runs = !filters.is_empty() && filters.iter().all(|it| it.module.is_some());
            ensure!(runs, "{}: {filters:?}", pod.name());
        }
        Ok(())
    }

    async fn forgotten(&self) -> Result<()> {
        let pod = self.mesh.caller("forgetful")?;
        wait::until("it has thrown the image away", async || {
            Ok(pod.kept_images()? == 0)
        })
        .await
        .map(drop)
    }

    /// Until the controller has noticed it.
    async fn registry_away(&mut self) -> Result<()> {
        self.spillway.registry().kill();
        self.told_of_image(0).await
    }

    /// Returns when it was back.
    async fn registry_back(&mut self) -> Result<Instant> {
        self.spillway.registry().restart().await?;
        Ok(Instant::now())
    }

    async fn told_of_image(&self, available: u8) -> Result<()> {
        let line = format!("spillway_controller_image_available {available}");
        let told = async || Ok(self.spillway.metrics().await?.lines().any(|it| it == line));
        wait::until(&line, told).await.map(drop)
    }
}

/// Whether the agent gave Envoy nothing in the filter's place.
async fn is_without(pod: &Pod) -> Result<bool> {
    let filters = pod.filters().await?;
    Ok(!filters.is_empty() && filters.iter().any(|filter| filter.module.is_none()))
}

fn told(what: &str, since: Instant) -> Result<()> {
    let took = since.elapsed();
    println!("{what} {took:?} after the registry is back");
    ensure!(took < BACK, "{what}: {took:?}");
    Ok(())
}

async fn forged_headers_do_nothing(mesh: &Mesh, caller: &str) -> Result<()> {
    for value in ["burst;", "burst;mesh-token-9;primary;worker;1;b"] {
        for _ in 0..5 {
            let call = Call::get("/").header("x-spillway", value);
            let answer = mesh.send(caller, call).await?;
            ensure!(
                answer.status == 200 && answer.served_by() == Some("primary"),
                "{answer:?}"
            );
        }
    }
    Ok(())
}
