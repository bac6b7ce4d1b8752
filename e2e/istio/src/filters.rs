//! What a sidecar runs under the names of our plugins.

use std::fs;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::pod::Pod;

/// What Envoy was given for a WasmPlugin.
#[derive(Clone, Debug)]
pub struct Filter {
    /// With the plugin's name in it.
    pub name: String,
    /// The module, by the file that the agent keeps it in: it is named by the image's digest.
    /// Nothing where the agent could not fetch it.
    pub module: Option<String>,
    /// When Envoy was given it.
    pub updated: Timestamp,
}

impl Pod {
    /// The filters of ours in a sidecar, also those that are replaced by nothing.
    ///
    /// # Errors
    /// When Envoy does not answer, or otherwise than it should.
    pub async fn filters(&self) -> Result<Vec<Filter>> {
        // Asked for these alone, Envoy answers with an error where there are none.
        let dump: Value = serde_json::from_str(&self.admin("/config_dump").await?)?;
        let parts = dump.get("configs").and_then(Value::as_array);
        let parts = parts.into_iter().flatten();
        let all = parts.filter_map(|part| part.get("ecds_filters")?.as_array());
        let filters = all.flatten().map(filter);
        let filters: Vec<Filter> = filters.collect::<Result<_>>()?;
        let ours = |filter: &Filter| filter.name.contains("spillway-");
        Ok(filters.into_iter().filter(ours).collect())
    }

    /// How many images its agent keeps.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn kept_images(&self) -> Result<usize> {
        let mut kept = 0;
        for name in fs::read_dir(self.folder().join("data"))? {
            let path = name?.path();
            if path.is_dir() {
                kept += fs::read_dir(path)?.count();
            }
        }
        Ok(kept)
    }
}

fn filter(config: &Value) -> Result<Filter> {
    let text = |path: &str| config.pointer(path).and_then(Value::as_str);
    let module = text("/ecds_filter/typed_config/config/vm_config/code/local/filename");
    Ok(Filter {
        name: text("/ecds_filter/name")
            .context("a filter without a name")?
            .to_owned(),
        module: module.map(str::to_owned),
        updated: text("/last_updated").context("never updated")?.parse()?,
    })
}
