//! `docs/getting-started.md`: every block of its shell is run, in its order, as it stands.
//!
//! The clusters are real API servers with Istio's kinds. No pods run there: the controller that the
//! page installs is run by this process, with what the page told it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spillway_clusters::registry::Registry;
use spillway_clusters::{Clusters, User, definition, programs};
use spillway_controller::observe::kinds::Kind;

use crate::clusters::{NAMESPACES, SERVICE, control, join};
use crate::run::{folder, said};

const REGISTRY: &str = "registry.example.com";

/// The shell blocks of the page.
fn blocks(page: &str) -> Vec<String> {
    let parts = page.split("```sh\n").skip(1);
    let blocks = parts.map(|part| part.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_can_be_followed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/getting-started.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() > 8, "{blocks:?}");

    let clusters = Clusters::start(&["primary", "burst"]).await.unwrap();
    let kubeconfigs = ["primary", "burst"].map(|name| {
        clusters
            .cluster(name)
            .unwrap()
            .kubeconfig(User::admin())
            .unwrap()
    });
    for cluster in clusters.iter() {
        cluster.apply(NAMESPACES).await.unwrap();
        cluster
            .apply(&SERVICE.replace("name: worker,", "name: worker-service,"))
            .await
            .unwrap();
        for kind in Kind::NAMESPACED
            .iter()
            .filter(|kind| kind.resource().group.contains("istio"))
        {
            cluster.apply(&definition(&kind.resource())).await.unwrap();
        }
    }
    let burst = clusters.cluster("burst").unwrap();
    let _tokens = burst
        .start_controllers(&["serviceaccount-token-controller"])
        .await
        .unwrap();
    let registry = Registry::start().await.unwrap();

    let folder = folder(&[
        ("kubeconfig", &join(&kubeconfigs)),
        ("hub", &kubeconfigs[0]),
        ("filter.wasm", "\0asm\u{1}\0\0\0"),
    ]);
    std::os::unix::fs::symlink(root.join("charts"), folder.path().join("charts")).unwrap();
    let path = search_path(&[
        env!("CARGO_BIN_EXE_spillway").into(),
        programs::kubernetes("kubectl").unwrap(),
        programs::helm().unwrap(),
    ]);
    let mut controller = None;
    for block in blocks {
        let script = block.replace(REGISTRY, registry.address());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &script]);
        shell
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", &path);
        shell
            .env("HOME", folder.path())
            .env("KUBECONFIG", "kubeconfig");
        shell.env("PUSH_FLAGS", "--plain-http --filter filter.wasm");
        let output = tokio::task::spawn_blocking(move || shell.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{block}{}", said(&output));
        // What a kubelet does.
        if block.contains("helm install spillway ") {
            let image = image(clusters.cluster("primary").unwrap()).await;
            controller = Some(control(
                &folder.path().join("hub"),
                &image,
                registry.address(),
            ));
        }
    }
    assert!(controller.is_some());
    for cluster in clusters.iter() {
        let left = "wasmplugins,virtualservices,destinationrules";
        let words = ["get", left, "--all-namespaces", "--output=name"];
        let left = cluster.kubectl(User::admin(), &words).await.unwrap();
        assert_eq!(left.trim(), "", "in {}", cluster.name());
    }
}

/// The filter's image that the installed Deployment names.
async fn image(hub: &spillway_clusters::Cluster) -> String {
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

/// The folders of these programs, before the path of the tests.
fn search_path(programs: &[PathBuf]) -> String {
    let folders = programs
        .iter()
        .map(|it| it.parent().unwrap().display().to_string());
    let own = std::env::var("PATH").unwrap_or_default();
    folders.chain([own]).collect::<Vec<_>>().join(":")
}
