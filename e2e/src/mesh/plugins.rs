//! Plugins: what the controller writes, and what it never would.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Mesh;
use crate::listeners::{self, Configuration};
use crate::policy::{Policies, Side};
use crate::rendered::Rendered;
use crate::sidecar::{DEADLINE, Sidecar};

/// The metric that tells the generation of the configuration in force.
pub const GENERATION: &str = "wasmcustom.spillway_config_generation";

impl Mesh {
    /// Gives every plugin these policies, as the next generation, which is returned. Where the
    /// tokens changed, routes are changed first, as the controller does.
    ///
    /// # Errors
    /// When files cannot be written.
    pub async fn apply(&mut self, policies: &Policies) -> Result<u64> {
        self.policies = policies.clone();
        self.generation += 1;
        if self.topology.tokens != policies.tokens {
            self.topology.tokens.clone_from(&policies.tokens);
            for sidecar in self.sidecars() {
                self.configure_routes(sidecar).await?;
            }
        }
        self.write_plugins(|_, side| self.document(side)).await?;
        Ok(self.generation)
    }

    /// Gives every sidecar what the controller rendered for its cluster, and waits until all of it
    /// is in force. Routes come before plugins, as the controller writes them; they are those that
    /// callers in `callers` see.
    ///
    /// # Errors
    /// When something was not rendered, or a sidecar does not take it in time.
    pub async fn follow(&mut self, rendered: &Rendered, callers: &str) -> Result<()> {
        for service in &mut self.topology.services {
            let routing = rendered.routing(callers, service)?;
            *service = routing.service;
            self.topology.tokens = routing.tokens;
        }
        for sidecar in self.sidecars().filter(|one| one.is_outbound()) {
            self.configure(sidecar).await?;
        }
        let mut documents = BTreeMap::new();
        for sidecar in self.sidecars() {
            for side in sidecar.sides() {
                let document = rendered.plugin(sidecar.cluster(), *side)?;
                documents.insert((sidecar.cluster().to_owned(), *side), document.to_string());
            }
        }
        self.write_plugins(|sidecar, side| {
            let document = documents.get(&(sidecar.cluster().to_owned(), side));
            Configuration::Text(document.cloned().unwrap_or_default())
        })
        .await?;
        self.wait_plugins().await?;
        for sidecar in self.running() {
            let sides = sidecar.sides().iter();
            let generations = sides.map(|side| rendered.generation(sidecar.cluster(), *side));
            let generations = generations.collect::<Result<Vec<_>>>()?;
            let first = generations.into_iter().min().unwrap_or_default();
            wait_generation(sidecar, first).await?;
        }
        Ok(())
    }

    /// Gives every plugin whatever `configuration` says, valid or not.
    ///
    /// # Errors
    /// When files cannot be written.
    pub async fn apply_raw(
        &mut self,
        configuration: impl Fn(&Sidecar, Side) -> Configuration,
    ) -> Result<()> {
        self.write_plugins(configuration).await
    }

    /// Replaces the code of every plugin by this file's.
    ///
    /// # Errors
    /// When there is no such file, or the mesh was started without a filter.
    pub async fn swap_filter(&mut self, code: &Path) -> Result<()> {
        let code = std::fs::read(code).with_context(|| format!("no {}", code.display()))?;
        self.swap_filter_bytes(&code).await
    }

    /// Replaces the code of every plugin by any bytes, even if they are no module.
    ///
    /// # Errors
    /// When the mesh was started without a filter.
    pub async fn swap_filter_bytes(&mut self, code: &[u8]) -> Result<()> {
        ensure!(self.code.is_some(), "the mesh was started without a filter");
        self.swaps += 1;
        let path = self
            .folder
            .path()
            .join(format!("filter-{}.wasm", self.swaps));
        std::fs::write(&path, code)?;
        self.code = Some(path);
        self.write_plugins(|_, side| self.document(side)).await
    }

    /// Waits until every plugin that was written is in force in all worker threads. It tells
    /// nothing of whether the filter accepted its configuration: see [`Self::wait_generation`].
    ///
    /// # Errors
    /// When one is not in time.
    pub async fn wait_plugins(&self) -> Result<()> {
        for sidecar in self.sidecars() {
            sidecar.wait_plugins().await?;
        }
        Ok(())
    }

    /// Waits until every running sidecar with the filter shows this generation, in all its
    /// threads.
    ///
    /// # Errors
    /// When one does not in time.
    pub async fn wait_generation(&self, generation: u64) -> Result<()> {
        self.wait_plugins().await?;
        for sidecar in self.running() {
            wait_generation(sidecar, generation).await?;
        }
        Ok(())
    }

    /// The sidecars that run with the filter.
    fn running(&self) -> impl Iterator<Item = &Sidecar> {
        self.sidecars()
            .filter(|one| one.pid().is_some() && !one.sides().is_empty())
    }

    /// Gives a sidecar that has never run its plugins. Later ones come by the methods above only.
    pub(super) async fn write_first_plugins(&self, sidecar: &Sidecar) -> Result<()> {
        let Some(code) = &self.code else {
            return Ok(());
        };
        for side in sidecar.sides() {
            if !sidecar
                .folder()
                .join(listeners::plugin_file(*side))
                .exists()
            {
                let plugin = listeners::plugin(*side, code, &self.document(*side));
                sidecar.write_plugin(*side, plugin).await?;
            }
        }
        Ok(())
    }

    fn document(&self, side: Side) -> Configuration {
        Configuration::Text(self.policies.document(self.generation, side).to_string())
    }

    async fn write_plugins(
        &self,
        configuration: impl Fn(&Sidecar, Side) -> Configuration,
    ) -> Result<()> {
        let Some(code) = &self.code else {
            return Ok(());
        };
        for sidecar in self.sidecars() {
            for side in sidecar.sides() {
                let plugin = listeners::plugin(*side, code, &configuration(sidecar, *side));
                sidecar.write_plugin(*side, plugin).await?;
            }
        }
        Ok(())
    }
}

async fn wait_generation(sidecar: &Sidecar, generation: u64) -> Result<()> {
    let filter = format!("^{}", GENERATION.replace('.', "\\."));
    let begin = Instant::now();
    loop {
        let stats = sidecar.stats(&filter).await?;
        if !stats.is_empty() && stats.values().all(|shown| *shown >= generation) {
            return Ok(());
        }
        if begin.elapsed() > DEADLINE {
            let name = sidecar.name();
            bail!(
                "{name} shows {stats:?}, not {generation}; log: {}",
                sidecar.log()
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
