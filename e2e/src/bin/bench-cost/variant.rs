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
        let empty = vec![plugin("noop", &empty, "")];
        Ok(vec![
            Self {
                name: "none".to_owned(),
                job: Job::Other,
                filters: [Some(Vec::new()), Some(Vec::new()), None],
            },
            Self {
                name: "no-op".to_owned(),
                job: Job::Other,
                filters: [Some(empty.clone()), Some(empty), None],
            },
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

    /// A build of the filter.
    pub(crate) fn filter(name: &str, code: &Path) -> Self {
        let caller = plugin("spillway-client", code, &document(Side::Client));
        let server = plugin("spillway-server", code, &document(Side::Server));
        let server = Some(vec![server]);
        Self {
            name: name.to_owned(),
            job: Job::Same,
            filters: [Some(vec![caller]), server.clone(), server],
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

/// The plugin configuration: a policy whose limit is never reached, and one whose limit always is.
fn document(side: Side) -> String {
    let policy = |id: &str, rate: &str| {
        let policy = Policy::worker("primary", &["burst"]).rate_per_endpoint("primary", rate, 1);
        policy.with(|policy| {
            id.clone_into(&mut policy.id);
            policy.name = format!("default/{id}");
        })
    };
    let below = policy("below", "1000000/s");
    let mut policies = Policies::for_clusters(["primary", "burst"])
        .prefix("primary", "home-")
        .prefix("burst", "bursty-")
        .policy(below);
    if side == Side::Server {
        // Found by the header between the sidecars alone.
        let bounce = policy("bounce", "1/s").with(|policy| {
            policy.destinations.clear();
            policy.workload = None;
        });
        policies = policies.policy(bounce);
    }
    policies.document(1, side).to_string()
}

fn plugin(name: &str, code: &Path, configuration: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
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
