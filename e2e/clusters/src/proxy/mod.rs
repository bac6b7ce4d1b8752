//! A proxy before an API server, which misbehaves on demand.
//!
//! What a network or a sick API server does to a client and [`crate::Server`] cannot: refuse
//! connections while the server runs, and answer single requests with an error. It also writes
//! down what was asked ([`FaultProxy::seen`]).
//!
//! It ends TLS with the cluster's own certificate, so that a client sees no difference. Tokens are
//! passed on. A client certificate cannot be, so the proxy speaks as an administrator who
//! impersonates its user. One difference remains: an expired certificate ends the handshake here,
//! where an API server answers 401.

mod answer;
mod faults;
mod listen;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use anyhow::Result;
use hyper::StatusCode;
use kube::Client;
use kube::config::AuthInfo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use self::faults::Faults;
pub use self::faults::{Requests, Seen};
use crate::certificates::Authority;
use crate::cluster::{Cluster, client, config, kubeconfig};
use crate::identity::{Identity, User};

/// What all connections share.
struct Shared {
    tls: TlsAcceptor,
    authority: Arc<Authority>,
    /// Speaks for the users of client certificates.
    admin: Client,
    /// Adds nothing to the client's own token.
    anonymous: Client,
    faults: Faults,
    hangs: watch::Sender<bool>,
    /// How many are open now.
    connections: AtomicUsize,
    /// What it says to be of; the API server's own where it is nothing.
    version: std::sync::Mutex<Option<String>>,
}

/// A proxy before one API server; ends when dropped.
pub struct FaultProxy {
    cluster: String,
    url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Accepts connections and owns them; none while they are refused.
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl FaultProxy {
    /// With these versions of HTTP, by their names in ALPN.
    pub(crate) async fn start(cluster: &Cluster, versions: &[&[u8]]) -> Result<Self> {
        let listener = TcpListener::bind((cluster.address, 0)).await?;
        let address = listener.local_addr()?;
        let mut nobody = config(&cluster.kubeconfig(User::admin())?)?;
        nobody.auth_info = AuthInfo::default();
        let shared = Arc::new(Shared {
            tls: tls::acceptor(&cluster.authority, &cluster.certificate, versions)?,
            authority: cluster.authority.clone(),
            admin: cluster.client(User::admin())?,
            anonymous: Client::try_from(nobody)?,
            faults: Faults::default(),
            hangs: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            version: std::sync::Mutex::default(),
        });
        let accepting = tokio::spawn(listen::accept(listener, shared.clone()));
        Ok(Self {
            cluster: cluster.name().to_owned(),
            url: format!("https://{address}"),
            address,
            shared,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Where it listens: `https://ADDRESS:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A kubeconfig that leads through the proxy: as [`Cluster::kubeconfig`].
    ///
    /// # Errors
    /// As [`Cluster::kubeconfig`].
    pub fn kubeconfig(&self, identity: impl Into<Identity>) -> Result<String> {
        kubeconfig(
            &self.cluster,
            &self.url,
            &self.shared.authority,
            identity.into(),
        )
    }

    /// A client that goes through the proxy: as [`Cluster::client`].
    ///
    /// # Errors
    /// As [`Cluster::client`].
    pub fn client(&self, identity: impl Into<Identity>) -> Result<Client> {
        client(&self.kubeconfig(identity)?)
    }

    /// Lets connections be made and never answered, as those that there are already, watches and
    /// the pings of HTTP/2 included; until [`FaultProxy::resume`].
    pub fn hang(&self) {
        self.shared.hangs.send_replace(true);
    }

    /// Goes on with all that hangs.
    pub fn resume(&self) {
        self.shared.hangs.send_replace(false);
    }

    /// Cuts every connection and refuses new ones, until [`FaultProxy::accept`].
    pub async fn refuse(&self) {
        if let Some(task) = self.accepting.lock().await.take() {
            task.abort();
            // Cancelled: now listener and connections are closed.
            let _ = task.await;
        }
    }

    /// Accepts connections again, at the same address.
    ///
    /// # Errors
    /// When somebody else has taken it meanwhile.
    pub async fn accept(&self) -> Result<()> {
        let mut accepting = self.accepting.lock().await;
        if accepting.is_none() {
            let listener = TcpListener::bind(self.address).await?;
            *accepting = Some(tokio::spawn(listen::accept(listener, self.shared.clone())));
        }
        Ok(())
    }

    /// Answers the next `times` of these requests with an error, in the form of an API server, and
    /// does not pass them on. Of several that meet, the one said first counts first. 429 comes with
    /// `Retry-After: 1`.
    pub fn fail_next(&self, times: usize, requests: Requests, status: StatusCode) {
        self.shared.faults.add(times, requests, status);
    }

    /// Takes back what is left of all [`FaultProxy::fail_next`].
    pub fn fail_no_more(&self) {
        self.shared.faults.clear();
    }

    /// How many connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Lets the API server say to be of this version, such as `v1.29.0`; with nothing, of its own.
    pub fn pretend_version(&self, version: Option<&str>) {
        let mut told = self
            .shared
            .version
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *told = version.map(str::to_owned);
    }

    /// Every request since the start, in the order of their arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.faults.seen()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.get_mut().take() {
            task.abort();
        }
    }
}
