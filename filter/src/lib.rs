//! The proxy-wasm filter: maps Envoy's events to `spillway-core` and back.
//!
//! The same module serves the caller's side and the server's side; its configuration says which.
//! `host` is the only module that calls the host.
#![cfg(target_arch = "wasm32")]
#![deny(unsafe_code)]

mod caller;
#[allow(
    unsafe_code,
    reason = "the ABI: declarations of host functions and buffers they hand over"
)]
mod host;
mod metrics;
mod pairs;
mod request;
mod root;
mod server;
mod shared;

/// The module's start.
#[allow(missing_docs, reason = "the function is made by the macro")]
mod start {
    proxy_wasm::main! {{
        proxy_wasm::set_root_context(|_| Box::new(crate::root::Root::default()));
    }}
}
