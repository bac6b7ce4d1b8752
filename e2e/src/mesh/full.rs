//! A service at its limit without any load on the machine.
//!
//! A gate of one request an hour that was filled once stays full for as long as a test runs. The
//! requests that fill it come past every caller's sidecar, so that callers know nothing: each of
//! their requests goes home first, and whether it is bounced from there is no matter of chance.

use anyhow::{Result, ensure};

use super::Mesh;
use crate::client::{Call, HttpClient};

/// The rate of a gate that is to stay full.
pub const HOURLY: &str = "1/h";

/// More than the burst tolerance of such a gate, which is at most 15.
const FILL: usize = 20;

impl Mesh {
    /// Fills the gate of every endpoint in a cluster; the policy in force must give it the rate
    /// [`HOURLY`]. Applications forget the requests.
    ///
    /// # Errors
    /// When one is not served.
    pub async fn fill(&self, cluster: &str) -> Result<()> {
        for endpoint in self.endpoints(cluster) {
            let client = HttpClient::new(&endpoint.inbound());
            for _ in 0..FILL {
                let answer = client.call(&Call::get("/fill")).await?;
                ensure!(answer.status.as_u16() == 200, "{answer:?}");
            }
            endpoint.app.forget();
        }
        Ok(())
    }
}
