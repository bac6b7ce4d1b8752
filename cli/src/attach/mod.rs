//! A cluster into the mesh, and out of it.
//!
//! Each step can be done again: who is interrupted begins anew, and what is done already is as it
//! was.

mod account;
mod detach;
mod removal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::mesh_cluster::Access;
use spillway_api::{BurstPolicy, MeshCluster};

pub(crate) use self::account::TOKEN;
pub(crate) use self::detach::{Detach, run as detach};
pub(crate) use self::removal::{Removal, selector};
use crate::connection::{Cluster, Connection};
use crate::exit::{Exit, Failure};
use crate::input;
use crate::objects;
use crate::output::{self, FINE};
use crate::progress::Progress;
use crate::reach::uid;
use crate::status::list;

/// How often is looked for what no event tells.
const LOOK: Duration = Duration::from_millis(200);
/// The label of the Secrets that are written here.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "spillway-cli");

/// Attach a cluster to the mesh
///
/// Creates an account with the least rights in the cluster, gives the hub its token, and waits until
/// the controller can use it. Where the cluster is the hub itself, the controller's own account gets
/// these rights. Every step can be done again: after an interruption, or to give rights in more
/// namespaces.
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

    /// A PEM file of the authority of that address, where it is not the cluster's own
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,

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
    pub(crate) system_namespace: String,

    /// Say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) fn attach(attach: &Attach, connection: &Connection) -> Result<Exit, Failure> {
    crate::wait(async {
        let hub = connection.hub().await?;
        let member = connection.cluster(Some(&attach.cluster)).await?;
        attach.run(&hub, &member).await
    })
}

/// A step that is done.
pub(crate) fn step(what: &str) {
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

    async fn run(&self, hub: &Cluster, member: &Cluster) -> Result<Exit, Failure> {
        let access = self.access(hub, member).await?;
        let namespaces = self.namespaces(hub).await?;
        grant(access, member, &self.place, &namespaces).await?;
        let dry_run = self.place.dry_run;
        let mut objects = vec![self.resource(access)];
        match access {
            // The controller is there.
            Access::Hub => {}
            _ if dry_run => step(&format!(
                "Secret {} on {}: would hold the token",
                self.key(),
                hub.name
            )),
            _ => objects.insert(0, self.secret(member, &self.token(member).await?)?),
        }
        for object in objects {
            let done = objects::apply(hub, &object, dry_run).await?;
            let tried = if dry_run { " (dry run)" } else { "" };
            step(&format!(
                "{} on {}: {}{tried}",
                objects::shown(&object),
                hub.name,
                done.word()
            ));
        }
        if dry_run {
            return Ok(Exit::Fine);
        }
        self.ready(hub).await
    }

    /// Both answer. Where they are the same, the controller is there already.
    async fn access(&self, hub: &Cluster, member: &Cluster) -> Result<Access, Failure> {
        let (of_hub, of_member) = (uid(hub).await?, uid(member).await?);
        let version = member.client.apiserver_version().await;
        let version = version.map_err(|error| member.failed("its version is not told", &error))?;
        step(&format!(
            "{} answers: Kubernetes {}",
            member.name, version.git_version
        ));
        Ok(if of_hub == of_member {
            Access::Hub
        } else {
            Access::Attached
        })
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
    fn secret(
        &self,
        member: &Cluster,
        token: &BTreeMap<String, ByteString>,
    ) -> Result<Value, Failure> {
        let text = |key: &str| {
            let bytes = token.get(key).map(|it| it.0.as_slice()).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let address = member.config.cluster_url.to_string();
        let address = self.server.clone().unwrap_or(address);
        let authority = match &self.authority {
            Some(file) => Some(ByteString(input::file(file.clone())?.text.into_bytes())),
            None => token.get("ca.crt").cloned(),
        };
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name(), "cluster": {
                "server": address.trim_end_matches('/'),
                "certificate-authority-data": authority,
            }}],
            "users": [{"name": "spillway", "user": {"token": text("token")}}],
            "contexts": [{"name": self.name(), "context": {"cluster": self.name(), "user": "spillway"}}],
            "current-context": self.name(),
        });
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name(),
                "namespace": self.place.system_namespace,
                "labels": {MANAGED_BY.0: MANAGED_BY.1},
            },
            "data": {"kubeconfig": ByteString(kubeconfig.to_string().into_bytes())},
        }))
    }

    fn resource(&self, access: Access) -> Value {
        let labels: BTreeMap<&String, &String> = self
            .labels
            .iter()
            .map(|(key, value)| (key, value))
            .collect();
        let secret = json!({"namespace": self.place.system_namespace, "name": self.name()});
        let mut spec = match access {
            Access::Hub => json!({"access": access}),
            _ => json!({"access": access, "secretRef": secret}),
        };
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
        let mut metadata = json!({"name": self.name()});
        // An API server keeps no empty map, and would find a change each time.
        if let Some(metadata) = metadata.as_object_mut().filter(|_| !labels.is_empty()) {
            metadata.insert("labels".to_owned(), json!(labels));
        }
        json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": "MeshCluster",
            "metadata": metadata,
            "spec": spec,
        })
    }

    /// The controller can use it.
    async fn ready(&self, hub: &Cluster) -> Result<Exit, Failure> {
        let progress = Progress::new(format!("{} looks at {}", hub.name, self.name()));
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
                drop(progress);
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

/// Gives the controller's account its rights in a cluster.
///
/// # Errors
/// When the cluster does not take them.
pub(crate) async fn grant(
    access: Access,
    member: &Cluster,
    place: &Place,
    namespaces: &[String],
) -> Result<(), Failure> {
    let objects =
        account::objects(access, &place.system_namespace, namespaces).map_err(|error| {
            Failure::bad_input(error, "This is a mistake of Spillway's: report it.")
        })?;
    for object in &objects {
        let done = objects::apply(member, object, place.dry_run).await?;
        let tried = if place.dry_run { " (dry run)" } else { "" };
        step(&format!(
            "{} in {}: {}{tried}",
            objects::shown(object),
            member.name,
            done.word()
        ));
    }
    Ok(())
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = parts.ok_or("write a label as KEY=VALUE, such as site=cloud")?;
    Ok((key.to_owned(), value.to_owned()))
}
