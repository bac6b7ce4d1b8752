//! Real Kubernetes API servers for the tests: any number of clusters on one etcd.
//!
//! What a controller promises, it promises of API servers: that a bad object is refused, that an
//! apply merges, that a watch goes on after a break, that an account may do no more than its role
//! says. A stand-in would answer what its author believes. So the tests run the servers themselves,
//! as plain processes on loopback addresses, without containers.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use spillway_clusters::{Clusters, User};
//!
//! let clusters = Clusters::start(&["hub", "burst"]).await?;
//! let hub = clusters.cluster("hub")?;
//! hub.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}").await?;
//! let kubeconfig = hub.kubeconfig(User::admin())?;
//! hub.api_server().restart().await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Clusters`]: starts them all; their etcd
//! - [`Cluster`]: one of them: its address, users, objects and kubeconfigs
//! - [`Identity`] and [`User`]: who speaks to it
//! - [`Server`]: a process that can be killed, paused and started again in its place
//! - [`FaultProxy`]: stands before an API server and misbehaves on demand
//! - [`programs`]: where the binaries are found
//! - [`registry`]: a container registry, for what wants an image
//! - [`definition`], [`merge`]: objects that several suites write
//!
//! There are no nodes and, unless [`Cluster::start_controllers`] is called, no controllers either:
//! a deleted namespace stays `Terminating`, nothing collects what an owner leaves behind, and
//! nobody writes a service's EndpointSlices.
//!
//! Nothing outlives the process that started it, however it ends ([`spillway_e2e::process`]).

mod certificates;
mod cluster;
mod clusters;
mod controllers;
mod identity;
mod kubectl;
mod manifests;
mod objects;
pub mod programs;
mod proxy;
pub mod registry;
mod server;

pub use hyper::{Method, StatusCode};

pub use self::cluster::Cluster;
pub use self::clusters::Clusters;
pub use self::identity::{Identity, User};
pub use self::manifests::apply;
pub use self::objects::{definition, merge};
pub use self::proxy::{FaultProxy, Requests, Seen};
pub use self::server::Server;
