//! Envoy's admin interface: statistics, configuration, memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hyper::Method;
use serde_json::Value;

use super::{DEADLINE, Sidecar};
use crate::client::Call;

impl Sidecar {
    /// Answers of the admin interface to a GET.
    ///
    /// # Errors
    /// When Envoy does not answer with success.
    pub async fn admin_get(&self, path: &str) -> Result<String> {
        self.admin_call(Call::get(path)).await
    }

    /// Answers of the admin interface to a POST.
    ///
    /// # Errors
    /// When Envoy does not answer with success.
    pub async fn admin_post(&self, path: &str) -> Result<String> {
        self.admin_call(Call {
            method: Method::POST,
            ..Call::get(path)
        })
        .await
    }

    async fn admin_call(&self, call: Call) -> Result<String> {
        let answer = self.admin.call(&call.timeout(DEADLINE)).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(
            answer.status.is_success(),
            "{}: {} {text}",
            self.name(),
            answer.status
        );
        Ok(text)
    }

    /// Counters and gauges whose name matches the regular expression.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let text = self
            .admin_get(&format!("/stats?filter={}", percent_encoded(filter)))
            .await?;
        let stats = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(stats.collect())
    }

    /// One counter or gauge; 0 when Envoy has none of this name.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let escaped: String = name
            .chars()
            .flat_map(|c| {
                let special = !c.is_ascii_alphanumeric() && c != '_';
                special.then_some('\\').into_iter().chain([c])
            })
            .collect();
        let stats = self.stats(&format!("^{escaped}$")).await?;
        Ok(stats.get(name).copied().unwrap_or(0))
    }

    /// All statistics in Prometheus' text form.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn prometheus(&self) -> Result<String> {
        self.admin_get("/stats/prometheus").await
    }

    /// The configuration that is in force, endpoints included.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn config_dump(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.admin_get("/config_dump?include_eds").await?,
        )?)
    }

    /// What Envoy's allocator says of its memory.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn memory(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin_get("/memory").await?)?)
    }

    /// Waits until the counter or gauge satisfies `wanted`; gives its value.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait_stat(&self, name: &str, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        let begin = Instant::now();
        loop {
            let value = self.stat(name).await?;
            if wanted(value) {
                return Ok(value);
            }
            if begin.elapsed() > DEADLINE {
                bail!(
                    "{}: {name} is still {value}; {}",
                    self.name(),
                    self.end_of_log()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Everything but letters and digits, as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
