//! The overflow decision of Spillway.
//!
//! A service has a home cluster with a known capacity and an ordered ladder of clusters ("rungs")
//! that may serve its excess. Three small machines decide, request by request:
//!
//! * the [`gate`] at each endpoint admits at most the endpoint's capacity and bounces the rest;
//! * the [`load`] sums tell callers how large the whole demand is, from the echoes that requests
//!   carry, so that the gate rarely has to bounce;
//! * the [`caller`] sends the fraction home that fits and the rest straight to the next rung.
//!
//! In mode Switch all leaves or nothing does: by a caller's own rate ([`switch`]), or by the rate of
//! the whole service ([`totals`]).
//!
//! The gate makes it right, the echo makes it cheap. `docs/design/0001-decision.md` tells why.
//!
//! Nothing here reads a clock, does I/O or panics: time and randomness are arguments, and what is
//! shared between threads is a value that the caller of this crate exchanges by compare-and-swap
//! (see [`record`]). Times are nanoseconds of one monotonic clock, loads are thousandths, counts
//! are whole requests; arithmetic saturates.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod caller;
pub mod config;
pub mod fixed;
pub mod gate;
pub mod header;
pub mod index;
pub mod load;
pub mod rate;
pub mod record;
pub mod server;
pub mod switch;
pub mod table;
pub mod totals;

/// Times that a request goes to one priority before its Envoy moves to the next: Istio's
/// `retryRemoteLocalities` writes `previous_priorities` with this `update_frequency`.
pub const UPDATE_FREQUENCY: u32 = 2;

/// Retries that a route allows (`attempts` of a VirtualService's `retries`).
pub const ATTEMPTS: u32 = 4;

/// What callers send home above its capacity, in thousandths: without it the measured demand would
/// settle just below the limit. A study of values gave .02 as the knee between utilisation and
/// bounces.
pub const EPS_MILLI: u32 = 20;
