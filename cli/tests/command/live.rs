//! `spillway diff --live` and `spillway status -w`, in the story of the clusters.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spillway_clusters::User;
use spillway_e2e::address::{ADMIN_PORT, Block};
use spillway_e2e::load::Load;
use spillway_e2e::prometheus::Prometheus;

use crate::clusters::World;
use crate::mesh::{self, CALLER};
use crate::terminal::{Running, Terminal};

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// What the planner wants is what the controller wrote; a change of a policy shows before it is
/// made, and nothing is written by that.
pub(crate) async fn differences(world: &World, policy: &Value, image: &str) {
    let write = |name: &str, policy: &Value| {
        fs::write(world.path().join(name), policy.to_string()).unwrap();
    };
    write("policy.yaml", policy);
    let mut changed = policy.clone();
    changed["spec"]["capacity"]["total"]["rate"] = "20/s".into();
    write("changed.yaml", &changed);
    let nothing = "0 objects to create, 0 to change, 0 to remove\n--- status 0";
    for words in [
        "diff policy.yaml --live",
        "diff changed.yaml --live",
        "diff policy.yaml --live",
    ] {
        let said = world.say(&format!("{words} --image {image}")).await;
        if words.contains("changed") {
            assert!(
                said.contains("+++ b/burst: WasmPlugin default/spillway-"),
                "{said}"
            );
            assert!(
                said.contains("to create, 2 to change, 0 to remove\n--- status 1"),
                "{said}"
            );
            assert!(
                !said.contains("resourceVersion") && !said.contains("mesh-token"),
                "{said}"
            );
        } else {
            assert!(said.contains(nothing), "{said}");
        }
    }
    // What an API server does not take is told, and nothing of it is done.
    let guard = json!([
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "frozen"},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["extensions.istio.io"], "apiVersions": ["*"],
                    "resources": ["wasmplugins"], "operations": ["UPDATE"],
                }]},
                "validations": [{"expression": "false", "message": "plugins are frozen"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "frozen"},
            "spec": {"policyName": "frozen", "validationActions": ["Deny"]},
        },
    ]);
    let burst = world.cluster("burst");
    for object in guard.as_array().unwrap() {
        burst.apply(&object.to_string()).await.unwrap();
    }
    // API servers notice it within seconds.
    let began = Instant::now();
    loop {
        let said = world
            .say(&format!("diff changed.yaml --live --image {image}"))
            .await;
        if said.contains("× would be refused: WasmPlugin default/spillway-client in burst") {
            assert!(said.contains("plugins are frozen"), "{said}");
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{said}");
        tokio::time::sleep(LOOK).await;
    }
    for kind in [
        "validatingadmissionpolicybinding",
        "validatingadmissionpolicy",
    ] {
        let words = ["delete", kind, "frozen"];
        burst.kubectl(User::admin(), &words).await.unwrap();
    }
    // The user may do nothing on the hub.
    let said = world
        .say(&format!(
            "diff policy.yaml --live --image {image} --context nobody"
        ))
        .await;
    assert!(
        said.ends_with("--- status 2\n\n") && said.contains("forbidden"),
        "{said}"
    );
}

/// Every change is a line, or shown in place.
pub(crate) async fn watched(world: &World) {
    let said = world
        .say("status default/worker --until Programmed --timeout 60 --no-rates")
        .await;
    assert!(said.ends_with("--- status 0\n\n"), "{said}");
    let said = world
        .say("status --until Fine=True --timeout 1 --no-rates")
        .await;
    assert!(
        said.contains("nothing has a condition Fine after 1 s"),
        "{said}"
    );
    assert!(said.ends_with("--- status 124\n\n"), "{said}");
    let said = world.say("status --until Fine=Yes").await;
    assert!(said.ends_with("--- status 64\n\n"), "{said}");

    let kubeconfig = world.path().join("kubeconfig").display().to_string();
    let words = ["status", "-w", "--no-rates", "--kubeconfig", &kubeconfig];
    let mut watch = Running::start(&words);
    watch.until("policy default/worker: Spill, Active, 1/1 clusters");
    let program = env!("CARGO_BIN_EXE_spillway");
    let terminal = Terminal::start(
        70,
        4,
        &format!("echo before; {program} status -w --no-rates --kubeconfig {kubeconfig}"),
    );
    let shown = terminal.until("a frame", |it| it.contains("more lines"));
    assert!(
        shown.starts_with("√ policy default/worker: Spill, Active") && !shown.contains("before"),
        "{shown}"
    );
    world.say("shadow on worker --namespace default").await;
    watch.until("policy default/worker: Spill, Shadow");
    terminal.until("Shadow", |it| it.contains("Spill, Shadow"));
    terminal.resize(40, 20);
    terminal.until("all lines", |it| {
        it.contains("cluster burst") && it.contains("Spill, S")
    });
    world.say("shadow off worker --namespace default").await;
    watch.until("policy default/worker: Spill, Active");
    watch.interrupt();
    terminal.press("C-c");
    // The screen is as it was, with what was seen last.
    terminal.until("the end", |it| {
        it.contains("before") && it.contains("\nstatus ")
    });
}

/// A Prometheus that scrapes a real caller's sidecar tells what the policy decides.
pub(crate) async fn counted(world: &World) {
    let mesh = mesh::limited("5/s").await.unwrap();
    let mut block = Block::take().unwrap();
    let address = SocketAddr::from((block.next_address().unwrap(), 9090));
    let scraping = scraping(mesh.caller(CALLER).unwrap().address());
    let prometheus = Prometheus::start(address, &scraping).await.unwrap();
    let load = Load::new(1)
        .target(1.0, mesh.target(CALLER).unwrap())
        .step(50.0, Duration::from_secs(120));
    let running = load.start().unwrap();
    let words = format!(
        "status default/worker -o wide --prometheus {}",
        prometheus.url()
    );
    let began = Instant::now();
    let said = loop {
        let said = world.say(&words).await;
        if said.contains("over-limit") {
            break said;
        }
        assert!(began.elapsed() < DEADLINE, "{said}\n{}", prometheus.log());
        tokio::time::sleep(LOOK).await;
    };
    running.stop();
    assert!(
        said.contains("% at home: over-limit, ") && said.contains("/s to burst"),
        "{said}"
    );
    let said = world.say("status --prometheus http://127.0.0.1:9").await;
    assert!(said.ends_with("--- status 2\n\n"), "{said}");
}

/// What a Prometheus is to scrape: one sidecar, each second.
fn scraping(sidecar: Ipv4Addr) -> Value {
    json!({"scrape_configs": [{
        "job_name": "envoy",
        "metrics_path": "/stats/prometheus",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{"targets": [format!("{sidecar}:{ADMIN_PORT}")]}],
    }]})
}
