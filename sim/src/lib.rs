//! Discrete-event simulation of Spillway: callers, endpoints and Envoy's retries around the very
//! decisions that ship ([`spillway_core`]), with a virtual clock.
//!
//! People choose limits and the project chooses constants with it, so it has to be fast enough to
//! try many (more than ten million requests a minute on one core), and the same on every machine: a
//! run is a function of its [`Scenario`], the seed included. [`run()`]
//! tells what of Envoy is modelled, [`suite`] what must hold.

mod caller_side;
mod callers;
mod change;
mod deciding;
mod demand;
mod endpoint;
mod events;
pub mod figures;
mod measure;
pub mod page;
pub mod plot;
mod random;
pub mod replay;
mod requests;
mod run;
mod scenario;
pub mod series;
mod server_side;
mod sharing;
mod start;
pub mod study;
pub mod suite;
pub mod table;
pub mod watcher;

pub use demand::{Bursts, Demand};
pub use figures::Figure;
pub use measure::{BIN, Latency, Measured, OfCaller, Series};
pub use run::{Outcome, run};
pub use scenario::{
    Autoscaler, Balancing, Callers, Change, Claim, Cluster, Gateway, Limit, Network, Patience,
    Scenario, Scheme, Service, Takes, tolerant,
};
