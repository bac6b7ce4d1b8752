//! The program as it is installed: replicas of the real binary, with the rights that the charts
//! give, on real API servers and with a real registry.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot begin has failed"
)]

#[path = "../fixtures/mod.rs"]
mod fixtures;
mod pause;
mod replica;
mod replicas;
mod rights;
mod world;
