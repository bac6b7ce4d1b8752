//! The shared cases as WebAssembly, in Node.js: 32-bit `usize` and what Envoy runs.
#![cfg(target_arch = "wasm32")]
// Helpers of tests may fail by panicking, as tests do.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod shared;
