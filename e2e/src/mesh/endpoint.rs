//! An endpoint of a service.

use std::net::SocketAddr;

use anyhow::Result;

use crate::app::App;
use crate::client::Target;
use crate::sidecar::Sidecar;
use crate::topology::Announced;

/// An endpoint: an application with its sidecar.
#[derive(Debug)]
pub struct Endpoint {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// The application.
    pub app: App,
    pub(super) host: String,
    pub(super) app_port: u16,
}

impl Endpoint {
    /// The host of its service.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where its sidecar takes requests from the mesh: for requests that no caller's sidecar sends.
    #[must_use]
    pub fn inbound(&self) -> Target {
        Target {
            address: SocketAddr::from((self.sidecar.address(), self.app_port)),
            host: self.host.clone(),
            http2: false,
        }
    }

    /// Kills application and sidecar. Callers are not told; they find connections refused.
    pub async fn kill(&mut self) {
        self.sidecar.kill();
        self.app.stop().await;
    }

    /// Starts both again, at the same address.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.app.restart().await?;
        self.sidecar.start().await
    }

    pub(super) fn announced(&self) -> Announced {
        Announced {
            host: self.host.clone(),
            cluster: self.sidecar.cluster().to_owned(),
            address: self.sidecar.address(),
        }
    }
}
