//! What the controller rendered into a folder, given to sidecars.
//!
//! `spillway-controller --source DIR --target DIR` writes the objects of every control plane as
//! files (`TARGET/CLUSTER/NAMESPACE/KIND-NAME.yaml`). Here they are read as an istiod reads them:
//! DestinationRules become the subsets of a service and VirtualServices its routes, WasmPlugins the
//! configuration of the filter. What this reading does not know is an error and is not passed over:
//! a mesh that runs from these files shows what they say, all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::policy::Side;
use crate::topology::{self, Service};

/// The objects of every control plane, by cluster.
#[derive(Clone, Debug, Default)]
pub struct Rendered(BTreeMap<String, ControlPlane>);

#[derive(Clone, Debug, Default)]
struct ControlPlane {
    plugins: BTreeMap<Side, Value>,
    rules: Vec<DestinationRule>,
    routes: Vec<VirtualService>,
}

/// What a service's VirtualService and DestinationRule say together.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The service with this routing.
    pub service: Service,
    /// The tokens by which its routes know requests that have left home.
    pub tokens: Vec<String>,
}

impl Rendered {
    /// Reads a target.
    ///
    /// # Errors
    /// When a file cannot be read, or holds something that no sidecar here can be given.
    pub fn read(target: &Path) -> Result<Self> {
        let mut planes = BTreeMap::new();
        for folder in entries(target)?.into_iter().filter(|path| path.is_dir()) {
            let mut plane = ControlPlane::default();
            for namespace in entries(&folder)? {
                for file in entries(&namespace)? {
                    plane
                        .take(&file)
                        .with_context(|| file.display().to_string())?;
                }
            }
            let name = folder.file_name().unwrap_or_default();
            planes.insert(name.to_string_lossy().into_owned(), plane);
        }
        Ok(Self(planes))
    }

    /// A service as callers in a cluster see it.
    ///
    /// # Errors
    /// When the cluster's control plane has no routing for it, or one that contradicts itself.
    pub fn routing(&self, cluster: &str, service: &Service) -> Result<Routing> {
        let plane = self.plane(cluster)?;
        let host = &service.host;
        let rule = plane.rules.iter().find(|rule| rule.host == *host);
        let rule = rule.with_context(|| format!("no DestinationRule for {host} in {cluster}"))?;
        let routes = plane
            .routes
            .iter()
            .find(|routes| routes.hosts.contains(host));
        let routes =
            routes.with_context(|| format!("no VirtualService for {host} in {cluster}"))?;
        routing(rule, routes, service)
            .with_context(|| format!("the routing of {host} in {cluster}"))
    }

    /// The plugin configuration of one side in a cluster.
    ///
    /// # Errors
    /// When there is none.
    pub fn plugin(&self, cluster: &str, side: Side) -> Result<&Value> {
        let plugin = self.plane(cluster)?.plugins.get(&side);
        plugin.with_context(|| format!("no WasmPlugin {} in {cluster}", side.plugin()))
    }

    /// Counts the changes of a side's plugin configuration in a cluster.
    ///
    /// # Errors
    /// When there is none.
    pub fn generation(&self, cluster: &str, side: Side) -> Result<u64> {
        let generation = self
            .plugin(cluster, side)?
            .get("generation")
            .and_then(Value::as_u64);
        generation.context("a plugin configuration has no generation")
    }

    fn plane(&self, cluster: &str) -> Result<&ControlPlane> {
        self.0
            .get(cluster)
            .with_context(|| format!("nothing was rendered for {cluster}"))
    }
}

impl ControlPlane {
    fn take(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file)?;
        let object: Object = serde_saphyr::from_str(&text)?;
        match object.kind.as_str() {
            "DestinationRule" => self.rules.push(serde_json::from_value(object.spec)?),
            "VirtualService" => self.routes.push(serde_json::from_value(object.spec)?),
            "WasmPlugin" => {
                let plugin: WasmPlugin = serde_json::from_value(object.spec)?;
                let side = plugin
                    .plugin_config
                    .get("side")
                    .cloned()
                    .unwrap_or_default();
                self.plugins
                    .insert(serde_json::from_value(side)?, plugin.plugin_config);
            }
            other => anyhow::bail!("sidecars get nothing from a {other}"),
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Object {
    kind: String,
    spec: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WasmPlugin {
    plugin_config: Value,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DestinationRule {
    host: String,
    #[serde(rename = "exportTo")]
    _export_to: Vec<String>,
    subsets: Vec<Subset>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Subset {
    name: String,
    traffic_policy: TrafficPolicy,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrafficPolicy {
    load_balancer: LoadBalancer,
    outlier_detection: OutlierDetection,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoadBalancer {
    locality_lb_setting: LocalityLbSetting,
    simple: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LocalityLbSetting {
    failover_priority: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OutlierDetection {
    #[serde(rename = "consecutive5xxErrors")]
    consecutive_5xx_errors: Option<u32>,
    consecutive_gateway_errors: Option<u32>,
    interval: Option<String>,
    base_ejection_time: Option<String>,
    max_ejection_percent: Option<u32>,
    #[serde(default)]
    min_health_percent: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VirtualService {
    hosts: Vec<String>,
    #[serde(rename = "exportTo")]
    _export_to: Vec<String>,
    http: Vec<Route>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Route {
    name: String,
    #[serde(default, rename = "match")]
    matches: Vec<Match>,
    headers: Option<Headers>,
    retries: Option<Retries>,
    route: Vec<Weighted>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    headers: BTreeMap<String, Prefix>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefix {
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    request: Request,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    set: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Retries {
    attempts: u32,
    retry_on: String,
    #[serde(default)]
    retry_remote_localities: bool,
    backoff: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    destination: Destination,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    host: String,
    subset: String,
}

/// The header by which a request that has left home finds its route.
const HEADER: &str = "x-spillway";
/// The label by which a subset prefers the endpoints of a cluster.
const CLUSTER: &str = "topology.istio.io/cluster=";
/// The route of requests that stay.
const HOME: &str = "spillway-home";
/// The headers by which a route lets Envoy repeat what a full service turned away.
const BOUNCE: [(&str, &str); 2] = [
    ("x-envoy-retriable-header-names", "x-spillway-bounce"),
    ("x-envoy-retry-on", "retriable-headers"),
];

fn routing(rule: &DestinationRule, routes: &VirtualService, service: &Service) -> Result<Routing> {
    let mut subsets = BTreeMap::new();
    for subset in &rule.subsets {
        let balancer = &subset.traffic_policy.load_balancer;
        let [first] = balancer.locality_lb_setting.failover_priority.as_slice() else {
            anyhow::bail!("the subset {} does not prefer one cluster", subset.name);
        };
        let cluster = first.strip_prefix(CLUSTER);
        let cluster =
            cluster.with_context(|| format!("{} prefers {first}, no cluster", subset.name))?;
        ensure!(
            balancer.simple == "LEAST_REQUEST",
            "{} balances otherwise",
            subset.name
        );
        subsets.insert(subset.name.as_str(), cluster.to_owned());
    }
    let (rungs, tokens) = rungs(routes, &subsets, &service.host)?;
    let home = subsets.get(HOME).context("no subset for home")?;
    let route = routes.http.first().context("no route")?;
    ensure!(
        routes
            .http
            .iter()
            .all(|other| (&other.retries, &other.headers) == (&route.retries, &route.headers)),
        "the routes differ in their retries"
    );
    let outlier = &rule
        .subsets
        .first()
        .context("no subset")?
        .traffic_policy
        .outlier_detection;
    ensure!(
        rule.subsets
            .iter()
            .all(|other| other.traffic_policy.outlier_detection == *outlier),
        "the subsets differ in their outlier detection"
    );
    let bounces = match &route.headers {
        None => false,
        Some(headers) => {
            let bounce = BOUNCE.map(|(name, value)| (name.to_owned(), value.to_owned()));
            ensure!(
                headers.request.set == BTreeMap::from(bounce),
                "the routes set other headers"
            );
            true
        }
    };
    let service = service.clone().with(|service| {
        service.home = Some(home.clone());
        service.rungs = Some(rungs);
        service.bounce_headers = bounces;
    });
    Ok(Routing {
        service: Service {
            retries: route.retries.as_ref().map(retries).transpose()?,
            outlier_detection: Some(outlier_detection(outlier)?),
            ..service
        },
        tokens,
    })
}

/// The clusters that have a route, in order, and the tokens of the routes.
fn rungs(
    routes: &VirtualService,
    subsets: &BTreeMap<&str, String>,
    host: &str,
) -> Result<(Vec<String>, Vec<String>)> {
    let (mut rungs, mut tokens) = (Vec::new(), Vec::new());
    for route in &routes.http {
        let [Weighted { destination }] = route.route.as_slice() else {
            anyhow::bail!("the route {} has several destinations", route.name);
        };
        ensure!(
            destination.host == host,
            "the route {} leads elsewhere",
            route.name
        );
        let cluster = subsets.get(destination.subset.as_str());
        let cluster =
            cluster.with_context(|| format!("{} leads to no subset that there is", route.name))?;
        if route.matches.is_empty() {
            ensure!(
                destination.subset == HOME,
                "what matches no rung leaves home"
            );
            continue;
        }
        if !rungs.contains(cluster) {
            rungs.push(cluster.clone());
        }
        for matched in &route.matches {
            let prefix = matched
                .headers
                .get(HEADER)
                .filter(|_| matched.headers.len() == 1);
            let prefix = prefix
                .with_context(|| format!("the route {} matches something else", route.name))?;
            let token = prefix
                .prefix
                .strip_prefix(cluster.as_str())
                .and_then(|rest| rest.strip_prefix(';')?.strip_suffix(';'));
            let token = token
                .with_context(|| format!("the route {} is not of {cluster}", route.name))?
                .to_owned();
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    Ok((rungs, tokens))
}

fn retries(retries: &Retries) -> Result<topology::Retries> {
    Ok(topology::Retries {
        attempts: retries.attempts,
        retry_on: retries.retry_on.clone(),
        // What istiod writes for it.
        update_frequency: retries.retry_remote_localities.then_some(2),
        // Envoy's default.
        backoff: optional(retries.backoff.as_ref())?.unwrap_or(Duration::from_millis(25)),
    })
}

fn outlier_detection(outlier: &OutlierDetection) -> Result<topology::OutlierDetection> {
    Ok(topology::OutlierDetection {
        consecutive_5xx_errors: outlier.consecutive_5xx_errors,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        interval: optional(outlier.interval.as_ref())?,
        base_ejection_time: optional(outlier.base_ejection_time.as_ref())?,
        max_ejection_percent: outlier.max_ejection_percent,
        min_health_percent: outlier.min_health_percent,
    })
}

fn optional(text: Option<&String>) -> Result<Option<Duration>> {
    text.map(|text| duration(text)).transpose()
}

/// A number and its unit, `ms` or `s`.
fn duration(text: &str) -> Result<Duration> {
    let milliseconds = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => number.parse::<u64>()?,
        (None, Some(number)) => number.parse::<u64>()?.saturating_mul(1000),
        _ => anyhow::bail!("{text} is no time"),
    };
    Ok(Duration::from_millis(milliseconds))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut all: Vec<PathBuf> = all
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    all.sort();
    Ok(all)
}
