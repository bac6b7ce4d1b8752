//! The command as people run it: a process, its words and its status.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod clusters;
mod frame;
mod planned;
mod push;
mod run;
mod simulate;
mod validate;
mod why;
