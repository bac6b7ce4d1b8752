//! The built filter, rule by rule, through the ABI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

mod caller;
mod concurrency;
mod configuration;
mod cost;
mod faults;
mod gate;
mod hostile;
mod life;
mod mesh;
mod module;
mod records;
mod rungs;
mod scale;
mod server;
mod shadow;
mod sidecar;
mod switch;
mod switch_service;
