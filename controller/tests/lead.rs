//! Leader election on a real API server, by processes that are killed, paused and ended.
//!
//! A candidate is this test program itself, started once more: it takes part in the election and
//! writes its name into a ConfigMap as fast as it can, as long as it may.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use spillway_clusters::{Cluster, Clusters, User};
use spillway_controller::lead::{Lease, Terms, identity, stand};
use spillway_controller::serve::{Health, Pulse};
use spillway_e2e::process::Process;

/// Shorter than in earnest, so that the tests are.
fn terms(name: &str) -> Terms {
    Terms {
        duration: Duration::from_secs(4),
        renew_within: Duration::from_secs(2),
        retry: Duration::from_millis(300),
        ..Terms::new("default", "test", &identity(name))
    }
}

fn pulse() -> Pulse {
    Health::default().pulse("the election", SOON, Instant::now())
}

/// The other program: see above. Its arguments stand in a file, since the test harness has its own.
#[test]
#[ignore = "a part of the other tests, which start it"]
fn candidate() -> Result<()> {
    let folder = std::env::args().find_map(|arg| arg.strip_prefix("folder=").map(PathBuf::from));
    let folder = folder.context("no folder")?;
    let name = folder
        .file_name()
        .context("no name")?
        .to_string_lossy()
        .into_owned();
    let terms = if folder.join("in-earnest").exists() {
        Terms::new("default", "test", &identity(&name))
    } else {
        terms(&name)
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let client = client(&folder.join("kubeconfig")).await?;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let (mut candidate, election) = stand(client, terms);
        let stop = async {
            while !folder.join("stop").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let write = async {
            while let Some(lease) = candidate.elected().await {
                let (beating, file) = (lease.clone(), folder.join("beats"));
                std::thread::spawn(move || beat(&beating, &file));
                let mut count = 0_u64;
                while lease.still_leads(Instant::now()) {
                    count += 1;
                    let data = json!({"data": {"writer": name, "count": count.to_string()}});
                    // What fails is tried again: it is the election that is tested.
                    let _ = maps
                        .patch("log", &PatchParams::default(), &Patch::Merge(&data))
                        .await;
                }
            }
        };
        tokio::select! {
            () = election.run(pulse(), stop) => {}
            () = write => {}
        }
        Ok(())
    })
}

/// Notes each millisecond in which a write would be sent. It depends on no runtime, so that it
/// goes on at once where a process wakes up.
fn beat(lease: &Lease, file: &Path) -> Result<()> {
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(file)?;
    while lease.until().is_some() {
        if lease.still_leads(Instant::now()) {
            file.write_all(b".")?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A candidate that runs.
struct Replica {
    name: &'static str,
    folder: PathBuf,
    process: Process,
}

impl Replica {
    fn start(
        hub: &Cluster,
        clusters: &Clusters,
        name: &'static str,
        in_earnest: bool,
    ) -> Result<Self> {
        let folder = clusters.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("kubeconfig"), hub.kubeconfig(User::admin())?)?;
        if in_earnest {
            std::fs::write(folder.join("in-earnest"), "")?;
        }
        let arguments = [
            "--exact".to_owned(),
            "candidate".to_owned(),
            "--ignored".to_owned(),
            "--nocapture".to_owned(),
            // The harness takes it for one more name of a test.
            format!("folder={}", folder.display()),
        ];
        let log = folder.join("log");
        let process = Process::start(&std::env::current_exe()?, &arguments, &log)?;
        Ok(Self {
            name,
            folder,
            process,
        })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.process.id().cast_signed()).context("no process")?;
        Ok(kill_process(pid, signal)?)
    }
}

struct Hub {
    clusters: Clusters,
    maps: Api<ConfigMap>,
    leases: Api<LeaseObject>,
}

impl Hub {
    async fn start() -> Result<Self> {
        let clusters = Clusters::start(&["hub"]).await?;
        let hub = clusters.cluster("hub")?;
        hub.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: log}}")
            .await?;
        let client = hub.client(User::admin())?;
        Ok(Self {
            maps: Api::default_namespaced(client.clone()),
            leases: Api::default_namespaced(client),
            clusters,
        })
    }

    fn replica(&self, name: &'static str, in_earnest: bool) -> Result<Replica> {
        Replica::start(
            self.clusters.cluster("hub")?,
            &self.clusters,
            name,
            in_earnest,
        )
    }

    /// Who wrote last.
    async fn writer(&self) -> Result<Option<String>> {
        let data = self.maps.get("log").await?.data;
        Ok(data.and_then(|mut data| data.remove("writer")))
    }

    /// Waits until a replica writes, and tells how long it took.
    async fn written_by(&self, replica: &Replica, within: Duration) -> Result<Duration> {
        let began = Instant::now();
        while self.writer().await?.as_deref() != Some(replica.name) {
            let log = std::fs::read_to_string(replica.folder.join("log")).unwrap_or_default();
            ensure!(
                began.elapsed() < within,
                "{} does not lead: {log}",
                replica.name
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }

    async fn version(&self) -> Result<Option<String>> {
        Ok(self.maps.get("log").await?.metadata.resource_version)
    }
}

/// For the first election on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_within_20_seconds() -> Result<()> {
    let hub = Hub::start().await?;
    let first = hub.replica("first", true)?;
    hub.written_by(&first, SOON).await?;
    let second = hub.replica("second", true)?;
    // It has seen the Lease, and waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(hub.writer().await?.as_deref(), Some("first"));
    drop(first);
    let took = hub.written_by(&second, Duration::from_secs(20)).await?;
    println!("the second replica wrote {took:?} after the first was killed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_that_wakes_up_writes_nothing() -> Result<()> {
    let hub = Hub::start().await?;
    let first = hub.replica("first", false)?;
    hub.written_by(&first, SOON).await?;
    let second = hub.replica("second", false)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.signal(Signal::STOP)?;
    hub.written_by(&second, SOON).await?;
    // The one stands still, so nothing but the first could write now.
    second.signal(Signal::STOP)?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = hub.version().await?;
    let beats = || std::fs::metadata(first.folder.join("beats")).map(|file| file.len());
    let beaten = beats()?;
    assert!(beaten > 0);
    first.signal(Signal::CONT)?;
    // Less than the duration of the Lease, which the first may take when that is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(beats()?, beaten);
    let writer = hub.writer().await?;
    assert_eq!(
        (writer.as_deref(), hub.version().await?),
        (Some("second"), before)
    );
    // It takes part in the election again.
    hub.written_by(&first, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_hands_over_at_once() -> Result<()> {
    let hub = Hub::start().await?;
    let mut first = hub.replica("first", true)?;
    hub.written_by(&first, SOON).await?;
    let second = hub.replica("second", true)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    std::fs::write(first.folder.join("stop"), "")?;
    let took = hub.written_by(&second, Duration::from_secs(10)).await?;
    println!("the second replica wrote {took:?} after the first was asked to end");
    assert!(!first.process.is_running());
    let spec = hub.leases.get("test").await?.spec.context("no spec")?;
    assert_eq!(spec.lease_transitions, Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_taken_away_is_lost_at_once() -> Result<()> {
    let hub = Hub::start().await?;
    let client = hub.clusters.cluster("hub")?.client(User::admin())?;
    let (mut candidate, election) = stand(client, terms("only"));
    let election = tokio::spawn(election.run(pulse(), std::future::pending()));
    let mut lease = candidate.elected().await.context("never elected")?;
    assert!(lease.still_leads(Instant::now()) && candidate.leads(Instant::now()));

    let theirs = json!({"spec": {"holderIdentity": "another"}});
    hub.leases
        .patch("test", &PatchParams::default(), &Patch::Merge(&theirs))
        .await?;
    tokio::time::timeout(Duration::from_secs(2), lease.lost()).await?;
    assert!(!lease.still_leads(Instant::now()));

    // Deleted by hand it is free. The old term stays over.
    hub.leases.delete("test", &DeleteParams::default()).await?;
    let again = tokio::time::timeout(SOON, candidate.elected())
        .await?
        .context("never again")?;
    assert!(again.still_leads(Instant::now()) && !lease.still_leads(Instant::now()));
    election.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_api_server_stops_in_time() -> Result<()> {
    let hub = Hub::start().await?;
    let cluster = hub.clusters.cluster("hub")?;
    let (mut candidate, election) = stand(cluster.client(User::admin())?, terms("only"));
    let election = tokio::spawn(election.run(pulse(), std::future::pending()));
    let mut lease = candidate.elected().await.context("never elected")?;
    cluster.api_server().pause().await?;
    let paused = Instant::now();
    lease.lost().await;
    assert!(paused.elapsed() < terms("only").renew_within + Duration::from_secs(1));
    cluster.api_server().resume()?;
    let again = tokio::time::timeout(SOON, candidate.elected())
        .await?
        .context("never again")?;
    assert!(again.still_leads(Instant::now()) && !lease.still_leads(Instant::now()));
    election.abort();
    Ok(())
}
