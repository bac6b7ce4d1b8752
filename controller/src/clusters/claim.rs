//! Whose cluster it is.
//!
//! Two hubs that write to one cluster would each remove what the other wrote, over and over. So a
//! hub claims a cluster before it writes: a ConfigMap in the member's system namespace names the
//! hub by its identity ([`super::identity`]). Who finds another hub's claim writes nothing and says
//! so. The claim is created and never overwritten, so that of two hubs which come at once one has
//! it; it is deleted by hand when a hub is gone for good.
//!
//! The claim also keeps the namespaces that objects of ours may be in. They are noted before the
//! first write and struck off after the last removal, so that a controller which may not look into
//! every namespace finds what it left in one that no policy names any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use spillway_plan::output::{MANAGED_BY, SPILLWAY};
use tokio::sync::watch;

use super::call::{Failure, call, find};

/// The ConfigMap's name.
pub const NAME: &str = "spillway-claim";
const HUB: &str = "hub";
const CLUSTER: &str = "cluster";
const NAMESPACES: &str = "namespaces";

/// Why a cluster could not be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another hub has it.
    #[error(
        "the hub with the UID {hub} has claimed this cluster: nothing is written to it; if that hub is gone, delete the ConfigMap {NAME} in {namespace} there"
    )]
    Another {
        /// The other hub's identity.
        hub: String,
        /// The system namespace.
        namespace: String,
    },
    /// The same cluster is attached under another name.
    #[error(
        "this is the same cluster as the MeshCluster {cluster}, which has claimed it: nothing is written to it by this name; delete one of the two"
    )]
    Twin {
        /// The other MeshCluster.
        cluster: String,
    },
    /// There is no system namespace.
    #[error("the namespace {0} is missing there: create it, the cluster's claim belongs into it")]
    NoNamespace(String),
    /// The API server did not let it happen.
    #[error("the ConfigMap {NAME} in {namespace} cannot be read and written: {failure}")]
    Call {
        /// The system namespace.
        namespace: String,
        /// Why.
        failure: Failure,
    },
}

impl ClaimError {
    /// As in a condition.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Another { .. } => "ClaimedByAnotherHub",
            Self::Twin { .. } => "AttachedTwice",
            Self::NoNamespace(_) => "NoSystemNamespace",
            Self::Call { .. } => "ClaimUnknown",
        }
    }
}

/// A cluster that is this hub's to write to.
#[derive(Debug)]
pub struct Claim {
    maps: Api<ConfigMap>,
    namespace: String,
    hub: String,
    deadline: Duration,
    /// The MeshCluster.
    cluster: String,
    /// The MeshClusters of the hub.
    attached: watch::Receiver<BTreeSet<String>>,
    /// The namespaces that objects of ours may be in.
    noted: watch::Sender<BTreeSet<String>>,
}

impl Claim {
    /// Claims a cluster for a hub, or finds that it has it already. `attached` are the names of the
    /// hub's MeshClusters: a claim of one that is there no more is taken over.
    ///
    /// # Errors
    /// When another hub has it, or it cannot be found out.
    pub async fn take(
        client: Client,
        namespace: &str,
        hub: &str,
        cluster: &str,
        attached: watch::Receiver<BTreeSet<String>>,
        deadline: Duration,
    ) -> Result<Self, ClaimError> {
        let mut this = Self {
            maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            hub: hub.to_owned(),
            cluster: cluster.to_owned(),
            attached,
            deadline,
            noted: watch::Sender::new(BTreeSet::new()),
        };
        if this.look().await? {
            return Ok(this);
        }
        let labels = BTreeMap::from([(MANAGED_BY.to_owned(), SPILLWAY.to_owned())]);
        let text = |text: &str| text.to_owned();
        let data = BTreeMap::from([(text(HUB), text(hub)), (text(CLUSTER), text(cluster))]);
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        match call(deadline, this.maps.create(&PostParams::default(), &map)).await {
            Ok(_) => Ok(this),
            // Somebody was quicker.
            Err(failure) if failure.code() == Some(409) => {
                this.look().await?;
                Ok(this)
            }
            Err(failure) if failure.code() == Some(404) => {
                Err(ClaimError::NoNamespace(this.namespace))
            }
            Err(failure) => Err(this.failed(failure)),
        }
    }

    /// Whether the claim is there; an error where it is another's.
    async fn look(&mut self) -> Result<bool, ClaimError> {
        let found = find(self.deadline, self.maps.get(NAME)).await;
        let Some(map) = found.map_err(|failure| self.failed(failure))? else {
            return Ok(false);
        };
        let version = map.metadata.resource_version;
        let data = map.data.unwrap_or_default();
        let text = |key: &str| data.get(key).cloned().unwrap_or_default();
        let (hub, cluster) = (text(HUB), text(CLUSTER));
        if hub != self.hub {
            let namespace = self.namespace.clone();
            return Err(ClaimError::Another { hub, namespace });
        }
        let noted = text(NAMESPACES);
        let noted = noted.split(',').filter(|name| !name.is_empty());
        self.noted.send_replace(noted.map(str::to_owned).collect());
        if cluster == self.cluster {
            return Ok(true);
        }
        if self.attached.borrow().contains(&cluster) {
            return Err(ClaimError::Twin { cluster });
        }
        let own =
            json!({"metadata": {"resourceVersion": version}, "data": {CLUSTER: self.cluster}});
        self.patch(own).await.map(|()| true)
    }

    /// Finds out whether the cluster is still this hub's.
    ///
    /// # Errors
    /// When another hub has it, the claim is gone, or it cannot be found out.
    pub async fn confirm(&mut self) -> Result<(), ClaimError> {
        if self.look().await? {
            return Ok(());
        }
        let hub = "nobody".to_owned();
        let namespace = self.namespace.clone();
        Err(ClaimError::Another { hub, namespace })
    }

    /// The namespaces that objects of ours may be in.
    #[must_use]
    pub fn noted(&self) -> BTreeSet<String> {
        self.noted.borrow().clone()
    }

    /// Tells when the noted namespaces change.
    #[must_use]
    pub fn notes(&self) -> watch::Receiver<BTreeSet<String>> {
        self.noted.subscribe()
    }

    /// Keeps the namespaces that objects of ours may be in; writes only what differs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note(&mut self, namespaces: BTreeSet<String>) -> Result<(), ClaimError> {
        if namespaces == *self.noted.borrow() {
            return Ok(());
        }
        let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
        self.patch(json!({"data": {NAMESPACES: names.join(",")}}))
            .await?;
        self.noted.send_replace(namespaces);
        Ok(())
    }

    async fn patch(&self, patch: Value) -> Result<(), ClaimError> {
        let (patch, params) = (Patch::Merge(patch), PatchParams::default());
        let patched = call(self.deadline, self.maps.patch(NAME, &params, &patch)).await;
        patched.map(drop).map_err(|failure| self.failed(failure))
    }

    fn failed(&self, failure: Failure) -> ClaimError {
        ClaimError::Call {
            namespace: self.namespace.clone(),
            failure,
        }
    }
}
