//! Many small API servers in one process: `tools/kube/fleet`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hyper::Request;
use k8s_openapi::ByteString;
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spillway_controller::observe::kinds::Kind;
use spillway_e2e::address::Block;
use spillway_e2e::folder;
use spillway_e2e::process::Process;
use tempfile::TempDir;

/// A member takes an eighth of a second; the rest is for a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(1200);
/// Writes that take longer never come.
const WRITTEN_WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(50);

/// Who the controller is at the members.
pub const CONTROLLER: &str = "controller";
/// Who the bare client is.
pub const BARE: &str = "bare";
/// The namespace of the policy, its service and its objects.
pub const NAMESPACE: &str = "shop";
/// A namespace of which the controller knows nothing.
pub const ELSEWHERE: &str = "elsewhere";

/// Requests, by what they asked for: `patch wasmplugins`, `get /version`.
pub type Requests = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Ready {
    authority: String,
    control: String,
    members: Vec<String>,
}

/// Members that run; they end when this is dropped.
pub struct Members {
    ready: Ready,
    control: Client,
    _process: Process,
    _block: Block,
    _folder: TempDir,
}

impl Members {
    /// Starts so many, with Istio's resources and the service `shop/worker` in each.
    ///
    /// # Errors
    /// When the program is not built, or does not start; with the end of its log.
    pub async fn start(count: usize, etcd_url: &str) -> Result<Self> {
        let program = program("SPILLWAY_FLEET")?;
        let folder = folder::create("spillway-fleet")?;
        let mut block = Block::take()?;
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("users.json"), users().to_string())?;
        std::fs::write(file("seeds.json"), serde_json::to_string(&seeds())?)?;
        let arguments = [
            format!("--members={count}"),
            format!("--address={}", block.next_address()?),
            format!("--etcd={etcd_url}"),
            format!("--users={}", file("users.json").display()),
            format!("--manifests={}", file("seeds.json").display()),
            format!("--ready={}", file("ready.json").display()),
        ];
        let log = file("log");
        let mut process = Process::start(&program, &arguments, &log)?;
        let began = Instant::now();
        while !file("ready.json").exists() {
            let running = process.is_running() && began.elapsed() < READY_WITHIN;
            ensure!(running, "no members: {}", end_of(&log));
            tokio::time::sleep(LOOK).await;
        }
        let ready: Ready = serde_json::from_slice(&std::fs::read(file("ready.json"))?)?;
        let mut control = Config::new(ready.control.parse()?);
        control.read_timeout = Some(WRITTEN_WITHIN);
        Ok(Self {
            control: Client::try_from(control)?,
            ready,
            _process: process,
            _block: block,
            _folder: folder,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ready.members.len()
    }

    /// The kubeconfigs of one user, for every member.
    pub fn kubeconfigs<'a>(&'a self, user: &'a str) -> impl Iterator<Item = Value> + 'a {
        let authority = ByteString(self.ready.authority.clone().into_bytes());
        self.ready.members.iter().map(move |url| {
            json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "member", "cluster": {
                    "server": url,
                    "certificate-authority-data": authority,
                }}],
                "users": [{"name": user, "user": {"token": token(user)}}],
                "contexts": [{"name": "member", "context": {"cluster": "member", "user": user}}],
                "current-context": "member",
            })
        })
    }

    /// What a user has asked of all members together, since the start.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn requests(&self, user: &str) -> Result<Requests> {
        let mut all: BTreeMap<String, Requests> = self.ask("/requests").await?;
        Ok(all.remove(user).unwrap_or_default())
    }

    /// Waits until a user has written so many WasmPlugins into every member after `since`. Returns
    /// how long after it the last of them was written, by member, from the first to the last.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn written(
        &self,
        user: &str,
        often: usize,
        since: SystemTime,
    ) -> Result<Vec<Duration>> {
        let since = u64::try_from(since.duration_since(UNIX_EPOCH)?.as_nanos())?;
        let path = format!("/writes?user={user}&often={often}&after={since}");
        let times = tokio::time::timeout(WRITTEN_WITHIN, self.ask::<Vec<u64>>(&path)).await;
        let times = times.context("not every member was written to")??;
        let after = times.into_iter().map(|at| at.saturating_sub(since));
        let mut after: Vec<Duration> = after.map(Duration::from_nanos).collect();
        after.sort_unstable();
        Ok(after)
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(self
            .control
            .request(Request::get(path).body(Vec::new())?)
            .await?)
    }
}

/// A program that the Makefile builds and names by this variable.
pub(crate) fn program(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).with_context(|| format!("{variable} is not set"))?;
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "{variable}: no {}", path.display());
    Ok(path)
}

pub(crate) fn end_of(log: &std::path::Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn token(user: &str) -> String {
    format!("token-of-{user}")
}

fn users() -> Value {
    json!({token(CONTROLLER): CONTROLLER, token(BARE): BARE})
}

/// What every member has from the start.
fn seeds() -> Vec<Value> {
    let namespaces = [
        ("kube-system", json!({})),
        ("istio-system", json!({})),
        ("spillway-system", json!({})),
        (NAMESPACE, json!({"istio-injection": "enabled"})),
        (ELSEWHERE, json!({})),
    ];
    let namespaces = namespaces.map(|(name, labels)| {
        json!({"path": "/api/v1/namespaces", "object": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }})
    });
    let service = json!({"path": format!("/api/v1/namespaces/{NAMESPACE}/services"), "object": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "worker"},
        "spec": {
            "selector": {"app": "worker"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            // Nobody is there to give it an address.
            "type": "ClusterIP",
            "clusterIP": "10.0.0.10",
            "clusterIPs": ["10.0.0.10"],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
        },
    }});
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
    let slice = json!({"path": slices, "object": {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "worker-1", "labels": {"kubernetes.io/service-name": "worker"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": 8080}],
    }});
    let definitions = [
        Kind::DestinationRule,
        Kind::VirtualService,
        Kind::WasmPlugin,
        Kind::Gateway,
        Kind::ServiceEntry,
        Kind::HttpRoute,
    ];
    let definitions = definitions.map(definition);
    let all = namespaces.into_iter().chain([service, slice]);
    all.chain(definitions).collect()
}

/// A definition that takes any spec: what Istio's own would refuse is not what is measured.
fn definition(kind: Kind) -> Value {
    let resource = kind.resource();
    let (group, version, plural) = (&resource.group, &resource.version, &resource.plural);
    json!({
        "path": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "serves": format!("/apis/{group}/{version}/{plural}"),
        "object": {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{plural}.{group}"),
                // Groups of Kubernetes itself ask for it.
                "annotations": {"api-approved.kubernetes.io": "unapproved, for a benchmark"},
            },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {
                    "kind": resource.kind,
                    "plural": plural,
                    "singular": resource.kind.to_lowercase(),
                },
                "versions": [{
                    "name": version,
                    "served": true,
                    "storage": true,
                    "schema": {"openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": true,
                    }},
                }],
            },
        },
    })
}
