//! What is compared: the filters of a proxy.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use spillway_e2e::artefacts;
use spillway_e2e::policy::{Policies, Policy, Side};

use crate::noop;
use crate::scene::Scene;

/// Whether a variant does what the filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// The same headers come and go.
    Same,
    /// Something else, or nothing.
    Other,
}

/// A proxy's filters.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    name: String,
    job: Job,
    /// For the caller's side, for the server's, and for the server's above the limit, where the
    /// variant has something to say there.
    filters: [Option<Vec<Value>>; 3],
}

/// The name of the filter itself in the results.
pub(crate) const FILTER: &str = "spillway";

impl Variant {
    /// All that are measured each time.
    ///
    /// # Errors
    /// When the filter is not built, or the empty one cannot be written to `folder`.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>> {
        let empty = folder.join("noop.wasm");
        std::fs::write(&empty, noop::module()?)?;
        Ok(vec![
            Self::none(),
            Self::empty(&empty),
            Self {
                name: "local-rate-limit".to_owned(),
                job: Job::Other,
                filters: [
                    None,
                    Some(vec![local_rate_limit(1_000_000, 100)]),
                    Some(vec![local_rate_limit(1, 50)]),
                ],
            },
            Self::lua(),
            Self::filter(FILTER, &artefacts::filter()?),
        ])
    }

    /// No filter.
    pub(crate) fn none() -> Self {
        Self {
            name: "none".to_owned(),
            job: Job::Other,
            filters: [Some(Vec::new()), Some(Vec::new()), None],
        }
    }

    /// The module that does nothing.
    pub(crate) fn empty(module: &Path) -> Self {
        let filter = vec![plugin("noop", module, "")];
        Self {
            name: "no-op".to_owned(),
            job: Job::Other,
            filters: [Some(filter.clone()), Some(filter), None],
        }
    }

    /// A build of the filter.
    pub(crate) fn filter(name: &str, code: &Path) -> Self {
        Self::with_policies(name, code, 1)
    }

    /// The same with so many policies, of which requests need one.
    pub(crate) fn with_policies(name: &str, code: &Path, policies: usize) -> Self {
        let of = |side: Side| plugin(side.plugin(), code, &document(side, 1, policies));
        let caller = of(Side::Client);
        let server = Some(vec![of(Side::Server)]);
        Self {
            name: name.to_owned(),
            job: Job::Same,
            filters: [Some(vec![caller]), server.clone(), server],
        }
    }

    /// The caller's side alone, whose plugin stands in a file that Envoy watches: see
    /// [`write_plugin`].
    pub(crate) fn discovered(name: &str, file: &Path) -> Self {
        let filter = json!({
            "name": Side::Client.plugin(),
            "config_discovery": {
                "config_source": {"path_config_source": {"path": file}, "resource_api_version": "V3"},
                "type_urls": [WASM],
            },
        });
        Self {
            name: name.to_owned(),
            job: Job::Same,
            filters: [Some(vec![filter]), None, None],
        }
    }

    fn lua() -> Self {
        let server = Some(vec![script(include_str!("server.lua"))]);
        Self {
            name: "lua".to_owned(),
            job: Job::Same,
            filters: [
                Some(vec![script(include_str!("caller.lua"))]),
                server.clone(),
                server,
            ],
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn job(&self) -> Job {
        self.job
    }

    /// Its filters in a scene.
    pub(crate) fn filters(&self, scene: Scene) -> Option<&[Value]> {
        let [caller, server, bounce] = &self.filters;
        let filters = match scene {
            Scene::CallerHome | Scene::CallerHomeQuiet => caller,
            Scene::ServerBelow => server,
            Scene::ServerBounce => bounce,
        };
        filters.as_deref()
    }

    pub(crate) fn serves(&self, scene: Scene) -> bool {
        self.filters(scene).is_some()
    }
}

/// Replaces the file of a discovered variant as a whole, which Envoy notices.
pub(crate) fn write_plugin(
    file: &Path,
    code: &Path,
    generation: u64,
    policies: usize,
) -> Result<()> {
    let document = document(Side::Client, generation, policies);
    let mut resource = plugin(Side::Client.plugin(), code, &document);
    if let Some(fields) = resource.as_object_mut() {
        fields.insert("@type".to_owned(), json!(TYPED_EXTENSION));
    }
    let new = file.with_extension("new");
    std::fs::write(&new, json!({"resources": [resource]}).to_string())?;
    Ok(std::fs::rename(new, file)?)
}

const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
const TYPED_EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// The plugin configuration: a policy whose limit is never reached, and one whose limit always is;
/// then those of other services, until there are so many of the caller's.
fn document(side: Side, generation: u64, policies: usize) -> String {
    let policy = |id: &str, rate: &str| {
        let policy = Policy::worker("primary", &["burst"]).rate_per_endpoint("primary", rate, 1);
        policy.with(|policy| {
            id.clone_into(&mut policy.id);
            policy.name = format!("default/{id}");
        })
    };
    let below = policy("below", "1000000/s");
    let others = (1..policies).map(|number| other(&format!("service-{number:04}"), &below));
    let mut policies = Policies::for_clusters(["primary", "burst"])
        .prefix("primary", "home-")
        .prefix("burst", "bursty-")
        .policy(below.clone());
    policies.policies.extend(others);
    if side == Side::Server {
        // Found by the header between the sidecars alone.
        let bounce = policy("bounce", "1/s").with(|policy| {
            policy.destinations.clear();
            policy.workload = None;
        });
        policies = policies.policy(bounce);
    }
    policies.document(generation, side).to_string()
}

/// A policy like this one of another service.
fn other(service: &str, policy: &Policy) -> Policy {
    policy.clone().with(|policy| {
        policy.id = format!("{service}-f8a1c18b6f");
        policy.name = format!("default/{service}");
        for destination in &mut policy.destinations {
            destination.host = format!("{service}.default.svc.cluster.local");
        }
        if let Some(workload) = &mut policy.workload {
            workload.labels = [("app".to_owned(), service.to_owned())].into();
        }
    })
}

fn plugin(name: &str, code: &Path, configuration: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": WASM,
            "config": {
                "name": name,
                "root_id": name,
                "failure_policy": "FAIL_OPEN",
                "vm_config": {
                    "vm_id": "",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": code}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
            },
        },
    })
}

fn script(source: &str) -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": source},
        },
    })
}

/// Envoy's own rate limit; above the limit it refuses the part `enforced` (percent).
fn local_rate_limit(rate: u32, enforced: u32) -> Value {
    let fraction = |numerator: u32| json!({"default_value": {"numerator": numerator}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "gate",
            "token_bucket": {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "1s"},
            "filter_enabled": fraction(100),
            "filter_enforced": fraction(enforced),
        },
    })
}
