//! The shared cases and the properties, on the machine that builds.
#![cfg(not(target_arch = "wasm32"))]
// Helpers of tests may fail by panicking, as tests do.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod properties;
mod shared;
