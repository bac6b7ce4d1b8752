//! What is true of the decision on every platform.
//!
//! Two harnesses compile these modules: `native.rs` for the machine that builds, and `wasm.rs`
//! for `wasm32`, where `#[test]` stands for `#[wasm_bindgen_test]`. The property tests use the
//! helpers as well.

mod answers;
mod caller;
mod classes;
mod config;
mod credit;
mod events;
mod fixed;
mod gate;
mod headers;
mod index;
mod load;
mod mesh_cases;
mod rate;
mod record;
mod sharing;
mod switch;
mod totals;
mod wire;

pub(crate) mod golden;
pub(crate) mod help;
pub(crate) mod mesh;
pub(crate) mod service;
