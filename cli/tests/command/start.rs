//! `docs/getting-started.md`: every block of its shell is run, in its order, as it stands.
//!
//! The clusters are real API servers with Istio's kinds. No pods run there: the controller that the
//! page installs is run by this process, with what the page told it and the rights that it gave. The
//! flight goes through real sidecars, which run from what that controller wrote into the clusters.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::Result;
use serde_json::Value;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, Clusters, Server, User, definition, programs};
use spillway_controller::observe::kinds::Kind;
use spillway_e2e::mesh::Mesh;
use spillway_e2e::rendered::Rendered;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use crate::clusters::{NAMESPACES, SERVICE, control, join};
use crate::flight::masked;
use crate::install::start_pods;
use crate::mesh::{self, CALLER};
use crate::run::{folder, said};

const REGISTRY: &str = "registry.example.com";

/// An endpoint of the service, in every cluster: the controller shares the capacity out by them.
const ENDPOINT: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: worker-service-1, namespace: default, labels: {kubernetes.io/service-name: worker-service}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.1], conditions: {ready: true}}]
";

/// The blocks of the page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = page.split(&fence).skip(1);
    let blocks = parts.map(|part| part.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_be_followed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/getting-started.md")).unwrap();
    let reader = Reader::start().await;
    let (mut controller, mut report) = (None, None);
    for block in blocks(&page, "sh") {
        if block.contains("spillway test-flight") {
            report = Some(reader.fly(&block).await.unwrap());
            continue;
        }
        reader.run(&block, None).await;
        // What a kubelet does.
        if block.contains("spillway install ") {
            controller = Some(reader.control().await);
        }
    }
    assert!(controller.is_some());
    // What stands on the page is the report of such a flight.
    let (report, shown) = (report.unwrap(), blocks(&page, "text").remove(0));
    assert_eq!(report.lines().next(), shown.lines().next(), "{report}");
    assert_eq!(masked(&report), masked(&shown), "{report}");
    for cluster in reader.clusters.iter() {
        let all =
            "wasmplugins,virtualservices,destinationrules,crds,deployments,clusterroles,secrets";
        let words = ["get", all, "--all-namespaces", "--output=name"];
        let all = cluster.kubectl(User::admin(), &words).await.unwrap();
        let left = all.lines().find(|name| name.contains("spillway"));
        assert_eq!(left, None, "in {}", cluster.name());
    }
}

/// Somebody who follows the page, and what they have.
struct Reader {
    clusters: Clusters,
    registry: Registry,
    folder: TempDir,
    _controllers: Vec<Server>,
}

impl Reader {
    async fn start() -> Self {
        let clusters = Clusters::start(&mesh::CLUSTERS).await.unwrap();
        let mut controllers = Vec::new();
        for cluster in clusters.iter() {
            cluster.apply(NAMESPACES).await.unwrap();
            let service = SERVICE.replace("name: worker,", "name: worker-service,");
            cluster.apply(&service).await.unwrap();
            cluster.apply(ENDPOINT).await.unwrap();
            for kind in Kind::NAMESPACED
                .iter()
                .filter(|kind| kind.resource().group.contains("istio"))
            {
                cluster.apply(&definition(&kind.resource())).await.unwrap();
            }
            let started = cluster.start_controllers(&["serviceaccount-token-controller"]);
            controllers.push(started.await.unwrap());
        }
        let kubeconfig = |name| {
            let cluster = clusters.cluster(name).unwrap();
            cluster.kubeconfig(User::admin()).unwrap()
        };
        let folder = folder(&[
            ("kubeconfig", &join(&mesh::CLUSTERS.map(kubeconfig))),
            ("filter.wasm", "\0asm\u{1}\0\0\0"),
        ]);
        Self {
            registry: Registry::start().await.unwrap(),
            clusters,
            folder,
            _controllers: controllers,
        }
    }

    fn hub(&self) -> &Cluster {
        self.clusters.cluster("primary").unwrap()
    }

    /// Runs a block, where callers have the service at this address.
    async fn run(&self, block: &str, address: Option<SocketAddr>) -> Output {
        let script = block.replace(REGISTRY, self.registry.address());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &script]);
        shell.current_dir(self.folder.path()).env_clear();
        shell.env("PATH", search_path());
        shell.env("HOME", self.folder.path());
        shell.env("KUBECONFIG", "kubeconfig");
        shell.env("PUSH_FLAGS", "--plain-http --filter filter.wasm");
        shell.envs(address.map(|address| ("ADDRESS", address.to_string())));
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
        let output = tokio::select! {
            output = output => output.unwrap(),
            () = start_pods(self.hub()) => unreachable!("it looks for ever"),
        };
        assert!(output.status.success(), "{block}{}", said(&output));
        output
    }

    /// Flies, and gives the report with the name that the service has in a pod.
    async fn fly(&self, block: &str) -> Result<String> {
        let mesh = self.mesh().await?;
        let address = mesh.target(CALLER)?.address;
        let output = self.run(block, Some(address)).await;
        let report = String::from_utf8(output.stdout)?;
        let spilled = format!("\n{} spilled (", mesh.count("burst"));
        assert!(report.contains(&spilled), "not {spilled}: {report}");
        Ok(report.replace(&address.to_string(), "worker-service.default"))
    }

    /// Starts the controller that was installed.
    async fn control(&self) -> AbortOnDropHandle<Result<()>> {
        let hub = self.hub();
        let image = image(hub).await;
        let account = hub.service_account("spillway-system", "spillway-controller");
        let kubeconfig = hub.kubeconfig(account.await.unwrap()).unwrap();
        let path = self.folder.path().join("controller");
        fs::write(&path, kubeconfig).unwrap();
        control(&path, &image, self.registry.address())
    }

    /// Sidecars that run from what is in the clusters.
    async fn mesh(&self) -> Result<Mesh> {
        let folder = tempfile::tempdir()?;
        for cluster in self.clusters.iter() {
            let kinds = "wasmplugins,virtualservices,destinationrules";
            let words = ["get", kinds, "--namespace=default", "--output=json"];
            let found: Value =
                serde_json::from_str(&cluster.kubectl(User::admin(), &words).await?)?;
            let place = folder.path().join(cluster.name()).join("default");
            fs::create_dir_all(&place)?;
            for (number, object) in found["items"].as_array().unwrap().iter().enumerate() {
                fs::write(place.join(format!("{number}.yaml")), object.to_string())?;
            }
        }
        let mut mesh = mesh::mesh().await?;
        mesh.follow(&Rendered::read(folder.path())?, "primary")
            .await?;
        Ok(mesh)
    }
}

/// The filter's image that the installed Deployment names.
async fn image(hub: &Cluster) -> String {
    let words = [
        "get",
        "deployment",
        "--namespace=spillway-system",
        "--output=json",
    ];
    let found: Value =
        serde_json::from_str(&hub.kubectl(User::admin(), &words).await.unwrap()).unwrap();
    let arguments = found["items"][0]["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let mut arguments = arguments
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str);
    let image = arguments.find_map(|it| it.strip_prefix("--image=").map(str::to_owned));
    image.unwrap()
}

/// The folders of the programs that the page uses, before the path of the tests.
fn search_path() -> String {
    let programs: [PathBuf; 3] = [
        env!("CARGO_BIN_EXE_spillway").into(),
        programs::kubernetes("kubectl").unwrap(),
        programs::helm().unwrap(),
    ];
    let folders = programs
        .iter()
        .map(|it| it.parent().unwrap().display().to_string());
    let own = std::env::var("PATH").unwrap_or_default();
    folders.chain([own]).collect::<Vec<_>>().join(":")
}
