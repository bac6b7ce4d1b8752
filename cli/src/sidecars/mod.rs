//! The filters in proxies: which of them are to have one, and what they say of it.
//!
//! Nothing has to be opened for it: the API server asks a pod's proxy for its metrics, for whoever
//! may get `pods/proxy`. A plugin says which pods it is for and of which generation it is, and a
//! filter tells the generation that it acts by.
//!
//! - [`exposition`]: metrics as text

pub(crate) mod exposition;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use spillway_controller::observe::kinds::Kind;
use spillway_plan::output::{GENERATION, MANAGED_BY, SPILLWAY};

use self::exposition::{Sample, samples};

/// One pod.
const DEADLINE: Duration = Duration::from_secs(5);
/// So many are asked at once.
const AT_ONCE: usize = 32;

/// Whom of a pod is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Teller {
    /// Its Envoy, for Spillway's metrics only.
    Envoy,
    /// Its agent, for what that counts too: such as images that it could not fetch.
    Agent,
}

impl Teller {
    /// The port and path of its metrics.
    const fn place(self) -> &'static str {
        match self {
            Self::Envoy => "15090/proxy/stats/prometheus?filter=spillway_",
            Self::Agent => "15020/proxy/stats/prometheus",
        }
    }
}

/// A plugin of ours.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `client` or `server`, as metrics have it.
    side: &'static str,
    pub(crate) generation: u64,
    /// The mesh's tokens that it has, the one that is sent first.
    pub(crate) tokens: Vec<String>,
    selector: BTreeMap<String, String>,
}

/// What a proxy lacks of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It has no filter, or one without a configuration.
    Filter,
    /// It acts by an older configuration, of this generation.
    Newer(u64),
}

/// The plugins of ours in a namespace, or in all.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn plugins(
    client: &Client,
    namespace: Option<&str>,
) -> Result<Vec<Plugin>, String> {
    let resource = Kind::WasmPlugin.resource();
    let client = client.clone();
    let all: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={SPILLWAY}"));
    match all.list(&ours).await {
        Ok(found) => Ok(found.iter().filter_map(Plugin::read).collect()),
        // Istio is not there.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

impl Plugin {
    fn read(object: &DynamicObject) -> Option<Self> {
        let at = |path| object.data.pointer(path);
        let labels = at("/spec/selector/matchLabels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let selector =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let tokens = at("/spec/pluginConfig/tokens").and_then(Value::as_array);
        let tokens = tokens.into_iter().flatten();
        let tokens = tokens.filter_map(|token| token.as_str().map(str::to_owned));
        Some(Self {
            namespace: object.namespace()?,
            name: object.name_any(),
            side: match at("/spec/match/0/mode")?.as_str()? {
                "CLIENT" => "client",
                _ => "server",
            },
            generation: object.annotations().get(GENERATION)?.parse().ok()?,
            tokens: tokens.collect(),
            selector: selector.collect(),
        })
    }

    /// One for all pods of no namespace.
    #[cfg(test)]
    pub(crate) fn of(side: &'static str, generation: u64) -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            side,
            generation,
            tokens: Vec::new(),
            selector: BTreeMap::new(),
        }
    }

    /// Its selector as a query.
    pub(crate) fn query(&self) -> String {
        let labels = self.selector.iter();
        let labels: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        labels.join(",")
    }

    /// Whether it is for a pod.
    pub(crate) fn is_for(&self, pod: &Pod) -> bool {
        let mut labels = self.selector.iter();
        pod.metadata.namespace.as_ref() == Some(&self.namespace)
            && labels.all(|(key, value)| pod.labels().get(key) == Some(value))
    }

    /// What a proxy that it is for lacks of it, as the proxy's metrics say.
    pub(crate) fn lack(&self, samples: &[Sample]) -> Option<Lack> {
        let of_side = samples.iter().filter(|it| {
            let side = it.labels.get("side");
            it.name == "spillway_config_generation" && side.is_some_and(|side| side == self.side)
        });
        // Generations are small whole numbers; 0 is none.
        match of_side.map(|it| it.value.max(0.0) as u64).min() {
            None | Some(0) => Some(Lack::Filter),
            Some(has) if has < self.generation => Some(Lack::Newer(has)),
            Some(_) => None,
        }
    }
}

/// Whether a proxy runs in it: as a container, or as one that is started before the others.
pub(crate) fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let first = spec.init_containers.iter().flatten();
    let mut containers = spec.containers.iter().chain(first);
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running") && containers.any(|container| container.name == "istio-proxy")
}

/// The pods of a namespace with a proxy that runs.
///
/// # Errors
/// When they cannot be read.
pub(crate) async fn proxies(client: &Client, namespace: &str) -> Result<Vec<Pod>, String> {
    let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let running = ListParams::default().fields("status.phase=Running");
    let found = all.list(&running).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.items.into_iter().filter(has_proxy).collect())
}

/// The metrics of each pod, in their order, or why it does not tell.
pub(crate) async fn ask(
    client: &Client,
    pods: &[Pod],
    teller: Teller,
) -> Vec<Result<Vec<Sample>, String>> {
    let one = |pod: &Pod| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let place = teller.place();
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{place}");
        async move {
            let request = http::Request::get(path).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            match tokio::time::timeout(DEADLINE, client.request_text(request)).await {
                Ok(Ok(text)) => Ok(samples(&text).collect()),
                Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
            }
        }
    };
    let asked = futures_util::stream::iter(pods).map(one);
    asked.buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plugin(mode: &str) -> Plugin {
        let object = json!({
            "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin",
            "metadata": {"name": "spillway", "namespace": "shop", "annotations": {GENERATION: "7"}},
            "spec": {
                "match": [{"mode": mode}],
                "pluginConfig": {"tokens": ["new", "old"]},
                "selector": {"matchLabels": {"app": "worker"}},
            },
        });
        Plugin::read(&serde_json::from_value(object).unwrap()).unwrap()
    }

    #[test]
    fn a_proxy_has_what_is_meant_for_it_or_not() {
        let plugin = plugin("CLIENT");
        assert_eq!(plugin.tokens, ["new", "old"]);
        for (text, lack) in [
            ("", Some(Lack::Filter)),
            (
                "spillway_config_generation{side=\"server\"} 7",
                Some(Lack::Filter),
            ),
            (
                "spillway_config_generation{side=\"client\"} 0",
                Some(Lack::Filter),
            ),
            (
                "spillway_config_generation{side=\"client\"} 6",
                Some(Lack::Newer(6)),
            ),
            ("spillway_config_generation{side=\"client\"} 7", None),
            ("spillway_config_generation_side___client___{} 8", None),
        ] {
            let samples: Vec<Sample> = samples(text).collect();
            assert_eq!(plugin.lack(&samples), lack, "{text}");
        }
    }

    #[test]
    fn it_is_for_the_pods_of_its_selector() {
        let plugin = plugin("SERVER");
        let pod = |namespace: &str, app: &str| -> Pod {
            let pod =
                json!({"metadata": {"namespace": namespace, "labels": {"app": app, "v": "1"}}});
            serde_json::from_value(pod).unwrap()
        };
        assert!(plugin.is_for(&pod("shop", "worker")));
        assert!(!plugin.is_for(&pod("shop", "other")));
        assert!(!plugin.is_for(&pod("bank", "worker")));
        assert_eq!(plugin.query(), "app=worker");
    }
}
