//! Rates from Prometheus: one that is named, or the one that a cluster has.

use http_body_util::BodyExt as _;
use hyper::Request;
use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use kube::client::Body;
use kube::{Api, Client, Config, ResourceExt};
use serde::Deserialize;

use super::Decision;

/// By which the charts of Prometheus and Istio's own label its service.
const SELECTOR: &str = "app.kubernetes.io/name=prometheus";
/// Who decided what, a second, over the last minute. Labels are there where proxies have Istio's
/// `extraStatTags`.
const QUERY: &str = "sum by (service, reason, target) (rate({__name__=~\"(envoy_wasmcustom_)?spillway_decisions\"}[1m]))";

/// A Prometheus that can be asked.
pub(super) struct Prometheus {
    client: Client,
    /// Before the path of its interface.
    base: String,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: Decided,
    value: (f64, String),
}

#[derive(Deserialize)]
struct Decided {
    service: Option<String>,
    reason: Option<String>,
    target: Option<String>,
}

impl Prometheus {
    /// The one of this address.
    ///
    /// # Errors
    /// In words, when it is none.
    pub(super) fn at(url: &str) -> Result<Self, String> {
        let url = url
            .parse()
            .map_err(|error| format!("{url} is no URL: {error}"))?;
        // The client adds the path of the URL to every request.
        let client = Client::try_from(Config::new(url)).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            base: String::new(),
        })
    }

    /// The one of a cluster, through its API server; nothing where it has none.
    ///
    /// # Errors
    /// In words, when it cannot be looked for.
    pub(super) async fn of(client: &Client) -> Result<Option<Self>, String> {
        let services: Api<Service> = Api::all(client.clone());
        let found = services.list(&ListParams::default().labels(SELECTOR)).await;
        let found = found.map_err(|error| error.to_string())?;
        let base = found.items.iter().find_map(|service| {
            let ports = service.spec.as_ref()?.ports.as_ref()?;
            let port = ports.first()?.port;
            let (namespace, name) = (service.namespace()?, service.name_any());
            Some(format!(
                "/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy"
            ))
        });
        Ok(base.map(|base| Self {
            client: client.clone(),
            base,
        }))
    }

    /// Who decides what, a second.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn decisions(&self) -> Result<Vec<Decision>, String> {
        let query = encoded(QUERY);
        let uri = format!("{}/api/v1/query?query={query}", self.base);
        let request = Request::get(uri).body(Body::empty());
        let request = request.map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let Ok(answer) = serde_json::from_slice::<Answer>(&body) else {
            return Err(format!(
                "this is no Prometheus: it answers with the status {status}"
            ));
        };
        if answer.status != "success" {
            return Err(answer.error.unwrap_or(answer.status));
        }
        let series = answer.data.map(|data| data.result).unwrap_or_default();
        let decisions = series.into_iter().filter_map(|series| {
            Some(Decision {
                service: series.metric.service?,
                reason: series.metric.reason?,
                target: series.metric.target?,
                rate: series.value.1.parse().ok()?,
            })
        });
        Ok(decisions.collect())
    }
}

/// As it stands in a query of a URL.
fn encoded(text: &str) -> String {
    let one = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.as_bytes().iter().map(one).collect()
}
