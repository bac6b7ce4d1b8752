//! What `check` finds in a mesh that is well, and in one that is not. It is part of the story of
//! [`crate::install`], since the clusters are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;

use flate2::read::GzDecoder;
use insta::assert_snapshot;
use serde_json::Value;
use spillway_clusters::User;

use crate::clusters::{World, until};

/// An Istio, as far as it is looked at, whose settings are as by default.
const ISTIO: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultConfig: {discoveryAddress: istiod.istio-system.svc:15012}'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}
spec:
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod}}
    spec:
      containers:
        - name: discovery
          image: registry.example.com/istio/pilot:1.31.0
          env: [{name: CLUSTER_ID, value: burst}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: theirs, namespace: default}
spec: {host: worker, trafficPolicy: {connectionPool: {http: {maxRetries: 1}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: worker-1, namespace: default, labels: {app: worker}}
spec: {containers: [{name: worker, image: worker}, {name: istio-proxy, image: proxy}]}
";

/// Before anything was installed.
pub(crate) async fn before(world: &World) {
    let mut story = String::new();
    for words in [
        "check --pre",
        "check --pre --context nobody",
        "check --context away",
        "check",
    ] {
        story += &world.say(words).await;
    }
    assert_snapshot!("check_before", story);
}

/// With a cluster that is attached and a policy in force.
pub(crate) async fn after(world: &World, image: &str) {
    let (hub, burst) = (world.cluster("hub"), world.cluster("burst"));
    burst.apply(ISTIO).await.unwrap();
    // API servers ask no pod at such an address.
    let status = "--patch={\"status\": {\"phase\": \"Running\", \"podIP\": \"127.0.0.1\", \"podIPs\": [{\"ip\": \"127.0.0.1\"}]}}";
    let patch = [
        "patch",
        "pod",
        "worker-1",
        "--subresource=status",
        "--type=merge",
        status,
    ];
    burst.kubectl(User::admin(), &patch).await.unwrap();
    // The demo's policy is in force in every cluster, too.
    let is_well = async || {
        let said = world.say("check").await;
        said.contains("√ default/worker is in force")
            && said.contains("√ spillway-demo/worker is in force")
            && said.contains("BounceDisabled")
    };
    until(is_well).await;
    // By the settings of the controller that is installed, nothing would change.
    let policy = crate::clusters::policy().to_string();
    fs::write(world.path().join("policy.yaml"), policy).unwrap();
    let said = world.say("diff policy.yaml --live").await;
    let nothing = "0 objects to create, 0 to change, 0 to remove\n";
    assert!(said.contains(nothing), "{said}");
    let mut story = world.say("check").await;

    // Somebody takes rights away, and another hub claims the cluster.
    let binding = ["delete", "rolebinding", "spillway-member-namespace"];
    burst.kubectl(User::admin(), &binding).await.unwrap();
    claim(world, "another").await;
    let broken = world.say("check").await;
    // The rest follows as soon as the controller comes upon it.
    let cluster = broken
        .split("\n\n")
        .find(|it| it.starts_with("cluster burst"));
    story += cluster.unwrap();
    let holder = story.split_once("one leads: ").unwrap().1;
    let holder = holder.lines().next().unwrap().to_owned();
    let story = story.replace(image, "IMAGE").replace(&holder, "HOLDER");
    assert_snapshot!("check_after", story);
    support(world).await;

    let said = world.say("check -o json").await;
    let json = said
        .split_once('\n')
        .unwrap()
        .1
        .split("--- status")
        .next()
        .unwrap();
    let report: Value = serde_json::from_str(json).unwrap();
    assert_eq!(report["success"], false);
    let categories = report["categories"].as_array().unwrap();
    let rights = categories
        .iter()
        .find(|it| it["name"] == "cluster burst")
        .unwrap();
    let rights = rights["checks"].as_array().unwrap();
    let wrong = rights.iter().find(|it| it["result"] == "error").unwrap();
    assert!(
        wrong["mend"]
            .as_str()
            .unwrap()
            .contains("delete configmap spillway-claim"),
        "{wrong}"
    );
    assert!(said.ends_with("--- status 1\n\n"), "{said}");

    // As it was.
    let patch = [
        "get",
        "namespace",
        "kube-system",
        "--output=jsonpath={.metadata.uid}",
    ];
    let uid = hub.kubectl(User::admin(), &patch).await.unwrap();
    claim(world, &uid).await;
    let said = world.say(crate::install::ATTACH).await;
    assert!(said.ends_with("--- status 0\n\n"), "{said}");
}

/// Lets a hub have claimed burst, by its UID.
async fn claim(world: &World, hub: &str) {
    let patch = format!("--patch={{\"data\": {{\"hub\": \"{hub}\"}}}}");
    let words = [
        "patch",
        "configmap",
        "spillway-claim",
        "--namespace=spillway-system",
        "--type=merge",
        &patch,
    ];
    let burst = world.cluster("burst");
    burst.kubectl(User::admin(), &words).await.unwrap();
}

/// Everything is in the bundle, and no secret: neither one that was planted, wherever it stands, nor
/// the mesh's, nor a kubeconfig's.
async fn support(world: &World) {
    const PLANTED: &str = "planted-secret-value";
    let hub = world.cluster("hub");
    let planted = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: planted, namespace: spillway-system}}, stringData: {{it: {PLANTED}}}}}"
    );
    hub.apply(&planted).await.unwrap();
    let note = format!("note=see {PLANTED}");
    let annotate = ["annotate", "burstpolicy", "worker", &note];
    hub.kubectl(User::admin(), &annotate).await.unwrap();
    let token = [
        "get",
        "secret",
        "spillway-tokens",
        "--namespace=spillway-system",
        "--output=go-template={{.data.tokens | base64decode}}",
    ];
    let token = hub.kubectl(User::admin(), &token).await.unwrap();
    let account = world.token_of_burst().await;

    let said = world.say("check --support bundle.tar.gz").await;
    assert!(said.contains("all of it is in bundle.tar.gz"), "{said}");
    let mut files = BTreeMap::new();
    let bundle = File::open(world.path().join("bundle.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(bundle));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(path, text);
    }
    for file in [
        "check.json",
        "version",
        "hub/burstpolicy.yaml",
        "hub/deployment.yaml",
        "clusters/burst/wasmplugin.yaml",
        "clusters/burst/virtualservice.yaml",
    ] {
        let text = files.get(&format!("spillway-support/{file}"));
        assert!(text.is_some_and(|text| text.len() > 4), "{file}: {text:?}");
    }
    let policy = &files["spillway-support/hub/burstpolicy.yaml"];
    assert!(policy.contains("see REDACTED"), "{policy}");
    let plugin = &files["spillway-support/clusters/burst/wasmplugin.yaml"];
    assert!(plugin.contains("REDACTED"), "{plugin}");
    for (path, text) in &files {
        for secret in [PLANTED, token.trim(), &account] {
            assert!(
                !secret.is_empty() && !text.contains(secret),
                "{path} has {secret}"
            );
        }
    }
    fs::remove_file(world.path().join("bundle.tar.gz")).unwrap();
}
