//! Installed, upgraded and taken out again, by a real Helm, on real API servers, with the real
//! controller under the rights that the chart gives it.
//!
//! There are no nodes: what a kubelet would report of the controller's pods is written here.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use insta::assert_snapshot;
use serde_json::{Value, json};
use spillway_cli::reference;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Cluster, Server, User, definition, programs};
use spillway_controller::observe::kinds::Kind;

use crate::clusters::{LOOK, World, policy, until};
use crate::run::{IMAGE, WITH_HELM, run, said};
use crate::terminal::Terminal;

const VALUES: &str = "image: {repository: registry.example.com/spillway/controller}\n";

/// The chart of a member's account.
const MEMBER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/spillway-member");

const CONTROLLER: &str =
    "deployment spillway-controller --namespace=spillway-system --ignore-not-found";

/// What the command says while pods start as soon as they are wanted.
async fn say_with_pods(world: &World, words: &str) -> String {
    tokio::select! {
        said = world.say(words) => said,
        () = start_pods(world.cluster("hub")) => panic!("it never ends"),
    }
}

/// Tells of the controller's Deployment what a cluster with nodes would.
pub(crate) async fn start_pods(hub: &Cluster) {
    let patch = ["patch", "deployment", "spillway-controller"];
    let how = [
        "--namespace=spillway-system",
        "--subresource=status",
        "--type=merge",
    ];
    loop {
        let wanted = format!("{CONTROLLER} --output=jsonpath={{.spec.replicas}}");
        let wanted = get_of(hub, &wanted).await;
        if let Ok(count) = wanted.parse::<u32>() {
            let status = json!({"status": {
                "observedGeneration": 99, "replicas": count,
                "readyReplicas": count, "updatedReplicas": count,
            }});
            let status = format!("--patch={status}");
            let patch = [&patch[..], &how[..], &[&status]].concat();
            // It may be gone meanwhile.
            let _ = hub.kubectl(User::admin(), &patch).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn get(world: &World, cluster: &str, words: &str) -> String {
    get_of(world.cluster(cluster), words).await
}

async fn get_of(cluster: &Cluster, words: &str) -> String {
    let words: Vec<&str> = ["get"].into_iter().chain(words.split(' ')).collect();
    cluster.kubectl(User::admin(), &words).await.unwrap()
}

/// Everything of a cluster that is named after Spillway, but for its namespace.
async fn left(world: &World, cluster: &str) -> Vec<String> {
    let kinds = "crds,namespaces,deployments,services,secrets,configmaps,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,poddisruptionbudgets,leases --all-namespaces --output=name";
    let all = get(world, cluster, kinds).await;
    let ours = all.lines().filter(|name| name.contains("spillway"));
    let ours = ours.filter(|name| *name != "namespace/spillway-system");
    ours.map(str::to_owned).collect()
}

async fn start() -> (World, Registry, Vec<Server>) {
    let mut world = World::start().await;
    let helm = programs::helm().unwrap();
    world.programs = helm.parent().map(ToOwned::to_owned);
    let registry = Registry::start().await.unwrap();
    let image = registry.push_filter(b"a filter").await.unwrap();
    let values = format!(
        "{VALUES}filter: {{image: \"{image}\"}}\nregistry: {{insecure: [\"{}\"]}}\n",
        registry.address()
    );
    fs::write(world.path().join("values.yaml"), values).unwrap();
    let mut servers = Vec::new();
    for kind in [
        Kind::DestinationRule,
        Kind::VirtualService,
        Kind::WasmPlugin,
    ] {
        let hub = world.cluster("hub");
        hub.apply(&definition(&kind.resource())).await.unwrap();
    }
    for cluster in ["hub", "burst"] {
        let controllers = ["namespace-controller", "serviceaccount-token-controller"];
        let cluster = world.cluster(cluster);
        servers.push(cluster.start_controllers(&controllers).await.unwrap());
    }
    (world, registry, servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn spillway_comes_and_goes() {
    let (world, registry, _servers) = start().await;
    crate::check::before(&world).await;
    let mut story = String::new();
    for words in [
        "install",
        "install --values nowhere.yaml",
        "install --values values.yaml --dry-run",
        "install --values values.yaml --run-demo=burst --dry-run",
        // Nobody starts the pods.
        "install --values values.yaml --timeout 1",
        "uninstall --dry-run",
    ] {
        story += &world.say(words).await;
    }
    story += &say_with_pods(&world, "install --values values.yaml").await;
    assert_snapshot!("install", story);

    // A definition of an older version, and a release that changes while it is waited for.
    let older = "{\"spec\": {\"names\": {\"shortNames\": [\"old\"]}}}";
    let older = format!("--patch={older}");
    let patch = [
        "patch",
        "crd",
        "fleets.spillway.dev",
        "--type=merge",
        &older,
    ];
    let hub = world.cluster("hub");
    hub.kubectl(User::admin(), &patch).await.unwrap();
    story = world.say("upgrade --set replicas=3 --dry-run").await;
    let replicas = format!("{CONTROLLER} --output=jsonpath={{.spec.replicas}}");
    assert_eq!(get(&world, "hub", &replicas).await, "2");
    story += &say_with_pods(&world, "upgrade --set replicas=3").await;
    assert_eq!(get(&world, "hub", &replicas).await, "3");
    story += &world.say("upgrade --system-namespace elsewhere").await;
    // Other values are as they were.
    let image = "{.spec.template.spec.containers[0].image}";
    let image = get(
        &world,
        "hub",
        &format!("{CONTROLLER} --output=jsonpath={image}"),
    )
    .await;
    assert_eq!(image, "registry.example.com/spillway/controller:0.1.0");
    assert_snapshot!("upgrade", story);

    story = world
        .say("install --values values.yaml --run-demo=burst")
        .await;
    assert_snapshot!("demo", story);
    let account = hub.service_account("spillway-system", "spillway-controller");
    let image = fs::read_to_string(world.path().join("values.yaml")).unwrap();
    let image = image.split('"').nth(1).unwrap().to_owned();
    let account = account.await.unwrap();
    // Somebody has made the account by Helm: it is taken as it is.
    let namespaces = "namespaces={default,spillway-demo}";
    helm(
        &world,
        &["install", "spillway-member", MEMBER, "--set", namespaces],
    )
    .await;
    interrupted(&world).await;
    let terminal = Terminal::start(100, 40, &in_terminal(&world, ATTACH));
    terminal.until("the second attempt waits", |shown| {
        shown.contains("hub looks at burst")
    });
    let controller = world.control(account, &image, registry.address());
    let shown = terminal.until("attached", |shown| shown.contains("status 0"));
    assert!(
        shown.contains("√ Secret spillway-system/burst on hub: as it was"),
        "{shown}"
    );
    assert!(shown.contains("√ burst is Ready"), "{shown}");
    assert!(
        !shown.contains("hub looks at burst"),
        "what it waited for is still shown: {shown}"
    );
    // The hub is in the mesh too.
    let hub_too =
        "attach hub --name kubernetes --cluster-name Kubernetes --namespaces default,spillway-demo";
    story = world.say(hub_too).await;
    assert_snapshot!("attach_the_hub", story);
    hub.apply(&policy().to_string()).await.unwrap();
    let finalizer = "burstpolicy worker --output=jsonpath={.metadata.finalizers}";
    until(async || get(&world, "hub", finalizer).await.contains("spillway")).await;
    let routes = "virtualservices --all-namespaces --output=name";
    until(async || {
        get(&world, "burst", routes)
            .await
            .contains("spillway-worker")
    })
    .await;

    crate::check::after(&world, &image).await;
    crate::rotate::story(&world).await;
    examples(&world, &WITH_HELM[..4]).await;

    story = world.say("uninstall").await;
    let only_hub = hub.kubeconfig(User::admin()).unwrap();
    fs::write(world.path().join("only-hub"), only_hub).unwrap();
    story += &world.say("uninstall --yes --kubeconfig only-hub").await;
    story += &world.say("uninstall --dry-run").await;
    assert!(!left(&world, "burst").await.is_empty());
    story += &world.say("uninstall --yes").await;
    story += &world.say("uninstall").await;
    assert_snapshot!("uninstall", story);
    for cluster in ["hub", "burst"] {
        until(async || left(&world, cluster).await.is_empty()).await;
    }
    assert_eq!(get(&world, "burst", routes).await, "");
    drop(controller);
    examples(&world, &WITH_HELM[4..]).await;
}

pub(crate) const ATTACH: &str =
    "attach burst --namespaces default,spillway-demo --label spillway-demo=overflow";

/// The command as a shell runs it in a terminal, which an interruption does not end.
fn in_terminal(world: &World, words: &str) -> String {
    format!(
        "trap : INT; cd {}; KUBECONFIG=kubeconfig {} {words}",
        world.path().display(),
        env!("CARGO_BIN_EXE_spillway")
    )
}

/// Ctrl-C while it waits for a controller that is not there: it ends at once, and what it had
/// written stays.
async fn interrupted(world: &World) {
    let terminal = Terminal::start(100, 40, &in_terminal(world, ATTACH));
    terminal.until("it waits", |shown| shown.contains("hub looks at burst"));
    terminal.press("C-c");
    let shown = terminal.until("ended", |shown| shown.contains("status "));
    assert!(
        shown.contains("status 130") && !shown.contains("Ready"),
        "{shown}"
    );
    let cluster = get(world, "hub", "meshcluster burst --output=name").await;
    assert_eq!(cluster, "meshcluster.spillway.dev/burst\n");
}

/// Runs Helm on burst.
async fn helm(world: &World, words: &[&str]) {
    let mut helm = Command::new(programs::helm().unwrap());
    helm.args(words)
        .args(["--kube-context", "burst", "--namespace", "spillway-system"]);
    helm.current_dir(world.path())
        .env("KUBECONFIG", "kubeconfig")
        .env("HOME", world.path());
    let output = tokio::task::spawn_blocking(move || helm.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Every example is run, where there is what it is about.
async fn examples(world: &World, names: &[&str]) {
    for name in names {
        let command = spillway_cli::command(None);
        let examples = reference::examples(command.find_subcommand(name).unwrap());
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            let words = example.trim_start_matches("spillway ");
            let said = say_with_pods(world, words).await;
            // What is found is another matter.
            let is_run = said.contains("--- status 0") || said.contains("--- status 1");
            assert!(is_run && !said.contains("--- errors"), "{said}");
        }
    }
}

/// What is printed without Helm is what Helm prints, but for whose it is.
#[tokio::test]
async fn it_is_rendered_without_helm() {
    let folder = crate::run::folder(&[]);
    let image = format!("filter.image={IMAGE}");
    let words = [
        "install",
        "--render",
        "--system-namespace=mesh",
        "--set",
        "image.repository=r.example.com/c,image.digest=sha256:1111111111111111111111111111111111111111111111111111111111111111",
        "--set",
        &image,
    ];
    let objects = |said: &str| -> BTreeMap<String, Value> {
        let text = said.trim_end_matches("--- status 0\n");
        let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let all = all.into_iter().filter(|it| !it.is_null());
        let key = |it: &Value| format!("{} {}", it["kind"], it["metadata"]["name"]);
        all.map(|it| (key(&it), it)).collect()
    };
    let without = run(folder.path(), &words);
    let helm = programs::helm().unwrap();
    let with = crate::run::spillway(folder.path())
        .env("PATH", helm.parent().unwrap())
        .env("HOME", folder.path())
        .args(words)
        .output();
    let with = said(&with.unwrap());
    let with = with.replace("managed-by: Helm", "managed-by: spillway-cli");
    let (with, without) = (objects(&with), objects(&without));
    assert_eq!(with.len(), 12, "{:?}", with.keys());
    for (key, object) in &with {
        assert_eq!(Some(object), without.get(key), "{key}");
    }
    assert_eq!(with.len(), without.len());
    let refused = run(
        folder.path(),
        &["install", "--render", "--set", "replicas=3"],
    );
    let missing = run(folder.path(), &["install", "--values", "values.yaml"]);
    assert_snapshot!("without_helm", [refused, missing].join("\n"));
}
