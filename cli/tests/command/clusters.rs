//! The subcommands that talk to clusters, on real API servers and under the real controller.
//!
//! The clusters are started once: what is told of them depends on what was done to them, so it is
//! one story.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use insta::assert_snapshot;
use k8s_openapi::ByteString;
use kube::Api;
use serde_json::{Value, json};
use spillway_api::BurstPolicy;
use spillway_cli::reference;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, Clusters, Identity, User, definition};
use spillway_controller::observe::kinds::Kind;
use spillway_controller::run;
use spillway_controller::serve::{Format, log_to};
use spillway_controller::settings::Settings;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use crate::live::{counted, differences, watched};
use crate::run::{WITH_CLUSTERS, folder, said, spillway};

pub(crate) const LOOK: Duration = Duration::from_millis(100);

pub(crate) const NAMESPACES: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: spillway-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio-injection: enabled}}}
";

pub(crate) const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: worker, namespace: default}
spec:
  selector: {app: worker}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

pub(crate) fn policy() -> Value {
    json!({
        "apiVersion": "spillway.dev/v1alpha1",
        "kind": "BurstPolicy",
        "metadata": {"name": "worker", "namespace": "default"},
        "spec": {
            "targetRefs": [{"name": "worker"}],
            "overflow": [{"cluster": "burst"}],
            "capacity": {"total": {"rate": "15/s"}},
        },
    })
}

pub(crate) struct World {
    clusters: Clusters,
    folder: TempDir,
    /// The folders of programs that the command may find.
    pub(crate) programs: Option<PathBuf>,
}

impl World {
    /// A hub without Spillway, and a cluster with Istio's kinds and a service.
    pub(crate) async fn start() -> Self {
        let clusters = Clusters::start(&["hub", "burst"]).await.unwrap();
        let folder = folder(&[]);
        let world = Self {
            clusters,
            folder,
            programs: None,
        };
        let kubeconfigs = [
            world.kubeconfig("hub", User::admin()),
            world.kubeconfig("burst", User::admin()),
            world
                .kubeconfig("hub", User::named("nobody"))
                .replace("\"hub\"", "\"nobody\""),
            world
                .kubeconfig("hub", User::admin())
                .replace("\"hub\"", "\"away\"")
                .replace(world.cluster("hub").url(), "https://127.0.0.1:9"),
        ];
        fs::write(world.path().join("kubeconfig"), join(&kubeconfigs)).unwrap();
        world.cluster("hub").apply(NAMESPACES).await.unwrap();
        let burst = world.cluster("burst");
        burst.apply(NAMESPACES).await.unwrap();
        burst.apply(SERVICE).await.unwrap();
        for kind in [
            Kind::DestinationRule,
            Kind::VirtualService,
            Kind::WasmPlugin,
            Kind::Gateway,
            Kind::ServiceEntry,
        ] {
            burst.apply(&definition(&kind.resource())).await.unwrap();
        }
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn cluster(&self, name: &str) -> &Cluster {
        self.clusters.cluster(name).unwrap()
    }

    fn kubeconfig(&self, cluster: &str, user: impl Into<Identity>) -> String {
        self.cluster(cluster).kubeconfig(user).unwrap()
    }

    /// What the command says, without what differs each time.
    pub(crate) async fn say(&self, words: &str) -> String {
        let path = self.path().to_owned();
        let own: Vec<String> = words.split(' ').map(str::to_owned).collect();
        // The controller in this process has to go on meanwhile.
        let programs = self.programs.clone().unwrap_or_default();
        let output = tokio::task::spawn_blocking(move || {
            spillway(&path)
                .env("KUBECONFIG", "kubeconfig")
                .env("PATH", programs)
                .env("HOME", &path)
                .args(own)
                .output()
                .unwrap()
        });
        let mut said = said(&output.await.unwrap());
        for cluster in ["hub", "burst"] {
            let address = self.cluster(cluster).url().trim_start_matches("https://");
            said = said.replace(address, &format!("ADDRESS-OF-{cluster}"));
        }
        let version = spillway_clusters::programs::kubernetes_version().unwrap();
        let said = said.replace(&format!("v{version}"), "VERSION");
        format!("$ spillway {words}\n{}\n", masked(&said))
    }

    /// The kubeconfig of burst that the hub has.
    pub(crate) async fn kubeconfig_of_burst(&self) -> Value {
        let words = [
            "get",
            "secret",
            "burst",
            "--namespace=spillway-system",
            "--output=go-template={{.data.kubeconfig | base64decode}}",
        ];
        let hub = self.cluster("hub");
        let text = hub.kubectl(User::admin(), &words).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The token in it.
    pub(crate) async fn token_of_burst(&self) -> String {
        let kubeconfig = self.kubeconfig_of_burst().await;
        let token = kubeconfig["users"][0]["user"]["token"].as_str();
        token.unwrap().to_owned()
    }

    /// The policy as it is.
    async fn spec(&self) -> Value {
        let client = self.cluster("hub").client(User::admin()).unwrap();
        let policies: Api<BurstPolicy> = Api::namespaced(client, "default");
        serde_json::to_value(policies.get("worker").await.unwrap().spec).unwrap()
    }

    /// Starts the controller in this process, as somebody.
    pub(crate) fn control(
        &self,
        identity: impl Into<Identity>,
        image: &str,
        registry: &str,
    ) -> AbortOnDropHandle<anyhow::Result<()>> {
        let hub = self.path().join("hub");
        fs::write(&hub, self.kubeconfig("hub", identity)).unwrap();
        control(&hub, image, registry)
    }
}

/// Starts a controller in this process.
pub(crate) fn control(
    hub: &Path,
    image: &str,
    registry: &str,
) -> AbortOnDropHandle<anyhow::Result<()>> {
    let settings = Settings::parse_from([
        "spillway-controller",
        &format!("--kubeconfig={}", hub.display()),
        &format!("--image={image}"),
        &format!("--insecure-registries={registry}"),
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
    ]);
    let (_, level) = log_to(std::io::sink, Format::Json, "off").unwrap();
    AbortOnDropHandle::new(tokio::spawn(
        async move { run::control(&settings, level).await },
    ))
}

/// One kubeconfig of several; the context of the first is the current one.
pub(crate) fn join(kubeconfigs: &[String]) -> String {
    let mut all = kubeconfigs
        .iter()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let mut joined = all.next().unwrap();
    for other in all {
        for list in ["clusters", "users", "contexts"] {
            let more = other[list].as_array().unwrap().clone();
            joined[list].as_array_mut().unwrap().extend(more);
        }
    }
    joined.to_string()
}

/// Times are when the test runs.
fn masked(said: &str) -> String {
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z') && word.contains('T');
    let lines = said.lines().map(|line| {
        let words = line
            .split(' ')
            .map(|word| if is_time(word) { "TIME" } else { word });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_attached_looked_at_and_detached() {
    let world = World::start().await;
    let mut story = String::new();
    for words in [
        "status --context nowhere",
        "status --context away",
        "status --kubeconfig nowhere",
        "status",
    ] {
        story += &world.say(words).await;
    }
    for crd in spillway_api::crds::all().unwrap() {
        let crd = serde_json::to_string(&crd).unwrap();
        world.cluster("hub").apply(&crd).await.unwrap();
    }
    for words in [
        "status",
        "status --context nobody",
        "attach burst",
        "attach hub",
        "attach burst --namespaces default --dry-run",
    ] {
        story += &world.say(words).await;
    }
    assert_snapshot!("before", story);

    // Interrupted by the time: nobody makes tokens; then nobody is there to use it.
    story = world
        .say("attach burst --namespaces default,missing --timeout 1")
        .await;
    let _tokens = world
        .cluster("burst")
        .start_controllers(&["serviceaccount-token-controller"])
        .await
        .unwrap();
    let token = [
        "wait",
        "secret/spillway-member-token",
        "--namespace=spillway-system",
        "--for=jsonpath={.data.token}",
        "--timeout=60s",
    ];
    let token = world.cluster("burst").kubectl(User::admin(), &token);
    token.await.unwrap();
    story += &world
        .say("attach burst --label site=cloud --prefix bursty- --namespaces default --timeout 1")
        .await;
    let registry = Registry::start().await.unwrap();
    let image = registry.push_filter(b"a filter").await.unwrap();
    let controller = world.control(User::admin(), &image, registry.address());
    story += &world
        .say("attach burst --label site=cloud --prefix bursty- --namespaces default")
        .await;
    assert_snapshot!("attach", story);
    // Other authorities, where the hub comes to it by another way.
    let authorities = ["hub", "burst"].map(|name| world.cluster(name).ca_pem());
    fs::write(world.path().join("authorities.pem"), authorities.concat()).unwrap();
    story = world
        .say("attach burst --namespaces default --authority nowhere.pem")
        .await;
    story += &world
        .say("attach burst --label site=cloud --prefix bursty- --namespaces default --authority authorities.pem")
        .await;
    assert_snapshot!("attach_another_authority", story);
    let kubeconfig = world.kubeconfig_of_burst().await;
    let kept = &kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"];
    let kept: ByteString = serde_json::from_value(kept.clone()).unwrap();
    assert_eq!(kept.0, authorities.concat().into_bytes());
    flies_by_tls(&world).await;

    // Every example, against these clusters.
    world
        .cluster("hub")
        .apply(&policy().to_string())
        .await
        .unwrap();
    let began = Instant::now();
    loop {
        let said = world.say("status default/worker").await;
        if !said.contains("no clusters") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{said}");
        tokio::time::sleep(LOOK).await;
    }
    differences(&world, &policy(), &image).await;
    watched(&world).await;
    counted(&world).await;

    for name in WITH_CLUSTERS.iter().filter(|name| **name != "detach") {
        let command = spillway_cli::command(None);
        let examples = reference::examples(command.find_subcommand(name).unwrap());
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            let words = example.trim_start_matches("spillway ");
            let said = world.say(words).await;
            let fine = said.contains("--- status 0") || *name == "status";
            assert!(fine && !said.contains("--- errors"), "{said}");
        }
    }

    story = world.say("force home worker --for 10m --dry-run").await;
    assert_eq!(world.spec().await.get("override"), None);
    story += &world.say("force overflow worker --for 2h").await;
    assert_eq!(world.spec().await["override"]["force"], "Overflow");
    story += &world.say("force home worker --for 10d").await;
    story += &world.say("force home nobody --for 10m").await;
    story += &world.say("unforce worker").await;
    story += &world.say("unforce worker").await;
    assert_eq!(world.spec().await.get("override"), None);
    story += &world.say("shadow on default/worker").await;
    assert_eq!(world.spec().await["enforcement"], "Shadow");
    story += &world.say("shadow off worker --namespace default").await;
    story += &world.say("shadow on worker --context nobody").await;
    story += &world.say("detach burst").await;
    assert_snapshot!("policies", story);

    drop(controller);
    let patch = ["delete", "burstpolicy", "worker", "--wait=false"];
    world
        .cluster("hub")
        .kubectl(User::admin(), &patch)
        .await
        .unwrap();
    let patch = [
        "patch",
        "burstpolicy",
        "worker",
        "--type=merge",
        "--patch={\"metadata\":{\"finalizers\":null}}",
    ];
    // The controller may have taken it off by itself.
    let _ = world.cluster("hub").kubectl(User::admin(), &patch).await;
    // A user's routes, with ours between them.
    let merged = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: theirs, namespace: default}, spec: {hosts: [worker], http: [{name: spillway-burst-1}, {name: own}]}}";
    world.cluster("burst").apply(merged).await.unwrap();
    story = world.say("detach burst --dry-run").await;
    story += &world.say("detach burst").await;
    story += &world.say("detach burst").await;
    story += &world.say("status").await;
    assert_snapshot!("detach", story);
    let left = [
        "get",
        "virtualservices,wasmplugins,destinationrules,serviceaccounts,clusterroles,clusterrolebindings,validatingadmissionpolicies,configmaps,rolebindings,roles",
        "--all-namespaces",
        "--output=name",
    ];
    let left = world
        .cluster("burst")
        .kubectl(User::admin(), &left)
        .await
        .unwrap();
    let left: Vec<&str> = left
        .lines()
        .filter(|name| name.contains("spillway"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let theirs = [
        "get",
        "virtualservice",
        "theirs",
        "--output=jsonpath={.spec.http[*].name}",
    ];
    let theirs = world
        .cluster("burst")
        .kubectl(User::admin(), &theirs)
        .await
        .unwrap();
    assert_eq!(theirs, "own");
}

/// A flight trusts whom it is told to trust.
async fn flies_by_tls(world: &World) {
    let words = format!(
        "test-flight {}/readyz --rate 5 --for 1s",
        world.cluster("burst").url()
    );
    for (trust, status) in [("", 2), (" --ca authorities.pem", 0), (" --insecure", 0)] {
        let said = world.say(&format!("{words}{trust}")).await;
        assert!(
            said.ends_with(&format!("--- status {status}\n\n")),
            "{said}"
        );
        assert_eq!(said.contains("200: 5"), status == 0, "{said}");
    }
}

/// Waits for what no event tells.
pub(crate) async fn until(is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < Duration::from_secs(60), "it never is so");
        tokio::time::sleep(LOOK).await;
    }
}
