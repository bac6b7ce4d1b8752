//! Files that Envoy watches.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{DEADLINE, Sidecar};
use crate::locks::locked;
use crate::policy::Side;

/// A change that Envoy has not yet been seen to take over: this counter will rise above its value
/// before the change.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    counter: String,
    before: u64,
}

/// How often Envoy has taken over and refused a plugin.
#[derive(Clone, Copy, Debug)]
pub(super) struct PluginCounters {
    reloads: u64,
    refusals: u64,
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
        let before = match &self.process {
            Some(_) => Some(self.plugin_counters(side).await?),
            None => None,
        };
        if self.write(&crate::listeners::plugin_file(side), &[plugin])?
            && let Some(before) = before
        {
            locked(&self.plugin_updates).insert(side, before);
        }
        Ok(())
    }

    /// Waits until every worker thread has the plugins that were written last.
    ///
    /// # Errors
    /// When Envoy refuses one, for example since its code is no module (then the one before stays
    /// in force), or does not take it over in time.
    pub async fn wait_plugins(&self) -> Result<()> {
        if self.process.is_none() {
            return Ok(());
        }
        let updates = locked(&self.plugin_updates).clone();
        for (side, before) in updates {
            let begin = Instant::now();
            let problem = loop {
                let now = self.plugin_counters(side).await?;
                if now.refusals > before.refusals {
                    break Some("refuses");
                }
                if now.reloads > before.reloads {
                    break None;
                }
                if begin.elapsed() > DEADLINE {
                    break Some("does not take over");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            locked(&self.plugin_updates).remove(&side);
            if let Some(problem) = problem {
                bail!(
                    "{} {problem} {}: {}",
                    self.name(),
                    side.plugin(),
                    self.end_of_log()
                );
            }
        }
        Ok(())
    }

    /// Both counters at one instant: Envoy counts a reload when all its threads have taken a plugin
    /// over, and also when it has refused one.
    async fn plugin_counters(&self, side: Side) -> Result<PluginCounters> {
        let prefix = format!(
            "extension_config_discovery.http_filter.{}.config_",
            side.plugin()
        );
        let stats = self
            .stats(&format!("^{}", prefix.replace('.', "\\.")))
            .await?;
        let count = |name: &str| stats.get(&format!("{prefix}{name}")).copied().unwrap_or(0);
        Ok(PluginCounters {
            reloads: count("reload"),
            refusals: count("fail"),
        })
    }
}
