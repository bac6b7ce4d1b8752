//! What proxies say of the filter in them, through their API server.
//!
//! Nothing has to be opened for it: the API server asks a pod's agent for its metrics, where those
//! of Envoy and of the filter stand too, for whoever may get `pods/proxy`.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::connection::Cluster;

/// Where an agent hands out the metrics of itself, of Envoy, and of the filter.
const PORT: u16 = 15020;
const GENERATION: &str = "spillway_config_generation";
const FETCHES: &str = "istio_agent_wasm_remote_fetch_count";
/// One pod.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a proxy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The configurations that filters of one side act by, `client` or `server`.
    pub(crate) generations: Vec<(String, u64)>,
    /// Images that its agent could not fetch.
    pub(crate) failed_fetches: u64,
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

/// Asks a pod's proxy.
///
/// # Errors
/// Why it does not answer.
pub(crate) async fn ask(cluster: &Cluster, pod: &Pod) -> Result<Said, String> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/{}:{PORT}/proxy/stats/prometheus",
        pod.namespace().unwrap_or_default(),
        pod.name_any()
    );
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    let asked = tokio::time::timeout(DEADLINE, cluster.client.request_text(request)).await;
    match asked {
        Ok(Ok(text)) => Ok(read(&text)),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}

/// In Prometheus' text form. The filter's labels stand in the names of its metrics, unless Istio
/// was told to take them out: so the side is looked for in both.
fn read(text: &str) -> Said {
    let mut said = Said::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let value = value.parse::<f64>().unwrap_or_default().max(0.0) as u64;
        if let Some((_, labels)) = name.split_once(GENERATION) {
            let sides = ["client", "server"];
            let side = sides.into_iter().find(|side| labels.contains(side));
            said.generations
                .extend(side.map(|side| (side.to_owned(), value)));
        } else if name.starts_with(FETCHES) && name.contains("failure") {
            said.failed_fetches = said.failed_fetches.saturating_add(value);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text = "# TYPE envoy_wasmcustom_spillway_config_generation gauge\n\
            envoy_wasmcustom_spillway_config_generation_side___client____{} 7\n\
            envoy_wasmcustom_spillway_config_generation{side=\"server\"} 3\n\
            istio_agent_wasm_remote_fetch_count{result=\"download_failure\"} 2\n\
            istio_agent_wasm_remote_fetch_count{result=\"success\"} 1\n";
        let said = read(text);
        assert_eq!(
            said.generations,
            [("client".to_owned(), 7), ("server".to_owned(), 3)]
        );
        assert_eq!(said.failed_fetches, 2);
        assert_eq!(read("envoy_server_live{} 1\n"), Said::default());
    }
}
