//! Files that Envoy watches.

use anyhow::Result;
use serde_json::{Value, json};

use super::Sidecar;
use crate::locks::locked;
use crate::policy::Side;

/// A change that Envoy has not yet been seen to take over: this counter will rise above its value
/// before the change.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    counter: String,
    before: u64,
}

impl Sidecar {
    /// Replaces a file of resources as a whole; tells whether its content changed. Envoy notices,
    /// but not before this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &str, resources: &[Value]) -> Result<bool> {
        let path = self.folder.join(file);
        let text = json!({"resources": resources}).to_string();
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        let new = self.folder.join(format!("{file}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)?;
        Ok(true)
    }

    /// As [`Self::write`], and where Envoy runs and something changed, waits until this counter of
    /// updates has risen.
    ///
    /// # Errors
    /// When it cannot be written, or Envoy does not take it over in time.
    pub async fn push(&self, file: &str, resources: &[Value], counter: &str) -> Result<()> {
        match self.replace(file, resources, counter).await? {
            Some(update) => self.wait_update(&update).await,
            None => Ok(()),
        }
    }

    /// As [`Self::push`], but the waiting is left to [`Self::wait_update`].
    pub(crate) async fn replace(
        &self,
        file: &str,
        resources: &[Value],
        counter: &str,
    ) -> Result<Option<Update>> {
        let before = match &self.process {
            Some(_) => Some(self.stat(counter).await?),
            None => None,
        };
        let changed = self.write(file, resources)?;
        let update = |before| Update {
            counter: counter.to_owned(),
            before,
        };
        Ok(before.filter(|_| changed).map(update))
    }

    pub(crate) async fn wait_update(&self, update: &Update) -> Result<()> {
        self.wait_stat(&update.counter, |now| now > update.before)
            .await?;
        Ok(())
    }

    /// Waits until this gauge of what is being prepared is 0, where Envoy runs.
    pub(crate) async fn wait_warm(&self, gauge: &str) -> Result<()> {
        if self.process.is_some() {
            self.wait_stat(gauge, |warming| warming == 0).await?;
        }
        Ok(())
    }

    /// Replaces a plugin; [`Self::wait_plugins`] waits until it is in force.
    pub(crate) async fn write_plugin(&self, side: Side, plugin: Value) -> Result<()> {
        let file = crate::listeners::plugin_file(side);
        if let Some(update) = self
            .replace(&file, &[plugin], &reload_counter(side))
            .await?
        {
            locked(&self.reloads).insert(side, update);
        }
        Ok(())
    }

    /// Waits until every worker thread has the plugins that were written last. Envoy counts a
    /// reload only when all threads have taken it over.
    ///
    /// # Errors
    /// When Envoy does not take them over in time, for example since the code is no module.
    pub async fn wait_plugins(&self) -> Result<()> {
        if self.process.is_none() {
            return Ok(());
        }
        let updates = locked(&self.reloads).clone();
        for (side, update) in updates {
            self.wait_update(&update).await?;
            locked(&self.reloads).remove(&side);
        }
        Ok(())
    }
}

fn reload_counter(side: Side) -> String {
    format!(
        "extension_config_discovery.http_filter.{}.config_reload",
        side.plugin()
    )
}
