//! The CustomResourceDefinitions, as the chart installs them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::{BurstPolicy, Fleet, MeshCluster};

/// All of them, in the order in which people meet them.
///
/// # Errors
/// Never in practice: a definition that was made cannot be read again.
pub fn all() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [BurstPolicy::crd(), Fleet::crd(), MeshCluster::crd()]
        .into_iter()
        .map(strict)
        .collect()
}

/// A field that is left out is one thing and null another: the derive makes every optional field
/// nullable, and a null would then pass all rules that ask whether the field is there. It also
/// writes Rust's names of integers as formats, which the API server warns about.
fn strict(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    clean(&mut value);
    serde_json::from_value(value)
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            if fields
                .get("format")
                .is_some_and(|format| format == "uint32")
            {
                fields.remove("format");
            }
            fields.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}
