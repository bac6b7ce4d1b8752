//! A proxy-wasm host for tests: what a sidecar does to the filter, without a sidecar.
//!
//! Envoy is the host that counts, and the end-to-end tests run it. But Envoy cannot be told to answer
//! with a status that it never answers with, to lose every compare-and-swap, or to let the clock jump;
//! it does not count what a request costs, and it starts in seconds rather than in microseconds. This host
//! does all of that, serves the built `.wasm` and nothing else, and is exact: the same test makes
//! the same calls in the same order with the same times.
//!
//! It serves the functions of the proxy-wasm ABI 0.2.1 that a filter of ours may use, as Envoy serves
//! them; a call of any other function ends in a trap, and what is not of the ABI is not even linked. Where Envoy would be lenient (a pointer
//! outside the memory, a header that no HTTP codec would write, a gauge below zero) it is strict and
//! ends the call with an error, since each of those is a bug of the filter.
//!
//! | module | what it holds |
//! |---|---|
//! | [`artefact`] | where the built filter is, and how it is compiled |
//! | [`proxy`] | one Envoy process: node, shared data, metrics, logs, faults |
//! | [`vm`] | one VM of one worker thread: plugins (root contexts) and streams |
//! | [`time`] | clocks and ticks |
//! | [`stream`] | a request and its way through the filter |
//! | [`headers`] | header maps and their wire form |
//! | [`faults`] | what the host does wrong on purpose |
//! | [`cost`] | host calls and fuel, and the table that they are checked against |
//! | [`traffic`] | requests and responses as they look inside an Istio mesh |

pub mod artefact;
mod callbacks;
pub mod cost;
pub mod faults;
mod guest;
pub mod headers;
mod imports;
mod metrics;
pub mod proxy;
mod state;
pub mod status;
pub mod stream;
pub mod time;
pub mod traffic;
pub mod vm;

pub use artefact::Filter;
pub use faults::{Fault, Faults};
pub use headers::Headers;
pub use proxy::{LogLine, Proxy};
pub use status::{HostFunction, Status};
pub use stream::{Answer, Outcome, Request, Response, StreamId};
pub use time::Clock;
pub use vm::{PluginId, Vm};

/// Errors of the host and traps of the filter, with their chain of causes.
pub use wasmtime::{Error, Result};
