//! The example resources in `wasmplugins/` are what the filter takes and what the routes match.

#![allow(clippy::indexing_slicing, reason = "all functions here are tests' own")]

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use spillway_core::config::{Config, Side};

fn documents(file: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../wasmplugins")
        .join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.split("\n---\n")
        .map(|part| Ok(serde_saphyr::from_str(part)?))
        .collect()
}

fn plugin(file: &str, mode: &str) -> Result<Value> {
    let plugin = documents(file)?.remove(0);
    assert_eq!(plugin["kind"], "WasmPlugin");
    assert_eq!(plugin["spec"]["failStrategy"], "FAIL_OPEN");
    assert_eq!(plugin["spec"]["match"][0]["mode"], mode);
    assert!(
        plugin["spec"].get("vmConfig").is_none(),
        "a changed environment resets the VM"
    );
    assert!(
        plugin["spec"]["url"]
            .as_str()
            .is_some_and(|url| url.contains("@sha256:")),
        "pinned by digest"
    );
    Ok(plugin["spec"]["pluginConfig"].clone())
}

#[test]
fn both_plugins_are_taken_and_agree() -> Result<()> {
    let mut client = plugin("worker-client.yaml", "CLIENT")?;
    let server = plugin("worker-server.yaml", "SERVER")?;
    for cluster in ["primary", "burst"] {
        let parsed = Config::parse(client.to_string().as_bytes(), cluster)?;
        assert_eq!((parsed.side, parsed.policies.len()), (Side::Client, 1));
        let parsed = Config::parse(server.to_string().as_bytes(), cluster)?;
        assert_eq!((parsed.side, parsed.policies.len()), (Side::Server, 1));
        assert_eq!(parsed.policies[0].capacity.is_some(), cluster == "primary");
    }
    client["side"] = "Server".into();
    assert_eq!(client, server, "only the side differs");
    Ok(())
}

#[test]
fn the_routes_match_the_header_and_lead_to_subsets_that_exist() -> Result<()> {
    let client = plugin("worker-client.yaml", "CLIENT")?;
    let token = client["tokens"][0].as_str().unwrap();
    let [rule, service] = &documents("worker-routes.yaml")?[..] else {
        anyhow::bail!("a DestinationRule and a VirtualService");
    };
    let subsets: Vec<_> = rule["spec"]["subsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    for route in service["spec"]["http"].as_array().unwrap() {
        let subset = &route["route"][0]["destination"]["subset"];
        assert!(subsets.contains(subset), "{subset}");
        assert_eq!(route["retries"]["retryRemoteLocalities"], true);
        let retriable = &route["headers"]["request"]["set"]["x-envoy-retriable-header-names"];
        assert_eq!(retriable, "x-spillway-bounce");
    }
    let matched = &service["spec"]["http"][0]["match"][0]["headers"]["x-spillway"]["prefix"];
    assert_eq!(matched, &format!("burst;{token};"));
    assert_eq!(
        service["spec"]["http"][0]["route"][0]["destination"]["subset"],
        "spillway-burst"
    );
    Ok(())
}
