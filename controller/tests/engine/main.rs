//! The engine on real API servers: what clusters have after a policy, a restart, a drift, a fault.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot begin has failed"
)]

mod apply;
mod claims;
mod connections;
mod discovery;
mod faults;
mod fights;
#[path = "../fixtures/mod.rs"]
mod fixtures;
mod gone;
mod health;
mod hub;
mod late;
mod policies;
mod program;
mod render;
mod renewal;
mod tokens;
mod versions;
mod world;
