//! A cluster into the mesh, and out of it.
//!
//! Each step can be done again: who is interrupted begins anew, and what is done already is as it
//! was.

mod account;
mod detach;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::{BurstPolicy, MeshCluster};

pub(crate) use self::detach::{Detach, run as detach};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::objects::{self, Done};
use crate::output::{self, FINE};
use crate::progress::Progress;
use crate::status::list;

/// How often is looked for what no event tells.
const LOOK: Duration = Duration::from_millis(200);
/// The label of the Secrets that are written here.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "spillway-cli");

/// Attach a cluster to the mesh
///
/// Creates an account with the least rights in the cluster, gives the hub its token, and waits until
/// the controller can use it. Every step can be done again: after an interruption, or to give rights
/// in more namespaces.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # The cluster of the context burst
  spillway attach burst --label site=cloud --prefix bursty- --namespaces default

  # What would be written
  spillway attach burst --namespaces default --dry-run")]
pub(crate) struct Attach {
    /// The context of the cluster in the kubeconfig
    cluster: String,

    /// The name of its MeshCluster; the context's, where that can be a name
    #[arg(long)]
    name: Option<String>,

    /// A label by which fleets find it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// The tag that its answers carry
    #[arg(long, default_value = "")]
    prefix: String,

    /// The namespaces of services and callers in which the account gets rights; those of the hub's
    /// policies where none are named
    #[arg(long, value_delimiter = ',')]
    namespaces: Vec<String>,

    /// The cluster whose istiod serves it, in a primary–remote mesh
    #[arg(long, value_name = "NAME")]
    control_plane: Option<String>,

    /// Istio's name of the cluster, where it is another one
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,

    /// Its API server's address, where the hub does not reach that of the kubeconfig
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    #[command(flatten)]
    place: Place,

    /// Give up waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Where Spillway's own objects are, and whether anything is written.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The namespace of Spillway's own objects, the same everywhere
    #[arg(long, value_name = "NAME", default_value = "spillway-system")]
    system_namespace: String,

    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn attach(attach: &Attach, connection: &Connection) -> Result<Exit, Failure> {
    crate::wait(async {
        let hub = connection.hub().await?;
        let member = connection.cluster(Some(&attach.cluster)).await?;
        attach.apart(&hub, &member).await?;
        let namespaces = attach.namespaces(&hub).await?;
        attach.account(&member, &namespaces).await?;
        if attach.place.dry_run {
            step(&format!(
                "Secret {} on {}: would hold the token",
                attach.key(),
                hub.name
            ));
            let resource = attach.resource();
            let done = objects::apply(&hub, &resource, true).await?;
            step(&format!(
                "{} on {}: {} (dry run)",
                objects::shown(&resource),
                hub.name,
                done.word()
            ));
            return Ok(Exit::Fine);
        }
        let token = attach.token(&member).await?;
        let secret = attach.secret(&member, &token);
        for object in [secret, attach.resource()] {
            let done = objects::apply(&hub, &object, false).await?;
            step(&format!(
                "{} on {}: {}",
                objects::shown(&object),
                hub.name,
                done.word()
            ));
        }
        attach.ready(&hub).await
    })
}

/// A step that is done.
fn step(what: &str) {
    output::print(&format!("{FINE}√{FINE:#} {what}\n"));
}

impl Attach {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.cluster)
    }

    /// Of the Secret on the hub.
    fn key(&self) -> String {
        format!("{}/{}", self.place.system_namespace, self.name())
    }

    /// Both answer, and are not the same.
    async fn apart(&self, hub: &Cluster, member: &Cluster) -> Result<(), Failure> {
        let (of_hub, of_member) = (uid(hub).await?, uid(member).await?);
        if of_hub == of_member {
            return Err(Failure::bad_input(
                format!("{} is the hub itself", member.name),
                "Where the hub is in the mesh too, it needs no token: make a MeshCluster with access: Hub.",
            ));
        }
        let version = member.client.apiserver_version().await;
        let version = version.map_err(|error| member.failed("its version is not told", &error))?;
        step(&format!(
            "{} answers: Kubernetes {}",
            member.name, version.git_version
        ));
        Ok(())
    }

    /// Those in which services and their callers are.
    async fn namespaces(&self, hub: &Cluster) -> Result<Vec<String>, Failure> {
        if !self.namespaces.is_empty() {
            return Ok(self.namespaces.clone());
        }
        let policies: Vec<BurstPolicy> = list(hub, &Api::all(hub.client.clone())).await?;
        let of_policy = |policy: &BurstPolicy| {
            let clients = policy.spec.clients.clone().unwrap_or_default();
            policy
                .namespace()
                .into_iter()
                .chain(clients.namespaces)
                .collect::<Vec<_>>()
        };
        let all: BTreeSet<String> = policies.iter().flat_map(of_policy).collect();
        if all.is_empty() {
            return Err(Failure::bad_input(
                "there is no policy yet that tells in which namespaces rights are needed",
                "Name the namespaces of services and their callers by --namespaces.",
            ));
        }
        Ok(all.into_iter().collect())
    }

    async fn account(&self, member: &Cluster, namespaces: &[String]) -> Result<(), Failure> {
        let dry_run = self.place.dry_run;
        let objects =
            account::objects(&self.place.system_namespace, namespaces).map_err(|error| {
                Failure::bad_input(error, "This is a mistake of Spillway's: report it.")
            })?;
        for object in &objects {
            let done = objects::apply(member, object, dry_run).await?;
            let tried = if dry_run { " (dry run)" } else { "" };
            step(&format!(
                "{} in {}: {}{tried}",
                objects::shown(object),
                member.name,
                done.word()
            ));
            if done == Done::NoPlace && objects::shown(object).starts_with("Secret") {
                break;
            }
        }
        Ok(())
    }

    /// The token, once the cluster has made it.
    async fn token(&self, member: &Cluster) -> Result<BTreeMap<String, ByteString>, Failure> {
        let _progress = Progress::new(format!("{} makes a token", member.name));
        let secrets: Api<Secret> =
            Api::namespaced(member.client.clone(), &self.place.system_namespace);
        let began = Instant::now();
        loop {
            let found = secrets.get_opt(account::TOKEN).await;
            let found = found.map_err(|error| member.failed("the token cannot be read", &error))?;
            let data = found.and_then(|secret| secret.data).unwrap_or_default();
            if data.contains_key("token") {
                return Ok(data);
            }
            if began.elapsed() > Duration::from_secs(self.timeout) {
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!(
                        "{} has made no token within {} s",
                        member.name, self.timeout
                    ),
                    "Look at whether its kube-controller-manager runs, and attach it again.",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The kubeconfig of the account, for the controller.
    fn secret(&self, member: &Cluster, token: &BTreeMap<String, ByteString>) -> Value {
        let text = |key: &str| {
            let bytes = token.get(key).map(|it| it.0.as_slice()).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let address = member.config.cluster_url.to_string();
        let address = self.server.clone().unwrap_or(address);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name(), "cluster": {
                "server": address.trim_end_matches('/'),
                "certificate-authority-data": token.get("ca.crt"),
            }}],
            "users": [{"name": "spillway", "user": {"token": text("token")}}],
            "contexts": [{"name": self.name(), "context": {"cluster": self.name(), "user": "spillway"}}],
            "current-context": self.name(),
        });
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name(),
                "namespace": self.place.system_namespace,
                "labels": {MANAGED_BY.0: MANAGED_BY.1},
            },
            "data": {"kubeconfig": ByteString(kubeconfig.to_string().into_bytes())},
        })
    }

    fn resource(&self) -> Value {
        let labels: BTreeMap<&String, &String> = self
            .labels
            .iter()
            .map(|(key, value)| (key, value))
            .collect();
        let mut spec = json!({
            "access": "Attached",
            "secretRef": {"namespace": self.place.system_namespace, "name": self.name()},
        });
        let texts = [
            (
                "prefix",
                Some(&self.prefix).filter(|prefix| !prefix.is_empty()),
            ),
            ("controlPlane", self.control_plane.as_ref()),
            ("clusterName", self.cluster_name.as_ref()),
        ];
        if let Some(spec) = spec.as_object_mut() {
            for (field, text) in texts {
                spec.extend(text.map(|text| (field.to_owned(), json!(text))));
            }
        }
        json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "MeshCluster",
            "metadata": {"name": self.name(), "labels": labels},
            "spec": spec,
        })
    }

    /// The controller can use it.
    async fn ready(&self, hub: &Cluster) -> Result<Exit, Failure> {
        let _progress = Progress::new(format!("{} looks at {}", hub.name, self.name()));
        let clusters: Api<MeshCluster> = Api::all(hub.client.clone());
        let began = Instant::now();
        loop {
            let found = clusters.get(self.name()).await;
            let found =
                found.map_err(|error| hub.failed("the MeshCluster cannot be read", &error))?;
            let status = found.status.clone().unwrap_or_default();
            let is_new = status.observed_generation == found.metadata.generation;
            let wrong = status.conditions.iter().find(|it| {
                ["Reachable", "Ready"].contains(&it.type_.as_str()) && it.status != "True"
            });
            if is_new && wrong.is_none() && !status.conditions.is_empty() {
                step(&format!("{} is Ready", self.name()));
                return Ok(Exit::Fine);
            }
            if began.elapsed() > Duration::from_secs(self.timeout) {
                let why = match wrong {
                    Some(it) => format!(
                        "{} is {}, {}: {}",
                        it.type_, it.status, it.reason, it.message
                    ),
                    None => "the controller has said nothing of it".to_owned(),
                };
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!(
                        "{} is not Ready after {} s: {why}",
                        self.name(),
                        self.timeout
                    ),
                    "All is written: `spillway status` shows when it is. Is the controller running, and does it reach the address (--server)?",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// By which clusters are told apart.
async fn uid(cluster: &Cluster) -> Result<String, Failure> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let found = namespaces.get("kube-system").await;
    let found = found.map_err(|error| cluster.failed("it does not say who it is", &error))?;
    Ok(found.uid().unwrap_or_default())
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = parts.ok_or("write a label as KEY=VALUE, such as site=cloud")?;
    Ok((key.to_owned(), value.to_owned()))
}
