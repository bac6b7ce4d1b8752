//! The token of the controller's account in a cluster.
//!
//! A token of a service account counts as long as its Secret is there. So a second Secret is made,
//! the hub gets its token, and when the controller uses that the first is made anew and takes its
//! place again. At every moment the hub has a token that counts.
//!
//! The cluster itself says when a token is used for the first time: it labels the Secret
//! ([`USED`]). What was begun with the token before is over soon: an API server accepts a token for
//! some seconds after its Secret is gone. A cluster that says nothing has [`Rotate::pause`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use spillway_api::MeshCluster;

use super::Rotate;
use crate::attach::{TOKEN, step};
use crate::connection::Cluster;
use crate::exit::{Exit, Failure};
use crate::policies::MANAGER;
use crate::progress::Progress;

/// The Secret that helps out.
const SECOND: &str = "spillway-member-token-second";
/// The label by which an API server tells the day on which the token of a Secret was used last.
const USED: &str = "kubernetes.io/legacy-token-last-used";
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(
    rotate: &Rotate,
    hub: &Cluster,
    member: &Cluster,
    name: &str,
) -> Result<Exit, Failure> {
    let rotation = Rotation {
        rotate,
        hub,
        member,
        kept: kept(hub, name).await?,
    };
    let first = rotation.first().await?;
    if rotate.place.dry_run {
        step(&format!(
            "Secret {}/{TOKEN} in {}: would be made anew (dry run)",
            rotate.place.system_namespace, member.name
        ));
        return Ok(Exit::Fine);
    }
    let second = rotation.make(SECOND, &first).await?;
    rotation.hand_over(SECOND, &second).await?;
    rotation.remove(TOKEN).await?;
    let anew = rotation.make(TOKEN, &first).await?;
    rotation.hand_over(TOKEN, &anew).await?;
    rotation.remove(SECOND).await?;
    step(&format!(
        "the hub uses the new token of {name}; the old one counts no more"
    ));
    Ok(Exit::Fine)
}

/// Where the hub keeps the kubeconfig of a cluster.
struct Kept {
    namespace: String,
    name: String,
}

async fn kept(hub: &Cluster, name: &str) -> Result<Kept, Failure> {
    let clusters: Api<MeshCluster> = Api::all(hub.client.clone());
    let found = clusters.get_opt(name).await;
    let found = found.map_err(|error| hub.failed("the MeshCluster cannot be read", &error))?;
    let place = found.and_then(|cluster| cluster.spec.secret_ref);
    let place = place.ok_or_else(|| {
        Failure::bad_input(
            format!("{} has no MeshCluster {name} with a token", hub.name),
            "`spillway status` lists clusters; name it by --name where the context is called otherwise.",
        )
    })?;
    Ok(Kept {
        namespace: place.namespace,
        name: place.name,
    })
}

/// A token that the cluster has made.
struct Made {
    token: Vec<u8>,
    /// Somebody has used it already.
    is_used: bool,
}

struct Rotation<'a> {
    rotate: &'a Rotate,
    hub: &'a Cluster,
    member: &'a Cluster,
    kept: Kept,
}

impl Rotation<'_> {
    fn secrets(&self) -> Api<Secret> {
        let namespace = &self.rotate.place.system_namespace;
        Api::namespaced(self.member.client.clone(), namespace)
    }

    /// The Secret of the token that counts now: its labels tell whose it is. After an interruption
    /// it is the second.
    async fn first(&self) -> Result<Secret, Failure> {
        for name in [TOKEN, SECOND] {
            let found = self.secrets().get_opt(name).await;
            let found =
                found.map_err(|error| self.member.failed("the token cannot be read", &error))?;
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(Failure::bad_input(
            format!(
                "{} has no Secret {}/{TOKEN}",
                self.member.name, self.rotate.place.system_namespace
            ),
            "`spillway attach` makes the account and its token.",
        ))
    }

    /// Another Secret for the same account, with its token.
    async fn make(&self, name: &str, like: &Secret) -> Result<Made, Failure> {
        let mut annotations = like.annotations().clone();
        annotations.remove("kubernetes.io/service-account.uid");
        let labels: BTreeMap<&String, &String> = like
            .labels()
            .iter()
            .filter(|(name, _)| !name.starts_with("kubernetes.io/"))
            .collect();
        let secret = json!({
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "type": like.type_,
        });
        let secret: Secret = serde_json::from_value(secret).unwrap_or_default();
        let secrets = self.secrets();
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => self.say(name, "created"),
            // Left by an interruption: it counts as well as a new one.
            Err(kube::Error::Api(status)) if status.code == 409 => self.say(name, "as it was"),
            Err(error) => {
                return Err(self.member.failed("the token cannot be made", &error));
            }
        }
        let _progress = Progress::new(format!("{} makes a token", self.member.name));
        let began = Instant::now();
        loop {
            let found = secrets.get(name).await;
            let found =
                found.map_err(|error| self.member.failed("the token cannot be read", &error))?;
            let is_used = found.labels().contains_key(USED);
            if let Some(token) = found.data.and_then(|mut data| data.remove("token")) {
                return Ok(Made {
                    token: token.0,
                    is_used,
                });
            }
            if began.elapsed() > Duration::from_secs(self.rotate.timeout) {
                return Err(Failure::new(
                    Exit::TimedOut,
                    format!(
                        "{} has made no token within {} s",
                        self.member.name, self.rotate.timeout
                    ),
                    "The token that the hub has counts still. Look at whether its kube-controller-manager runs, and run it again.",
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives the hub the token of a Secret, and waits until it is used.
    async fn hand_over(&self, name: &str, made: &Made) -> Result<(), Failure> {
        let shown = format!("Secret {}/{}", self.kept.namespace, self.kept.name);
        let secrets: Api<Secret> = Api::namespaced(self.hub.client.clone(), &self.kept.namespace);
        let found = secrets.get(&self.kept.name).await;
        let found =
            found.map_err(|error| self.hub.failed("the kubeconfig cannot be read", &error))?;
        let broken = |why: &str| {
            Failure::bad_input(
                format!("the kubeconfig in {shown} {why}"),
                "`spillway attach` writes one.",
            )
        };
        let data = found.data.unwrap_or_default();
        let (key, text) = data
            .get_key_value("kubeconfig")
            .or_else(|| data.first_key_value())
            .ok_or_else(|| broken("is not there"))?;
        let text = String::from_utf8_lossy(&text.0);
        let mut kubeconfig: Value =
            serde_saphyr::from_str(&text).map_err(|_| broken("cannot be read"))?;
        let place = kubeconfig.pointer_mut("/users/0/user/token");
        let place = place.ok_or_else(|| broken("has no token"))?;
        *place = json!(String::from_utf8_lossy(&made.token));
        let text = ByteString(kubeconfig.to_string().into_bytes());
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "data": {key: text},
        }));
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let done = secrets.patch(&self.kept.name, &parameters, &patch).await;
        done.map_err(|error| {
            self.hub
                .failed("the token cannot be given to the hub", &error)
        })?;
        step(&format!(
            "{shown} on {}: has the token of now",
            self.hub.name
        ));
        let _progress = Progress::new("the controller takes the new one".to_owned());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(self.rotate.pause) {
            // Of one that was used before nothing is told.
            if !made.is_used && self.is_used(name).await {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether the cluster says that the token of a Secret was used.
    async fn is_used(&self, name: &str) -> bool {
        let secret = self.secrets().get_metadata_opt(name).await;
        let secret = secret.ok().flatten();
        secret.is_some_and(|secret| secret.labels().contains_key(USED))
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        match self.secrets().delete(name, &DeleteParams::default()).await {
            Ok(_) => self.say(name, "removed"),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                return Err(self.member.failed("a token cannot be removed", &error));
            }
        }
        Ok(())
    }

    fn say(&self, name: &str, what: &str) {
        step(&format!(
            "Secret {}/{name} in {}: {what}",
            self.rotate.place.system_namespace, self.member.name
        ));
    }
}
